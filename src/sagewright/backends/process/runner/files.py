"""Small file operations of the runner: whole-or-not-at-all writes, and copying a folder cheaply."""

from __future__ import annotations

import errno
import fcntl
import json
import os

_FICLONE = 0x40049409
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def write_json(path: str, value: object) -> None:
    """Replace `path` by `value`, readable by its owner only; a reader sees the old or the new, never a part."""
    write_text(path, json.dumps(value))


def write_text(path: str, text: str) -> None:
    aside = f"{path}.{os.getpid()}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(aside, path)


class ReservedFile:
    """A small JSON file whose room on the disk is taken beforehand: a full disk cannot lose what it will say."""

    SIZE = 4096

    def __init__(self, path: str) -> None:
        self._path = path
        self._aside = f"{path}.reserved"
        self._descriptor = os.open(self._aside, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.posix_fallocate(self._descriptor, 0, self.SIZE)
        except OSError as error:
            if error.errno in _NO_ROOM:
                raise
            os.write(self._descriptor, b" " * self.SIZE)  # a file system that cannot reserve

    def commit(self, value: object) -> bool:
        """Write and make visible. False: the disk is full after all, try again later."""
        content = json.dumps(value).encode().ljust(self.SIZE)  # spaces: JSON does not mind them
        try:
            os.pwrite(self._descriptor, content, 0)
            os.fsync(self._descriptor)
            os.rename(self._aside, self._path)
        except OSError as error:
            if error.errno in _NO_ROOM:
                return False
            raise
        return True


def copy_tree(source: str, target: str) -> None:
    """Copy a folder with its modes, made writable for its owner. Symbolic links stay links; blocks are shared if the
    file system can."""
    os.mkdir(target, 0o755)
    with os.scandir(source) as entries:
        for entry in entries:
            to = f"{target}/{entry.name}"
            if entry.is_symlink():
                os.symlink(os.readlink(entry.path), to)
            elif entry.is_dir():
                copy_tree(entry.path, to)
            elif entry.is_file():
                _copy_file(entry.path, to)
    os.chmod(target, os.stat(source).st_mode & 0o7777 | 0o700)


def _copy_file(source: str, target: str) -> None:
    with open(source, "rb") as reading, open(target, "wb") as writing:
        facts = os.fstat(reading.fileno())
        try:
            fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
        except OSError:
            remaining = facts.st_size
            while remaining and (sent := os.sendfile(writing.fileno(), reading.fileno(), None, remaining)):
                remaining -= sent
        os.fchmod(writing.fileno(), facts.st_mode & 0o7777 | 0o600)
