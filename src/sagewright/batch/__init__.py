"""Batch transform: objects in, batches through a container, objects out."""
