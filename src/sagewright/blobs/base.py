"""The blob contract. `tests/suites/blob_suite.py` is the same as tests.

A path is `/`-joined segments (see `blobs.paths`), never absolute, without `.` or `..`.
A writer is a transaction: nothing is visible before `commit`, nothing is left behind after `cancel`, and leaving the
`with` block without a commit cancels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NewType, Protocol, Self

BlobPath = NewType("BlobPath", str)


@dataclass(frozen=True, slots=True)
class BlobStat:
    path: BlobPath
    size: int  # bytes


class BlobWriter(Protocol):
    """One blob being written. Errors: BlobStoreFull when the disk is full."""

    @property
    def size(self) -> int: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def commit(self) -> None:
        """Make it durable (fsync) and visible (rename). The writer is finished."""
        ...

    def cancel(self) -> None:
        """Leave no trace. Safe to call again, and after commit (then it does nothing)."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class BlobStore(Protocol):
    """Synchronous on purpose: callers that must not block run it in a thread."""

    def open_write(self, path: BlobPath) -> BlobWriter: ...

    def open_read(self, path: BlobPath, offset: int = 0) -> BinaryIO:
        """Raises BlobNotFound."""
        ...

    def stat(self, path: BlobPath) -> BlobStat:
        """Raises BlobNotFound."""
        ...

    def list(self, prefix: BlobPath) -> Iterator[BlobStat]:
        """Every blob whose path starts with the folder `prefix`, in no particular order."""
        ...

    def delete(self, path: BlobPath) -> None:
        """Deleting what is not there is success."""
        ...

    def local_path(self, path: BlobPath) -> Path | None:
        """Where the bytes lie on this machine, for zero-copy reads; None when they do not."""
        ...
