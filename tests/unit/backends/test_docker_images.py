"""Image names, credentials, pull progress, and the words for what went wrong."""

from __future__ import annotations

import base64
import json
import os
import socket
from pathlib import Path

import pytest

from sagewright.backends.docker import place
from sagewright.backends.docker.images import Progress, _failure, credentials_for, registry_of
from sagewright.core.errors import BackendUnavailable


@pytest.mark.parametrize(
    ("name", "registry"),
    [
        ("busybox", "docker.io"),
        ("team/image:1", "docker.io"),
        ("localhost/image", "localhost"),
        ("127.0.0.1:5000/image", "127.0.0.1:5000"),
        ("000000000000.dkr.ecr.us-east-1.amazonaws.com/a/b", "000000000000.dkr.ecr.us-east-1.amazonaws.com"),
    ],
)
def test_the_registry_of_a_name_is_what_docker_takes_it_for(name: str, registry: str) -> None:
    assert registry_of(name) == registry


def test_credentials_are_found_under_the_names_docker_login_writes(tmp_path: Path) -> None:
    auth = base64.b64encode(b"me:pa:ss").decode()
    config = tmp_path / "config.json"
    auths = {
        "https://index.docker.io/v1/": {"auth": auth},
        "https://a.example": {"identitytoken": "t"},
        "b.example": {},
    }
    config.write_text(json.dumps({"auths": auths}))
    assert credentials_for(config, "docker.io") == {
        "username": "me",
        "password": "pa:ss",
        "serveraddress": "docker.io",
    }
    assert credentials_for(config, "a.example") == {"identitytoken": "t"}
    assert credentials_for(config, "b.example") is None
    assert credentials_for(tmp_path / "none.json", "docker.io") is None


def test_progress_is_the_sum_over_layers() -> None:
    progress = Progress("image:1")
    mib = 1 << 20
    assert progress.after({"status": "Pulling fs layer", "id": "a"}) == "pulling image image:1"
    detail = {"current": 5 * mib, "total": 20 * mib}
    assert progress.after({"status": "Downloading", "id": "a", "progressDetail": detail}).endswith("5 of 20 MiB")
    detail = {"current": 1 * mib, "total": 10 * mib}
    assert progress.after({"status": "Downloading", "id": "b", "progressDetail": detail}).endswith("6 of 30 MiB")
    assert progress.after({"status": "Pull complete", "id": "a"}).endswith("21 of 30 MiB")
    assert progress.after({"status": "Status: done"}).endswith("21 of 30 MiB")


class TestPlace:
    def test_a_socket_that_is_not_there_is_said_so(self, tmp_path: Path) -> None:
        assert "no engine socket" in place.problem(f"unix://{tmp_path}/none.sock")

    def test_a_socket_that_nobody_listens_on_is_said_so(self, tmp_path: Path) -> None:
        path = tmp_path / "dead.sock"
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
        assert "Nothing listens" in place.problem(f"unix://{path}")

    def test_a_socket_that_may_not_be_used_says_which_group_to_join(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "engine.sock"
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(path))
            monkeypatch.setattr(os, "access", lambda *_: False)  # root may do anything
            assert "usermod -aG docker" in place.problem(f"unix://{path}")

    def test_without_any_engine_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(place, "candidates", list)
        monkeypatch.setenv("PATH", "/nowhere")
        assert not place.installed()
        with pytest.raises(BackendUnavailable, match="Install Docker"):
            place.find(None)

    def test_the_first_usable_socket_is_taken(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        paths = [tmp_path / "none.sock", tmp_path / "there.sock", tmp_path / "answers.sock"]
        monkeypatch.setattr(place, "candidates", lambda: paths)
        with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as listening:
            bound.bind(str(paths[1]))
            assert place.find(None) == f"unix://{paths[1]}"
            listening.bind(str(paths[2]))
            listening.listen()
            assert place.find(None) == f"unix://{paths[2]}"
        assert place.find("tcp://far:2375") == "tcp://far:2375"


def test_an_image_of_ecr_is_to_be_pushed_here() -> None:
    name = "111122223333.dkr.ecr.us-east-1.amazonaws.com/team/model:v2"
    told = _failure(name, "dial tcp: lookup 111122223333.dkr.ecr.us-east-1.amazonaws.com: no such host")
    assert "`docker build -t team/model:v2 .` and `sagewright push team/model:v2`" in told
    assert "DATA/images.json" in told
