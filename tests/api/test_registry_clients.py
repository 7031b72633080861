"""The image registry as real clients use it: docker against the server's own port, without TLS on loopback."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.registry import Client, make_repository, password
from support.server import Server

IMAGE = "sagewright-test/busybox:1"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("registry") / "data")
    running.start()
    yield running
    running.stop()


class Docker:
    """The command with a configuration of its own, so that logins do not meet the user's."""

    def __init__(self, config: Path, address: str) -> None:
        self.config = config
        self.address = address

    def run(self, *arguments: str, given: str = "", check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "--config", str(self.config), *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def login(self, secret: str, *, check: bool = True) -> str:
        return self.run("login", "--username", "AWS", "--password-stdin", self.address, given=secret, check=check)


@pytest.fixture
def docker(server: Server, tmp_path: Path) -> Docker:
    return Docker(tmp_path / "config", server.url.removeprefix("http://"))


@pytest.mark.docker
def test_docker_logs_in_pushes_and_pulls(server: Server, docker: Docker) -> None:
    make_repository(server.data, "tutorial/busybox")
    name = f"{docker.address}/tutorial/busybox:v1"
    docker.run("tag", IMAGE, name)
    try:
        assert "no basic auth credentials" in docker.run("push", name, check=False)
        assert "401 Unauthorized" in docker.login("guess", check=False)
        assert "Login Succeeded" in docker.login(password(server.data))
        pushed = docker.run("push", name)
        digest = pushed.rpartition("digest: ")[2].split()[0]
        assert "Layer already exists" in docker.run("push", name)
        client = Client(server.url, password(server.data), "tutorial/busybox")
        assert client.call("HEAD", "manifests/v1").headers["docker-content-digest"] == digest
        docker.run("rmi", name)
        assert digest in docker.run("pull", name)
        docker.run("rmi", name)
        by_digest = f"{docker.address}/tutorial/busybox@{digest}"
        docker.run("pull", by_digest)
        assert "it runs" in docker.run("run", "--rm", by_digest, "echo", "it runs")
        docker.run("rmi", by_digest)
    finally:
        docker.run("rmi", name, check=False)


@pytest.mark.docker
def test_docker_is_told_that_the_repository_is_missing(server: Server, docker: Docker) -> None:
    name = f"{docker.address}/nobody-made-this:v1"
    docker.login(password(server.data))
    docker.run("tag", IMAGE, name)
    try:
        refused = docker.run("push", name, check=False)
        assert "The repository with name 'nobody-made-this' does not exist in the registry with id" in refused
    finally:
        docker.run("rmi", name)


@pytest.mark.docker
def test_docker_is_told_that_a_tag_is_immutable(server: Server, docker: Docker, tmp_path: Path) -> None:
    make_repository(server.data, "fixed", imageTagMutability="IMMUTABLE")
    docker.login(password(server.data))
    name = f"{docker.address}/fixed:v1"
    docker.run("tag", IMAGE, name)
    try:
        digest = docker.run("push", name).rpartition("digest: ")[2].split()[0]
        docker.run("build", "-q", "-t", name, "-", given=f"FROM {IMAGE}\nLABEL changed=yes\n")
        assert "cannot be overwritten because the repository is immutable" in docker.run("push", name, check=False)
        docker.run("rmi", f"{docker.address}/fixed@{digest}")
    finally:
        docker.run("rmi", name, check=False)


@pytest.mark.docker
def test_docker_mounts_what_another_repository_has(server: Server, docker: Docker) -> None:
    names = [f"{docker.address}/mount/{each}:v1" for each in ("first", "second")]
    for each in ("mount/first", "mount/second"):
        make_repository(server.data, each)
    docker.login(password(server.data))
    try:
        for name in names:
            docker.run("tag", IMAGE, name)
        docker.run("push", names[0])
        assert "Mounted from mount/first" in docker.run("push", names[1])
        docker.run("rmi", *names)
        docker.run("pull", names[1])
    finally:
        docker.run("rmi", *names, check=False)
