"""Blobs in memory, for tests: the contract of `blobs.base` without a disk."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from sagewright.blobs.base import BlobPath, BlobStat
from sagewright.blobs.paths import checked
from sagewright.core.errors import BlobNotFound, InvalidBlobPath


class MemoryBlobs:
    """Safe to use from several threads. Nothing outlives the process."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def open_write(self, path: BlobPath) -> MemoryWriter:
        return MemoryWriter(self, checked(path))

    def open_read(self, path: BlobPath, offset: int = 0) -> BinaryIO:
        if offset < 0:
            raise ValueError(f"offset must not be negative: {offset}")
        file = io.BytesIO(self._content(checked(path)))
        file.seek(offset)
        return file

    def stat(self, path: BlobPath) -> BlobStat:
        return BlobStat(path, len(self._content(checked(path))))

    def list(self, prefix: BlobPath) -> Iterator[BlobStat]:
        folder = f"{checked(prefix)}/"
        with self._lock:
            found = [
                BlobStat(BlobPath(path), len(data)) for path, data in self._blobs.items() if path.startswith(folder)
            ]
        return iter(found)

    def delete(self, path: BlobPath) -> None:
        with self._lock:
            self._blobs.pop(checked(path), None)

    def local_path(self, path: BlobPath) -> Path | None:
        checked(path)
        return None

    def put(self, path: BlobPath, data: bytes) -> None:
        """Make a whole blob visible. A path is a blob or a folder, never both, as in files."""
        with self._lock:
            above = path.split("/")[:-1]
            is_inside = any("/".join(above[: length + 1]) in self._blobs for length in range(len(above)))
            if is_inside or any(other.startswith(f"{path}/") for other in self._blobs):
                raise InvalidBlobPath(f"{path} is inside another blob, or other blobs are inside it")
            self._blobs[path] = data

    def _content(self, path: BlobPath) -> bytes:
        try:
            return self._blobs[path]
        except KeyError:
            raise BlobNotFound(path) from None


class MemoryWriter:
    """One blob being written."""

    def __init__(self, blobs: MemoryBlobs, path: BlobPath) -> None:
        self._blobs = blobs
        self._path = path
        self._data = bytearray()
        self._finished = False

    @property
    def size(self) -> int:
        return len(self._data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._must_be_open()
        self._data += data

    def commit(self) -> None:
        self._must_be_open()
        self._finished = True
        self._blobs.put(self._path, bytes(self._data))

    def cancel(self) -> None:
        self._finished = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    def _must_be_open(self) -> None:
        if self._finished:
            raise ValueError(f"{self._path} was already committed or cancelled")
