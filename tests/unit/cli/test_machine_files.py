"""The edits in /etc: only our own marked line, taken back to the byte, whole at every moment."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.cli import machine_files
from sagewright.cli.machine_files import edit, other_lines, our_lines, owner_of, with_line, without_line

NAME, OTHER = "000000000000.dkr.ecr.us-east-1.amazonaws.com", "123456789012.dkr.ecr.eu-west-1.amazonaws.com"
DATA = Path("/home/ana maria/data #1")
LINES = st.lists(
    st.sampled_from([b"127.0.0.1 localhost", b"", b"# a comment", b"10.0.0.1\tweb web.local\r", b"\xff\xfe"])
)


@given(LINES, st.booleans())
def test_any_file_comes_back_to_the_byte(lines: list[bytes], ends: bool) -> None:
    content = b"\n".join(lines) + (b"\n" if ends else b"")
    once = with_line(content, DATA, [NAME])
    assert [(each.data, each.names) for each in our_lines(once)] == [(DATA, (NAME,))]
    assert with_line(once, DATA, [NAME]) == once
    both = with_line(once, DATA, [NAME, OTHER])
    assert our_lines(both)[0].names == (NAME, OTHER)
    assert without_line(both, DATA) == content


@given(LINES)
def test_another_data_directorys_line_is_not_touched(lines: list[bytes]) -> None:
    content = with_line(b"\n".join(lines), Path("/other"), [OTHER])
    assert without_line(with_line(content, DATA, [NAME]), DATA) == content
    assert without_line(content, DATA) == content


def test_lines_that_are_not_ours_but_name_the_same_host() -> None:
    content = with_line(f"10.0.0.1 web {NAME} # mine\n# {NAME}\n10.0.0.2 x{NAME}\n".encode(), DATA, [NAME])
    assert other_lines(content, [NAME]) == [f"10.0.0.1 web {NAME} # mine"]


def test_owner_mode_and_links_of_the_file_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "hosts"
    real.write_bytes(b"a\n")
    real.chmod(0o640)
    link.symlink_to(real)
    edit(link, lambda content: content + b"b\n")
    assert link.is_symlink()
    assert (real.read_bytes(), stat.S_IMODE(real.stat().st_mode)) == (b"a\nb\n", 0o640)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hosts", "real"]


def test_an_edit_that_fails_leaves_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hosts"
    path.write_bytes(b"a\n")

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(machine_files.shutil, "copystat", fail)
    with pytest.raises(OSError, match="No space left"):
        edit(path, lambda content: content + b"b\n")
    assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"a\n"]


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("unshare"), reason="mounting a file needs root and unshare")
def test_a_file_that_is_a_mount_of_its_own_is_written_in_place(tmp_path: Path) -> None:
    """As /etc/hosts is inside a container."""
    path, source = tmp_path / "hosts", tmp_path / "source"
    path.touch()
    source.write_bytes(b"a\nb\n")
    program = (
        "import sys; from pathlib import Path; from sagewright.cli.machine_files import *\n"
        f"path, data = Path({str(path)!r}), Path('/data')\n"
        f"edit(path, lambda content: with_line(content, data, [{NAME!r}]))\n"
        "sys.stdout.buffer.write(path.read_bytes())\n"
        "edit(path, lambda content: without_line(content, data))\n"
    )
    script = f'mount --bind {source} {path} && {sys.executable} -c "$PROGRAM"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], capture_output=True, env={**os.environ, "PROGRAM": program}
    )
    assert done.returncode == 0, done.stderr
    assert NAME.encode() in done.stdout
    assert source.read_bytes() == b"a\nb\n"


def test_a_certificate_says_whose_it_is(tmp_path: Path) -> None:
    path = tmp_path / "ca.crt"
    machine_files.write_new(path, machine_files.certificate(DATA, "-----BEGIN CERTIFICATE-----\n"))
    assert owner_of(path) == DATA
    path.write_text("-----BEGIN CERTIFICATE-----\n")
    assert owner_of(path) is None
