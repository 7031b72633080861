"""Collecting outputs: archive folders of an ended workload straight into objects (container contract A.9).

    folder ─► tar members, sorted ─► gzip ─► object writer ─► commit

Nothing is kept in memory or written twice. Owns: what an archive holds. Does not own: where it goes (the transfer says
so), when it is done (`transfers`).

Symbolic links are stored as links and never followed, so that nothing outside the folder gets into the archive;
sockets, pipes and devices are left out, as they have no content.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sagewright.core.errors import TransferError
from sagewright.core.ids import Account
from sagewright.staging.meter import Meter
from sagewright.staging.source import ObjectStore, ObjectWriter, split_uri
from sagewright.workloads.transfer import CollectOutputs

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from 3.12 on

LEVEL: Final = 1  # zlib: weights hardly shrink further, and higher levels take many times as long
_GZIP: Final = 31  # zlib's window bits for a gzip header; it carries no time, so equal folders give equal bytes
_PIECE: Final = 1 << 20  # bytes handed to the compressor at once
_CONTENT_TYPE: Final = "application/x-tar"
_KINDS: Final = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)


def collect(transfer: CollectOutputs, objects: ObjectStore, meter: Meter) -> tuple[str, ...]:
    """The URIs that were written. Raises TransferError, Cancelled, OSError, BlobStoreFull, StoreError."""
    members = {name: _members(transfer.root, name) for name in transfer.archives}
    meter.total = sum(os.lstat(path).st_size for found in members.values() for path, _ in found if path.is_file())
    return tuple(
        _archive(members[name], uri, transfer.account, objects, meter)
        for name, uri in transfer.archives.items()
        if members[name]
    )


def _members(root: Path, name: str) -> list[tuple[Path, str]]:
    """(path, name in the archive), sorted by name; empty when the folder is empty or was removed."""
    folder = root
    for piece in name.split("/"):
        folder = folder / piece
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise TransferError(
                f"/opt/ml/{folder.relative_to(root)} was replaced by something that is not a folder. Write into the "
                "folder instead of replacing it."
            )
    if not folder.exists():
        return []
    return sorted(_walk(str(folder), ""), key=lambda member: member[1])


def _walk(folder: str, prefix: str) -> Iterator[tuple[Path, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            mode = entry.stat(follow_symlinks=False).st_mode
            if not any(test(mode) for test in _KINDS):
                continue
            name = f"{prefix}{entry.name}"
            yield Path(entry.path), name
            if stat.S_ISDIR(mode):
                yield from _walk(entry.path, f"{name}/")


def _archive(members: list[tuple[Path, str]], uri: str, account: Account, objects: ObjectStore, meter: Meter) -> str:
    bucket, key = split_uri(uri)
    if not objects.bucket_exists(bucket, account):
        raise TransferError(f"The bucket '{bucket}' does not exist. Create it first: aws s3 mb s3://{bucket}")
    with objects.put_stream(bucket, key, _CONTENT_TYPE) as writer:
        gzip = _GzipWriter(writer, meter)
        with tarfile.TarFile(mode="w", fileobj=gzip, format=tarfile.PAX_FORMAT, copybufsize=_PIECE) as tar:
            for path, name in members:
                _add(tar, path, name)
        gzip.finish()
        writer.commit()
    return uri


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tar.gettarinfo(str(path), name)
    info.uid = info.gid = 0
    info.uname = info.gname = "root"
    if not info.isreg():
        tar.addfile(info)
        return
    with open(path, "rb", buffering=0, opener=_no_follow) as content:
        tar.addfile(info, content)


def _no_follow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


class _GzipWriter(io.BufferedIOBase):
    """What `tarfile` writes into. It reads nothing back and never seeks."""

    def __init__(self, writer: ObjectWriter, meter: Meter) -> None:
        super().__init__()
        self._writer = writer
        self._meter = meter
        self._deflate = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        self._written = 0

    def write(self, data: Buffer) -> int:
        size = len(memoryview(data))
        self._meter.add(size)
        self._written += size
        if packed := self._deflate.compress(data):
            self._writer.write(packed)
        return size

    def tell(self) -> int:
        return self._written

    def finish(self) -> None:
        self._writer.write(self._deflate.flush())
