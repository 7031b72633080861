"""Blobs as plain files under one folder.

    open_write ──► ROOT/.partial/NAME ──write──► commit: fsync, rename, fsync of the folder ──► ROOT/PATH
                            └── cancel, or the process dies: removed, at the latest by the next start

Owns: durability, visibility, what is left after a crash. Does not own: paths (`blobs.paths`).
A reader keeps its file, so deleting or overwriting a blob does not disturb it.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final, Self

from sagewright.blobs.base import BlobPath, BlobStat
from sagewright.blobs.full import full_is_said
from sagewright.blobs.paths import checked
from sagewright.core.errors import BlobNotFound, InvalidBlobPath

_PARTIAL: Final = ".partial"
_FOREIGN_LIFE: Final = 3600.0
"""Seconds after its last byte when a partial file of a process that we cannot see (in another container, or before
the machine was restarted) is given up."""
_ATTEMPTS: Final = 100
"""Times that a folder may be taken away by a delete between making it and moving a blob into it."""


class FileBlobs:
    """Safe to use from any number of threads and processes on one `root`, which is made if it is missing."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._partial = root / _PARTIAL
        self._numbers = itertools.count()
        self._writer_name = _process_name(os.getpid())
        with full_is_said(root):
            self._partial.mkdir(parents=True, exist_ok=True)
        _sweep(self._partial)

    def open_write(self, path: BlobPath) -> FileWriter:
        final = self._file(path)
        partial = self._partial / f"{self._writer_name}-{next(self._numbers)}"
        with full_is_said(final):
            return FileWriter(self._root, partial, final)

    def open_read(self, path: BlobPath, offset: int = 0) -> BinaryIO:
        if offset < 0:
            raise ValueError(f"offset must not be negative: {offset}")
        try:
            file = open(self._file(path), "rb")  # noqa: SIM115 - the caller closes it
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise BlobNotFound(path) from None
        file.seek(offset)
        return file

    def stat(self, path: BlobPath) -> BlobStat:
        file = self._file(path)
        try:
            found = file.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFound(path) from None
        if not file.is_file():
            raise BlobNotFound(path)
        return BlobStat(path, found.st_size)

    def list(self, prefix: BlobPath) -> Iterator[BlobStat]:
        folder = self._file(prefix)
        return (BlobStat(BlobPath(f"{prefix}/{name}"), size) for name, size in _walk(folder))

    def delete(self, path: BlobPath) -> None:
        file = self._file(path)
        with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
            file.unlink()
            self._remove_empty_folders(file)

    def local_path(self, path: BlobPath) -> Path | None:
        return self._file(path)

    def _file(self, path: BlobPath) -> Path:
        return self._root / checked(path)

    def _remove_empty_folders(self, file: Path) -> None:
        with suppress(OSError):  # stops at the first that is not empty
            for folder in file.relative_to(self._root).parents[:-1]:
                (self._root / folder).rmdir()


class FileWriter:
    """One blob being written. One thread at a time."""

    def __init__(self, root: Path, partial: Path, final: Path) -> None:
        self._root = root
        self._partial = partial
        self._final = final
        self._size = 0
        self._descriptor: int | None = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        descriptor = self._must_be_open()
        with memoryview(data).cast("B") as rest, full_is_said(self._final):
            written = 0
            while written < len(rest):
                written += os.write(descriptor, rest[written:])
        self._size += written

    def commit(self) -> None:
        descriptor = self._must_be_open()
        try:
            with full_is_said(self._final):
                os.fsync(descriptor)
                self._publish()
        except BaseException:
            self.cancel()
            raise
        self._close()

    def cancel(self) -> None:
        if self._descriptor is not None:
            self._close()
            self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()

    def _publish(self) -> None:
        folder = self._final.parent
        try:
            for attempt in itertools.count():
                _make_folder(self._root, folder)
                try:
                    self._partial.rename(self._final)
                    break
                except FileNotFoundError:  # whoever deleted the last blob in the folder took the folder away
                    if attempt == _ATTEMPTS:
                        raise
        except (NotADirectoryError, IsADirectoryError, FileExistsError):
            name = self._final.relative_to(self._root)
            raise InvalidBlobPath(f"{name} is inside another blob, or other blobs are inside it") from None
        _sync_folder(folder)

    def _close(self) -> None:
        descriptor, self._descriptor = self._must_be_open(), None
        os.close(descriptor)

    def _must_be_open(self) -> int:
        if self._descriptor is None:
            raise ValueError(f"{self._final} was already committed or cancelled")
        return self._descriptor


def _make_folder(root: Path, folder: Path) -> None:
    """Make `folder` below `root`, durably: each new folder is synced into the one above it."""
    if folder == root or folder.is_dir():
        return
    _make_folder(root, folder.parent)
    try:
        folder.mkdir()
        _sync_folder(folder.parent)
    except FileExistsError:
        if folder.is_file():
            raise
    except FileNotFoundError:  # the one above was just taken away: the caller comes again
        pass


def _sync_folder(folder: Path) -> None:
    with suppress(FileNotFoundError):  # taken away again after a delete: then there is nothing to keep
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _walk(folder: Path, above: str = "") -> Iterator[tuple[str, int]]:
    """(path below `folder`, size) of every file. What disappears meanwhile is left out."""
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{above}{entry.name}/")
            continue
        with suppress(FileNotFoundError):
            yield f"{above}{entry.name}", entry.stat(follow_symlinks=False).st_size


def _sweep(partial: Path) -> None:
    """Remove what dead processes left. A name says who wrote it, so a live process's file is never touched."""
    here = _process_name(os.getpid()).partition("-")[0]
    with os.scandir(partial) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if not _may_be_alive(entry, here):
                    Path(entry.path).unlink()


def _may_be_alive(partial: os.DirEntry[str], here: str) -> bool:
    place, _, process = partial.name.partition("-")
    if place != here:
        return time.time() - partial.stat().st_mtime < _FOREIGN_LIFE
    try:
        return partial.name.startswith(f"{_process_name(int(process.partition('-')[0]))}-")
    except (OSError, ValueError):
        return False  # no such process, or not a name of ours


def _process_name(pid: int) -> str:
    """`PLACE-PID-START`: one process among all that ever share a disk. A place is one boot of one PID namespace;
    START is in clock ticks since then. Raises OSError when there is no such process."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    namespace = Path("/proc/self/ns/pid").stat().st_ino
    start = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    return f"{boot}.{namespace}-{pid}-{start}"
