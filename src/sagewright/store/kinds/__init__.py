"""Typed views of rows: which keys a kind's `spec` and `status` have. Shared by operations and controllers."""
