"""The bytes of blobs and uploads: one file each, named by the upload's id.

    ROOT/ab/abcd…        grows while it is uploaded, never changes after that

Owns: files, locks between writers, reading in pieces. Does not own: what they mean (rows in `store.registry_blobs`).
An upload's offset is the size of its file, so it survives whatever ends the process.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from sagewright.core.errors import BlobError, BlobStoreFull
from sagewright.registry.threads import in_thread
from sagewright.wire.messages import FileSpan

CHUNK: Final = 1024 * 1024
_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)  # Linux


class Files:
    """Safe to use from any number of threads and processes on one root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def size(self, name: str) -> int:
        """Bytes; 0 for an upload to which nothing was written yet."""
        try:
            return self._path(name).stat().st_size
        except FileNotFoundError:
            return 0

    def exists(self, name: str) -> bool:
        return self._path(name).is_file()

    def append(self, name: str) -> Growing | None:
        """The file, made if need be, for one writer; None while another one has it."""
        path = self._path(name)
        with FullIsSaid(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return None
        return Growing(path, descriptor)

    def open(self, name: str) -> int:
        """A descriptor for reading. Raises FileNotFoundError."""
        return os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)

    def remove(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)

    def last_written(self, name: str) -> float | None:
        """Seconds since 1970; None when there is no such file."""
        with suppress(FileNotFoundError):
            return self._path(name).stat().st_mtime
        return None

    def names(self) -> Iterator[str]:
        for path in self._root.glob("??/*"):
            if _ID.fullmatch(path.name):
                yield path.name

    def _path(self, name: str) -> Path:
        if not _ID.fullmatch(name):
            raise ValueError(f"not the name of a registry file: {name!r}")
        return self._root / name[:2] / name


class Growing:
    """One upload's file, locked. One thread at a time."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def write(self, data: bytes) -> None:
        """All of it or nothing."""
        try:
            with FullIsSaid(self._path), memoryview(data) as rest:
                written = 0
                while written < len(rest):
                    written += os.pwrite(self._descriptor, rest[written:], self.size + written)
        except BaseException:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += written

    def hash(self, algorithm: str) -> hashlib._Hash:
        """Over all that is there, read again."""
        found = hashlib.new(algorithm)
        position = 0
        while chunk := os.pread(self._descriptor, CHUNK, position):
            found.update(chunk)
            position += len(chunk)
        return found

    def make_durable(self) -> None:
        with FullIsSaid(self._path):
            os.fsync(self._descriptor)
            for folder in (self._path.parent, self._path.parent.parent):
                opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                try:
                    os.fsync(opened)
                finally:
                    os.close(opened)

    def close(self) -> None:
        """Also lets the next writer in."""
        os.close(self._descriptor)


class FileBody(AsyncIterator[bytes]):
    """`length` bytes from `offset`, and then the descriptor is closed. Whoever stops earlier calls `aclose`."""

    def __init__(self, descriptor: int, offset: int, length: int) -> None:
        self.span = FileSpan(descriptor, offset, length)
        self._descriptor: int | None = descriptor
        self._position = offset
        self._stop = offset + length

    async def __anext__(self) -> bytes:
        wanted = min(CHUNK, self._stop - self._position)
        if wanted <= 0 or self._descriptor is None:
            await self.aclose()
            raise StopAsyncIteration
        descriptor, position = self._descriptor, self._position
        chunk = _cached(descriptor, wanted, position) or await in_thread(lambda: os.pread(descriptor, wanted, position))
        if not chunk:
            await self.aclose()
            raise BlobError(f"a blob ends at byte {position} of {self._stop}: its file was cut from outside")
        self._position += len(chunk)
        return chunk

    async def aclose(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


class FullIsSaid:
    """Turns a full disk into BlobStoreFull, which says where."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BlobStoreFull(
                f"No space is left on the disk that holds {self._path.parent}: free some and try again."
            ) from error


def _cached(descriptor: int, wanted: int, position: int) -> bytes:
    """What the page cache has of it, without waiting; nothing when that cannot be told."""
    if _NO_WAIT is None:
        return b""
    buffer = bytearray(wanted)
    try:
        count = os.preadv(descriptor, [buffer], position, _NO_WAIT)
    except OSError:
        return b""  # not in the cache, or a file system without this flag: a real error comes again in a thread
    return bytes(buffer) if count == wanted else bytes(memoryview(buffer)[:count])
