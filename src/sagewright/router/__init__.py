"""Inference: from an invocation's first byte to the container and back. Invocations never become ASGI."""
