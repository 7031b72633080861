"""The registry as podman, buildah, skopeo and containerd use it; each has a protocol stack or habits of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.registry import Client, make_repository, password
from support.server import Server

pytestmark = pytest.mark.docker
IMAGE = "sagewright-test/busybox:1"
CONTAINERD = Path("/var/run/docker/containerd/containerd.sock"), Path("/run/containerd/containerd.sock")
SPACE = "sagewright-tests"  # containerd's namespace


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(tmp_path_factory.mktemp("registry") / "data")
    running.start()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("archive") / "image.tar"
    if subprocess.run(["docker", "save", "-o", str(path), IMAGE], capture_output=True).returncode:
        pytest.skip(f"no Docker engine with {IMAGE} (scripts/engine, scripts/images)")
    return path


class Tools:
    """podman, buildah and skopeo with storage, configuration and logins of their own."""

    def __init__(self, server: Server, folder: Path, name: str) -> None:
        make_repository(server.data, name)
        self.there = f"{server.url.removeprefix('http://')}/{name}"
        self.registry = Client(server.url, password(server.data), name)
        (folder / "storage.conf").write_text(
            f'[storage]\ndriver = "vfs"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
        )
        (folder / "containers.conf").write_text(
            '[containers]\ndefault_ulimits = ["nofile=20000:20000", "nproc=30000:30000"]\n[engine]\nruntime = "runc"\n'
        )
        (folder / "auth.json").write_text("{}")
        self.env = {
            **os.environ,
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
            "REGISTRY_AUTH_FILE": str(folder / "auth.json"),
        }

    def run(self, *command: str, check: bool = True) -> str:
        if not shutil.which(command[0]):
            pytest.skip(f"{command[0]} is not installed (scripts/engine)")
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=self.env)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout if check else done.stdout + done.stderr

    def login(self, tool: str) -> None:
        host = self.there.partition("/")[0]
        said = self.run(tool, "login", "--tls-verify=false", "-u", "AWS", "-p", self.registry.password, host)
        assert "Login Succeeded" in said

    def digest(self, tag: str) -> str:
        return self.registry.call("HEAD", f"manifests/{tag}").headers["docker-content-digest"]


@pytest.fixture
def tools(server: Server, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tools]:
    made = Tools(server, tmp_path, request.node.originalname.replace("_", "-").removeprefix("test-"))
    yield made
    if shutil.which("podman") and (tmp_path / "graph").exists():
        made.run("podman", "rmi", "--all", "--force", check=False)


def test_podman(tools: Tools, archive: Path) -> None:
    tools.run("podman", "load", "-q", "-i", str(archive))
    local, there = f"localhost/{IMAGE}", f"{tools.there}:v1"
    assert "unauthorized" in tools.run("podman", "push", "--tls-verify=false", local, there, check=False).lower()
    tools.login("podman")
    tools.run("podman", "push", "-q", "--tls-verify=false", local, there)
    tools.run("podman", "push", "-q", "--tls-verify=false", "--format", "oci", local, f"{tools.there}:oci")
    tools.run("podman", "rmi", "--all", "--force")
    for reference in (there, f"{tools.there}@{tools.digest('oci')}"):
        tools.run("podman", "pull", "-q", "--tls-verify=false", reference)
        assert tools.run("podman", "run", "--rm", "--network", "none", reference, "echo", "it runs") == "it runs\n"
        tools.run("podman", "rmi", "--force", reference)


def test_buildah(tools: Tools, archive: Path) -> None:
    tools.login("buildah")
    made = tools.run("buildah", "from", f"docker-archive:{archive}").strip()
    tools.run("buildah", "config", "--label", "made.by=buildah", made)
    tools.run("buildah", "commit", "-q", made, "made")
    tools.run("buildah", "push", "-q", "--tls-verify=false", "made", f"docker://{tools.there}:v1")
    tools.run("buildah", "manifest", "create", "many")
    tools.run("buildah", "manifest", "add", "--tls-verify=false", "many", f"docker://{tools.there}:v1")
    tools.run("buildah", "manifest", "push", "--tls-verify=false", "--all", "many", f"docker://{tools.there}:many")
    index = tools.registry.call("GET", "manifests/many").json()
    listed = [each["digest"] for each in index["manifests"]]
    assert [tools.registry.call("HEAD", f"manifests/{digest}").status_code for digest in listed] == [200]
    tools.run("buildah", "rm", "--all")
    tools.run("buildah", "rmi", "--all", "--force")
    again = tools.run("buildah", "from", "--tls-verify=false", f"{tools.there}:many").strip()
    assert "made.by" in tools.run("buildah", "inspect", again)
    tools.run("buildah", "rm", "--all")


def test_skopeo(tools: Tools, archive: Path, tmp_path: Path) -> None:
    tools.login("skopeo")
    there = f"docker://{tools.there}:v1"
    tools.run("skopeo", "copy", "--dest-tls-verify=false", f"docker-archive:{archive}", there)
    tools.run("skopeo", "copy", "--src-tls-verify=false", "--preserve-digests", there, f"dir:{tmp_path}/kept")
    tools.run("skopeo", "copy", "--dest-tls-verify=false", f"dir:{tmp_path}/kept", f"docker://{tools.there}:v2")
    assert tools.digest("v2") == tools.digest("v1")
    assert json.loads(tools.run("skopeo", "list-tags", "--tls-verify=false", f"docker://{tools.there}"))["Tags"] == [
        "v1",
        "v2",
    ]
    assert json.loads(tools.run("skopeo", "inspect", "--tls-verify=false", there))["Digest"] == tools.digest("v1")
    tools.run("skopeo", "delete", "--tls-verify=false", f"docker://{tools.there}:v1")
    assert tools.registry.call("HEAD", "manifests/v1").status_code == 404


def test_containerd(tools: Tools, archive: Path) -> None:
    address = next((path for path in CONTAINERD if os.access(path, os.W_OK)), None)
    if address is None:
        pytest.skip("no containerd that this user may use")
    login = ["--plain-http", "--user", f"AWS:{tools.registry.password}"]
    names = [f"{tools.there}:v1", f"{tools.there}:v2"]

    def ctr(*arguments: str, check: bool = True) -> str:
        return tools.run("ctr", "--address", str(address), "--namespace", SPACE, *arguments, check=check)

    try:
        ctr("images", "import", "--base-name", "unused", str(archive))
        ctr("images", "tag", f"docker.io/{IMAGE}", names[0])
        assert "401" in ctr("images", "push", "--plain-http", names[0], check=False)
        ctr("images", "push", *login, names[0])
        ctr("images", "rm", "--sync", names[0], f"docker.io/{IMAGE}")
        ctr("images", "pull", *login, names[0])
        ctr("images", "tag", names[0], names[1])
        ctr("images", "push", *login, names[1])
        assert tools.digest("v1") == tools.digest("v2")
    finally:
        ctr("images", "rm", "--sync", *names, f"docker.io/{IMAGE}", check=False)
        ctr("namespaces", "rm", SPACE, check=False)
