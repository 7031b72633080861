"""Unpacking a model archive into a folder of its own. Pure but for that folder.

An archive comes from anywhere, so nothing in it reaches out of its folder: no absolute name, no `..`, no link that
leads outside, nothing below a link, no device (contract B.2.4). The modes are ours: everybody may read, because a
container runs as any user.
"""

from __future__ import annotations

import copy
import gzip
import posixpath
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, cast

from sagewright.core.errors import TransferError
from sagewright.staging import disk
from sagewright.staging.meter import Meter

_PIECE: Final = 1 << 20  # bytes read at once
_GZIP: Final = b"\x1f\x8b"
_BROKEN: Final = (tarfile.TarError, zlib.error, EOFError, gzip.BadGzipFile)
_AGAIN: Final = "tar -czf model.tar.gz -C MODEL_FOLDER ."


def unpack(content: BinaryIO, uri: str, folder: Path, meter: Meter) -> None:
    """Raises TransferError, which names `uri`, and Cancelled, OSError. The meter counts packed bytes."""
    if content.read(2) != _GZIP:
        raise TransferError(
            f"The model artifact {uri} is not compressed with gzip. Make it with: {_AGAIN} (or give it as "
            "ModelDataSource with CompressionType None)"
        )
    content.seek(0)
    try:
        with gzip.GzipFile(fileobj=cast("BinaryIO", _Counted(content, meter)), mode="rb") as plain:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                _Extraction(tar, folder, uri).run()
            while plain.read(_PIECE):  # to the very end, where the checksum is
                pass
    except _BROKEN as error:
        raise TransferError(
            f"The model artifact {uri} is damaged or is not a gzip tar archive ({error}). Make it again: {_AGAIN}"
        ) from error


class _Extraction:
    """`links` are the symbolic links so far: nothing is ever read or written through one."""

    def __init__(self, tar: tarfile.TarFile, folder: Path, uri: str) -> None:
        self._tar = tar
        self._tar.extraction_filter = lambda member, path: member  # what a filter checks is checked here
        self._folder = folder
        self._uri = uri
        self._links: set[str] = set()

    def run(self) -> None:
        for member in self._tar:
            name = self._checked_name(member)
            if name:
                self._place(member, name)

    def _checked_name(self, member: tarfile.TarInfo) -> str:
        name = _inner(member.name)
        if name is None:
            raise self._unsafe(member, "its name leads out of the archive")
        if self._is_below_link(name):
            raise self._unsafe(member, "it lies below a link")
        if member.issym():
            self._check_symbolic(member, name)
        elif member.islnk():
            self._check_hard(member)
        elif not (member.isreg() or member.isdir()):
            raise self._unsafe(member, "it is neither a file, a folder nor a link")
        return name

    def _check_symbolic(self, member: tarfile.TarInfo, name: str) -> None:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        if target.startswith(("/", "..")):
            raise self._unsafe(member, f"it links to {member.linkname!r}, outside the archive")

    def _check_hard(self, member: tarfile.TarInfo) -> None:
        target = _inner(member.linkname)
        if not target or target in self._links or self._is_below_link(target):
            raise self._unsafe(member, f"it links to {member.linkname!r}, which is no file of the archive")

    def _place(self, member: tarfile.TarInfo, name: str) -> None:
        """What came before under this name gives way, and is never written through."""
        target = self._folder / name
        if not (member.isdir() and target.is_dir() and not target.is_symlink()):
            _clear(target)
        self._links.discard(name)
        for parent in _parents(name):
            if not (self._folder / parent).is_dir():
                disk.make_folder(self._folder / parent, 0o755)
        plain = copy.copy(member)
        plain.name = name
        if member.islnk():
            plain.linkname = _inner(member.linkname) or ""
        self._tar.extract(plain, self._folder, set_attrs=False)
        if member.issym():
            self._links.add(name)
        elif not member.islnk():  # a hard link shares the mode of what it names
            target.chmod(0o755 if member.isdir() or member.mode & 0o100 else 0o644)

    def _is_below_link(self, name: str) -> bool:
        return any(parent in self._links for parent in _parents(name))

    def _unsafe(self, member: tarfile.TarInfo, why: str) -> TransferError:
        return TransferError(
            f"The model artifact {self._uri} holds {member.name!r}, which is not allowed: {why}. Make the archive "
            f"from inside the model folder: {_AGAIN}"
        )


class _Counted:
    """Reads on behalf of gzip; counts what came in, and stops when nobody wants it any more."""

    def __init__(self, content: BinaryIO, meter: Meter) -> None:
        self._content = content
        self._meter = meter

    def read(self, size: int = -1) -> bytes:
        piece = self._content.read(size)
        self._meter.add(len(piece))
        return piece


def _inner(name: str) -> str | None:
    """`./a/b` → `a/b`; the root is empty; None when it leads outside, or tries to."""
    pieces = [piece for piece in name.split("/") if piece not in {"", "."}]
    return None if name.startswith("/") or ".." in pieces or "\0" in name else "/".join(pieces)


def _parents(name: str) -> Iterator[str]:
    """`a/b/c` → `a`, `a/b`."""
    pieces = name.split("/")
    return ("/".join(pieces[:count]) for count in range(1, len(pieces)))


def _clear(target: Path) -> None:
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        disk.remove_tree(target)
