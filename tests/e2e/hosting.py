"""What the hosting tests share: both backends, their images, their containers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from botocore.exceptions import ClientError

from support.deployments import Deployments
from support.server import Server

BACKENDS = [pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]


ON_DOCKER = pytest.mark.parametrize("made", BACKENDS[1:], indirect=True)
"""For what only an engine can meet: a folder image is looked up when the model is made."""


def image_of(request: pytest.FixtureRequest, backend: str, server: Server) -> str:
    if backend == "docker":
        return str(request.getfixturevalue("docker_image"))
    return str(request.getfixturevalue("folder_image")(server))


def prefix_of(request: pytest.FixtureRequest, backend: str) -> str:
    return f"{backend}-{abs(hash(request.node.name)) % 10**8}"


def refusal(call: Callable[[], object]) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value


def is_docker(made: Deployments) -> bool:
    return made.prefix.startswith("docker")


def containers(name: str) -> list[str]:
    """Ids of the running Docker containers of an endpoint."""
    listed = subprocess.run(
        ["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], capture_output=True, text=True, check=True
    ).stdout
    return sorted(line.split()[0] for line in listed.splitlines() if name in line)
