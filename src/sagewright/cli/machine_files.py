"""The two places outside the data directory that `setup docker` edits: a line in /etc/hosts, certificates for docker.

    127.0.0.1 NAME NAME # sagewright setup docker --data DATA          in /etc/hosts
    /etc/docker/certs.d/NAME/ca.crt                                    begins with the same mark

Owns: these edits: only what carries our mark is changed or removed, each file is replaced at once, and taking the edit
back leaves the bytes as they were. Does not own: when they are made (`setup_docker`).
podman, skopeo and buildah read docker's folder too, so that it serves them all.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sagewright.core.errors import SettingsError

ADDRESS: Final = "127.0.0.1"
_MARK: Final = "# sagewright setup docker --data "
_LINE: Final = re.compile(rb"127\.0\.0\.1 (?P<names>[^#\n]*) # sagewright setup docker --data (?P<data>[^\n]+)")


@dataclass(frozen=True, slots=True)
class Places:
    """Where the files are; another root in tests."""

    hosts: Path = Path("/etc/hosts")
    certificates: Path = Path("/etc/docker/certs.d")

    def certificate(self, name: str) -> Path:
        return self.certificates / name / "ca.crt"


@dataclass(frozen=True, slots=True)
class HostsLine:
    data: Path
    names: tuple[str, ...]


def hosts_line(data: Path, names: Sequence[str]) -> str:
    """Raises SettingsError for a data directory that a line cannot hold."""
    if "\n" in str(data):
        raise SettingsError("the data directory's name has a line break, which /etc/hosts cannot hold")
    return f"{ADDRESS} {' '.join(names)} {_MARK}{data}"


def our_lines(content: bytes) -> list[HostsLine]:
    """Every line of /etc/hosts that a data directory of this machine has set up."""
    found = (_LINE.fullmatch(line) for line in content.split(b"\n"))
    return [HostsLine(Path(os.fsdecode(each["data"])), tuple(each["names"].decode().split())) for each in found if each]


def other_lines(content: bytes, names: Sequence[str]) -> list[str]:
    """Lines not of ours that say where one of `names` is."""
    lines = (line for line in content.split(b"\n") if not _LINE.fullmatch(line))
    wanted = {name.encode() for name in names}
    return [os.fsdecode(line) for line in lines if wanted.intersection(line.partition(b"#")[0].split()[1:])]


def with_line(content: bytes, data: Path, names: Sequence[str]) -> bytes:
    """With our line for `data`: in its place when there is one already, else at the end."""
    new = os.fsencode(hosts_line(data, names))
    lines = content.split(b"\n")
    for number, line in enumerate(lines):
        if _is_of(line, data):
            return b"\n".join([*lines[:number], new, *lines[number + 1 :]])
    # A file without a last line break gets none: so its bytes come back when the line goes.
    return content + new + b"\n" if not content or content.endswith(b"\n") else content + b"\n" + new


def without_line(content: bytes, data: Path) -> bytes:
    """The inverse of `with_line`."""
    lines = content.split(b"\n")
    return b"\n".join(line for line in lines if not _is_of(line, data))


def certificate(data: Path, pem: str) -> bytes:
    """What stands before the certificate is skipped by whoever reads it."""
    return os.fsencode(f"{_MARK}{data}\n{pem}")


def owner_of(path: Path) -> Path | None:
    """The data directory whose certificate this is; None when it is not one of ours. Raises FileNotFoundError."""
    first = path.read_bytes().partition(b"\n")[0]
    mark = _MARK.encode()
    return Path(os.fsdecode(first.removeprefix(mark))) if first.startswith(mark) else None


def edit(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the file by what `change` makes of it, keeping its owner, mode and attributes; one editor at a time."""
    target = path.resolve()
    with _alone(target.parent):
        _temporary(target).unlink(missing_ok=True)  # of an edit that was cut off
        before = target.read_bytes()
        after = change(before)
        if after != before:
            _replace(target, after)


def write_new(path: Path, content: bytes) -> None:
    """Whole or not at all."""
    temporary = _temporary(path)
    _write(temporary, content)
    temporary.chmod(0o644)
    temporary.replace(path)


def remove_certificate(path: Path, data: Path) -> None:
    """Unless it is not that of `data`."""
    if path.exists() and owner_of(path) == data:
        path.unlink()
    _temporary(path).unlink(missing_ok=True)


def missing_folders(folder: Path) -> list[Path]:
    """Those of `folder` and its parents that are not there, outermost first."""
    return [each for each in reversed((folder, *folder.parents)) if not each.is_dir()]


def remove_empty(folder: Path) -> None:
    """Unless there is something in it, or it is gone."""
    with contextlib.suppress(OSError):
        folder.rmdir()


def _is_of(line: bytes, data: Path) -> bool:
    found = _LINE.fullmatch(line)
    return found is not None and found["data"] == os.fsencode(data)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.sagewright")


def _replace(target: Path, content: bytes) -> None:
    temporary = _temporary(target)
    _write(temporary, content)
    try:
        shutil.copystat(target, temporary)
        owner = target.stat()
        os.chown(temporary, owner.st_uid, owner.st_gid)
        os.utime(temporary)  # whoever keeps the file in memory looks at its time
        temporary.replace(target)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        _overwrite(target, content)  # the file is a mount of its own, as in a container
    finally:
        temporary.unlink(missing_ok=True)


def _overwrite(target: Path, content: bytes) -> None:
    """In one call; what would be left of a longer old text is blank lines until it is cut off."""
    with target.open("r+b") as file:
        length = target.stat().st_size
        os.pwrite(file.fileno(), content + b"\n" * (length - len(content)), 0)
        file.truncate(len(content))
        os.fsync(file.fileno())


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
