"""Workloads as containers of a Docker engine, or of Podman through its Docker socket."""
