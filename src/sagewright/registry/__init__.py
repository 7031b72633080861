"""The image registry: OCI Distribution 1.1, as docker, podman, skopeo, buildah and containerd speak it.

Owns: the protocol, blobs' bytes. Does not own: rows (`store.registry_rows`), ECR's API (`services`), sockets
(`gateway`).
"""
