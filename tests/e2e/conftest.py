"""End to end: real clients, a real server, real containers and processes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.hosting import BACKENDS, image_of, prefix_of
from support.deployments import Deployments
from support.server import Server, plain_environment

PROGRAM = Path(__file__).parent / "program"
SCRIPTS = Path(__file__).parent / "scripts"
BOTO3_IMAGE = "sagewright-test/program-boto3:1"
# Of the content: another checkout on this machine may build another program meanwhile.
DOCKER_IMAGE = "sagewright-test/program:" + hashlib.sha256((PROGRAM / "main.py").read_bytes()).hexdigest()[:12]


@pytest.fixture(scope="session")
def docker_image() -> str:
    """The test program as a Docker image, built by the docker command as a user would."""
    return build(DOCKER_IMAGE, "sagewright-test/python:3.11")


@pytest.fixture(scope="session")
def boto3_image() -> str:
    """The same, with boto3 inside."""
    return build(BOTO3_IMAGE, "sagewright-test/sklearn:1")


def build(name: str, base: str, folder: Path = PROGRAM) -> str:
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True).returncode:
        pytest.skip(f"no Docker engine with {base} (scripts/engine, scripts/images)")
    built = subprocess.run(
        ["docker", "build", "-q", "-t", name, "--build-arg", f"BASE={base}", str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert built.returncode == 0, built.stderr
    return name


@pytest.fixture
def folder_image() -> Callable[[Server], str]:
    """Registers the test program as a folder image with a server."""

    def register(server: Server) -> str:
        server.run("image", "add", str(PROGRAM), "--name", "program", "--entrypoint", "python main.py")
        return "program"

    return register


@pytest.fixture(params=BACKENDS)
def made(request: pytest.FixtureRequest, server: Server) -> Iterator[Deployments]:
    deployments = Deployments(server, image_of(request, request.param, server), prefix_of(request, request.param))
    yield deployments
    deployments.close()


@pytest.fixture(params=BACKENDS)
def own(request: pytest.FixtureRequest, own_server: Server) -> Iterator[Deployments]:
    """On a server of its own, to be killed."""
    image = image_of(request, request.param, own_server)
    own_server.start()
    deployments = Deployments(own_server, image, prefix_of(request, request.param))
    yield deployments
    deployments.close()


def sdk_python(name: str) -> Path:
    """The interpreter of one client generation (scripts/sdk-venvs), or a skip that says how to get it."""
    cache = Path(os.environ.get("SAGEWRIGHT_TEST_CACHE", Path.home() / ".cache" / "sagewright-tests"))
    python = cache / f"venv-{name}" / "bin" / "python"
    if not python.exists():
        pytest.skip(f"no {python} (scripts/sdk-venvs {name})")
    return python


def run_script(python: Path, script: str, *arguments: str, env: dict[str, str]) -> tuple[str, dict[str, Any]]:
    """Everything that the script printed, and its last line as JSON. Versions 1 and 2 of the SDK wait in a hurry."""
    hurried = [] if "sdk3" in script else [str(SCRIPTS / "hurried.py")]
    done = subprocess.run(
        [str(python), *hurried, str(SCRIPTS / script), *arguments],
        capture_output=True,
        text=True,
        timeout=280,
        env={**plain_environment(), **env},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr, json.loads(done.stdout.strip().splitlines()[-1])
