"""Staging: inputs into a workload's folder before it runs, outputs back into the object store after it ended."""
