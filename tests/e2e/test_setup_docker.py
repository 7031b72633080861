"""`sagewright setup docker` on this machine's real engine: push, login and pull by AWS's own name, and all undone.

What these tests change in /etc is put back also when one fails, and one run at a time has it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.test_images import BASE, remove_images, sh, train
from e2e.test_images import project as project  # noqa: PLC0414 - a fixture
from e2e.test_images import shell as shell  # noqa: PLC0414 - a fixture
from support.registry import make_repository, password
from support.server import Server, plain_environment, wait_for

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif(os.geteuid() != 0, reason="not root: /etc/hosts and port 443 are root's"),
]
HOSTS, DOCKER = Path("/etc/hosts"), Path("/etc/docker")
HOST = "000000000000.dkr.ecr.us-east-1.amazonaws.com"


def picture() -> dict[str, bytes | None]:
    """Every path that the set-up may touch, with a file's bytes."""
    paths = [HOSTS, *sorted(DOCKER.rglob("*"))] if DOCKER.exists() else [HOSTS]
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@contextmanager
def put_back() -> Iterator[None]:
    """One run at a time; whatever happens, the machine is as it was."""
    with open("/tmp/sagewright-setup-docker.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = picture()
        try:
            yield
        finally:
            for path in sorted(set(picture()) - set(before), reverse=True):
                Path(path).rmdir() if Path(path).is_dir() else Path(path).unlink()
            for path, content in before.items():
                if content is not None and (not Path(path).exists() or Path(path).read_bytes() != content):
                    Path(path).write_bytes(content)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        pytest.skip(f"no Docker engine with {BASE} (scripts/engine, scripts/images)")
    made = Server(tmp_path_factory.mktemp("literal"))
    with put_back():
        made.start("--port", "0", "--gateways", "2")
        yield made
        made.stop()
        remove_images(made)


@pytest.fixture(autouse=True)
def undone(server: Server) -> Iterator[None]:
    before = picture()
    yield
    server.run("setup", "docker", "--undo", check=False)
    assert picture() == before


def doctor(server: Server) -> str:
    return next(
        line for line in server.run("doctor", check=False).stdout.splitlines() if "docker push by AWS's name" in line
    )


@pytest.mark.parametrize("old_login", [False, True])
def test_login_push_pull_and_a_job_by_the_literal_name(
    server: Server, shell: dict[str, str], project: Path, old_login: bool
) -> None:
    before = picture()
    said = server.run("setup", "docker").stdout
    for changed in (str(HOSTS), f"/etc/docker/certs.d/{HOST}/ca.crt", "127.0.0.1 port 443"):
        assert changed in said
    assert "reaches this server" in doctor(server)
    name = f"literal/image{int(old_login)}"
    login = (
        "$(aws ecr get-login --no-include-email)"
        if old_login
        else f"aws ecr get-login-password | docker login --username AWS --password-stdin {HOST}"
    )
    out = sh(
        f"""
        account=$(aws sts get-caller-identity --query Account --output text)
        fullname=$account.dkr.ecr.$(aws configure get region || echo us-east-1).amazonaws.com/{name}:latest
        aws ecr create-repository --repository-name {name} --query repository.repositoryUri --output text
        docker build -q -t {name} {project}
        docker tag {name} "$fullname"
        ! docker push "$fullname" 2>&1
        {login}
        docker push "$fullname"
        docker rmi -f {name} "$fullname"
        docker pull "$fullname"
        docker rmi -f "$fullname"
        """,
        shell,
    )
    assert f"{HOST}/{name}" in out.splitlines()
    assert "no basic auth credentials" in out
    ended = train(server, f"{HOST}/{name}:latest", f"literal-{int(old_login)}")
    assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")
    server.run("setup", "docker", "--undo")
    assert picture() == before
    assert "does not reach this server" in doctor(server)
    assert (
        server.client("ecr")
        .describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
        .startswith("127.0.0.1:")
    )


@pytest.mark.skipif(not shutil.which("skopeo"), reason="skopeo is not installed (scripts/engine)")
def test_skopeo_reads_dockers_certificates_and_so_do_podman_and_buildah(server: Server, tmp_path: Path) -> None:
    server.run("setup", "docker")
    make_repository(server.data, "literal/skopeo")
    archive, there = tmp_path / "image.tar", f"docker://{HOST}/literal/skopeo:v1"
    (tmp_path / "auth.json").write_text("{}")
    login = ["-u", "AWS", "-p", password(server.data), HOST]
    for command in (
        ["docker", "save", "-o", str(archive), BASE],
        ["skopeo", "login", *login],
        ["skopeo", "copy", f"docker-archive:{archive}", there],
        ["skopeo", "inspect", there],
    ):
        env = {**plain_environment(), "REGISTRY_AUTH_FILE": str(tmp_path / "auth.json")}
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=env)
        assert done.returncode == 0, done.stderr


def test_it_survives_restarts_and_doing_it_again_changes_nothing(server: Server, shell: dict[str, str]) -> None:
    server.run("setup", "docker")
    after = picture()
    assert "nothing needs to be changed" in server.run("setup", "docker").stdout
    more = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
    assert "cannot be reached from this machine then" in server.run("setup", "docker", "--name", more).stdout
    assert f"127.0.0.1 {HOST} {more} # sagewright setup docker" in HOSTS.read_text()
    server.run("setup", "docker", "--undo")
    server.run("setup", "docker")
    assert picture() == after
    for pid in (pid for role, pid in server.status()["processes"].items() if role.startswith("gateway")):
        os.kill(pid, 9)
    wait_for(lambda: "reaches this server" in doctor(server), "the gateways are back on port 443")
    server.stop()
    assert "the server is not running" in doctor(server)
    server.start("--gateways", "2")  # at the same port as before
    wait_for(lambda: "reaches this server" in doctor(server), "the new server is on port 443")
    sh(f"aws ecr get-login-password | docker login --username AWS --password-stdin {HOST}", shell)


def test_without_it_docker_fails_as_it_does_and_a_job_finds_the_local_image(
    server: Server, shell: dict[str, str], project: Path
) -> None:
    name = "999999999999.dkr.ecr.eu-west-3.amazonaws.com/never/pushed:v1"
    sh(f"docker build -q -t {name} {project}; ! docker push {name}", shell)
    try:
        ended = train(server, name, "literal-local")
        assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True)


def test_a_dry_run_says_everything_and_changes_nothing(server: Server) -> None:
    before = picture()
    said = server.run("setup", "docker", "--dry-run").stdout
    assert f"127.0.0.1 {HOST} # sagewright setup docker --data {server.data}" in said
    assert picture() == before
    assert "there is nothing to undo" in server.run("setup", "docker", "--undo", "--dry-run").stdout


def test_a_port_that_is_taken_is_said_with_who_has_it(server: Server) -> None:
    before = picture()
    with socket.create_server(("0.0.0.0", 443)):
        refused = server.run("setup", "docker", check=False)
    assert refused.returncode == 1
    assert f"Port 443 is taken by {Path('/proc/self/comm').read_text().strip()} (pid {os.getpid()})" in refused.stderr
    assert picture() == before


def test_what_is_not_ours_is_left_alone_and_said(server: Server) -> None:
    original = HOSTS.read_bytes()
    HOSTS.write_bytes(original + f"10.0.0.7 {HOST}\n".encode())
    try:
        refused = server.run("setup", "docker", check=False)
        assert f"already says where a name is: `10.0.0.7 {HOST}`" in refused.stderr
    finally:
        HOSTS.write_bytes(original)
    theirs = DOCKER / "certs.d" / HOST / "ca.crt"
    theirs.parent.mkdir(parents=True)
    try:
        theirs.write_text("somebody's")
        refused = server.run("setup", "docker", check=False)
        assert f"{theirs} is there already and not ours" in refused.stderr
        assert theirs.read_text() == "somebody's"
    finally:
        shutil.rmtree(DOCKER / "certs.d")


def test_another_servers_set_up_comes_first(server: Server, tmp_path: Path) -> None:
    other = Server(tmp_path / "other")
    other.start()
    try:
        server.run("setup", "docker")
        refused = other.run("setup", "docker", check=False)
        assert f"set up for the server of {server.data} already" in refused.stderr
        server.run("setup", "docker", "--undo")
        other.run("setup", "docker")
    finally:
        other.stop()
        shutil.rmtree(other.data)
    assert str(other.data) in HOSTS.read_text()
    server.run("setup", "docker", "--undo")  # takes away what is left of a server that is no more
    assert str(other.data) not in HOSTS.read_text()


@pytest.mark.skipif(not shutil.which("setpriv"), reason="setpriv (util-linux) is not installed")
def test_who_is_not_root_is_told_the_command(tmp_path: Path) -> None:
    nobody = 65534
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chown(folder, nobody, nobody)
        # The engine's socket is for root's group, which this user is in: only /etc is not his.
        who = ["setpriv", f"--reuid={nobody}", "--clear-groups", "--"]
        command = [sys.executable, "-m", "sagewright", "setup", "docker", "--data", folder]
        done = subprocess.run(
            [*who, *command], capture_output=True, text=True, env={**plain_environment(), "HOME": folder}
        )
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert "only root may change /etc/hosts" in done.stderr
    assert f"setup docker --data {folder}" in done.stderr
