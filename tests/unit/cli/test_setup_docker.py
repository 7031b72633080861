"""`setup docker` on folders of the test's own: what is made, what is taken back, and what stands in the way."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sagewright.backends.docker import reaching
from sagewright.backends.docker.engine import Engine
from sagewright.cli import machine_files, port_443, setup_checks, setup_docker
from sagewright.cli.machine_files import Places
from sagewright.core.errors import SettingsError
from sagewright.registry import literal_names
from sagewright.settings import DataDir

HOST = "000000000000.dkr.ecr.us-east-1.amazonaws.com"
HOSTS = b"127.0.0.1 localhost"


class Machine:
    """Its own /etc, an engine without obstacles, no server."""

    def __init__(self, root: Path) -> None:
        self.data = DataDir(root / "data")
        self.data.create()
        self.places = Places(root / "etc" / "hosts", root / "etc" / "docker" / "certs.d")
        self.places.hosts.parent.mkdir()
        self.places.hosts.write_bytes(HOSTS)

    def setup(self, *names: str, undo: bool = False, dry_run: bool = False) -> None:
        setup_docker.setup(self.data.root, names, undo=undo, dry_run=dry_run, places=self.places)

    def etc(self) -> list[str]:
        return sorted(str(path.relative_to(self.places.hosts.parent)) for path in self.places.hosts.parent.rglob("*"))

    def describe(self) -> tuple[bool | None, str, str]:
        return setup_checks.describe(self.data, self.places)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    async def none(_engine: Engine, _names: Sequence[str]) -> str:
        return ""

    monkeypatch.setattr(reaching, "obstacle", none)
    monkeypatch.setattr(port_443, "is_free", lambda: True)
    monkeypatch.setattr(port_443, "answers_as_us", lambda _name, _authority: False)
    return Machine(tmp_path)


def test_done_and_undone(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.setup(dry_run=True)
    assert machine.etc() == ["hosts"]
    machine.setup()
    assert machine.etc() == [
        "docker",
        "docker/certs.d",
        f"docker/certs.d/{HOST}",
        f"docker/certs.d/{HOST}/ca.crt",
        "hosts",
    ]
    assert machine.describe()[:2] == (None, f"set up for {HOST}; the server is not running")
    capsys.readouterr()
    machine.setup()
    assert "nothing needs to be changed" in capsys.readouterr().out
    machine.setup(undo=True)
    assert (machine.etc(), machine.places.hosts.read_bytes()) == (["hosts"], HOSTS)
    assert not machine.data.docker_names.exists()
    assert "does not reach this server" in machine.describe()[1]
    machine.setup(undo=True)


def test_folders_that_were_there_stay(machine: Machine) -> None:
    machine.places.certificates.mkdir(parents=True)
    kept = machine.places.certificates / "registry.example"
    kept.mkdir()
    machine.setup()
    machine.setup("123456789012.dkr.ecr.eu-west-1.amazonaws.com")
    machine.setup(undo=True)
    assert machine.etc() == ["docker", "docker/certs.d", "docker/certs.d/registry.example", "hosts"]


STEPS = ["literal_names.save", "machine_files.write_new", "machine_files.edit"]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_cut_off_at_any_step_it_is_completed_or_taken_back(tmp_path: Path, step: str, after: bool) -> None:
    """The process is gone at that moment: nothing is cleaned up by it."""
    machine = Machine(tmp_path)
    module, name = step.split(".")
    program = f"""
import os
from pathlib import Path
from sagewright.cli import machine_files, port_443, setup_docker
from sagewright.backends.docker import reaching
from sagewright.registry import literal_names
async def none(*_): return ""
reaching.obstacle, port_443.is_free, port_443.answers_as_us = none, lambda: True, lambda *_: False
real = {module}.{name}
def die(*arguments):
    if {after}: real(*arguments)
    os._exit(9)
{module}.{name} = die
places = machine_files.Places(Path({str(machine.places.hosts)!r}), Path({str(machine.places.certificates)!r}))
setup_docker.setup(Path({str(machine.data.root)!r}), [], undo=False, dry_run=False, places=places)
"""
    for following in ("undo", "again"):
        assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 9
        if following == "again":
            monkeypatched = program.replace("    os._exit(9)\n", "").replace(f"if {after}", "if True")
            done = subprocess.run([sys.executable, "-c", monkeypatched], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            assert setup_checks.standing(machine.data, machine.places).lacks(machine.places) == ""
        machine.setup(undo=True)
        assert (machine.etc(), machine.places.hosts.read_bytes()) == (["hosts"], HOSTS)


def test_what_fails_on_the_way_takes_everything_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_files, "write_new", full)
    with pytest.raises(OSError, match="No space"):
        machine.setup()
    assert (machine.etc(), machine.data.docker_names.exists()) == (["hosts"], False)


def test_half_of_it_is_said(machine: Machine) -> None:
    machine.setup()
    machine.places.certificate(HOST).unlink()
    assert machine.describe()[:2] == (
        False,
        f"half set up: {machine.places.certificate(HOST)} is missing or not this server's",
    )
    shutil.rmtree(machine.places.certificates.parent)
    machine.setup()
    machine.setup(undo=True)
    assert (machine.etc(), machine.places.hosts.read_bytes()) == (["hosts"], HOSTS)
    machine.setup()
    machine.places.hosts.write_bytes(HOSTS)
    assert (
        machine.describe()[1] == f"half set up: its line in {machine.places.hosts} is missing or names something else"
    )
    machine.data.docker_names.unlink()
    machine.setup()
    machine.setup(undo=True)
    assert machine.places.hosts.read_bytes() == HOSTS


def test_a_copied_data_directory_answers_to_nothing(machine: Machine, tmp_path: Path) -> None:
    machine.setup()
    copy = DataDir(tmp_path / "copy")
    copy.create()
    copy.docker_names.write_bytes(machine.data.docker_names.read_bytes())
    assert literal_names.load(machine.data).names == (HOST,)
    assert literal_names.load(copy).names == ()
    machine.data.docker_names.write_text("[]")
    with pytest.raises(ValueError, match="run `sagewright setup docker` again"):
        literal_names.load(machine.data)


@pytest.mark.parametrize("name", ["registry.example", "1.dkr.ecr.us-east-1.amazonaws.com", f"{HOST}/x", "a b"])
def test_only_ecr_names(machine: Machine, name: str) -> None:
    with pytest.raises(SettingsError, match="is not a registry's name of ECR's form"):
        machine.setup(name)


LOCAL: dict[str, Any] = {"OperatingSystem": "Debian GNU/Linux 12", "SecurityOptions": ["name=seccomp,profile=default"]}


@pytest.mark.parametrize(
    ("info", "words"),
    [
        (LOCAL, ""),
        ({**LOCAL, "OperatingSystem": "Docker Desktop"}, "in a virtual machine of its own"),
        ({**LOCAL, "Name": "colima"}, "in a virtual machine of its own"),
        ({**LOCAL, "SecurityOptions": ["name=rootless"]}, "This Docker is rootless"),
        ({**LOCAL, "HttpsProxy": "http://proxy:3128"}, "goes through the proxy http://proxy:3128"),
        ({**LOCAL, "HttpsProxy": "http://proxy:3128", "NoProxy": "localhost,.amazonaws.com"}, ""),
        ({**LOCAL, "HttpsProxy": "http://proxy:3128", "NoProxy": "*"}, ""),
        ({**LOCAL, "HttpsProxy": "http://proxy:3128", "NoProxy": "east-1.amazonaws.com"}, "goes through the proxy"),
    ],
)
def test_engines_that_would_not_come_here(info: dict[str, Any], words: str) -> None:
    found = reaching.obstacle_of(info, [HOST])
    assert words in found
    assert bool(words) == bool(found)


def test_who_may_listen_on_443() -> None:
    assert port_443.may_bind(os.getpid()) == (os.geteuid() == 0)
    assert port_443.may_bind(2**22 + 1)  # cannot be told
