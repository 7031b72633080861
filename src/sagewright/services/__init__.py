"""Control-plane operations: plain functions (ctx, tx, request) -> response. They write desired state, never act."""
