"""Collecting outputs: folders of an ended workload straight into objects (container contract A.9).

    folder of each host ─► merged, sorted ─┬─► tar members ─► gzip ─► object writer ─┬─► published together
                                           └─► CompressionType NONE: every file      ┘

Both folders are packed at the same time; nothing is kept in memory or written twice. What is written is durable, but
nobody's until all of it is: a collection that fails, or is cut off, has changed nothing. Owns: what an archive holds.
Does not own: where it goes (the transfer says so), the compressor (`packing`), when it is done (`transfers`).

Symbolic links are stored as links and never followed out of the folder, so that nothing outside gets into the archive;
sockets, pipes and devices are left out, as they have no content.
"""

from __future__ import annotations

import os
import stat
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from sagewright.core.errors import TransferError
from sagewright.core.ids import Account
from sagewright.core.s3_uris import split_uri
from sagewright.staging.meter import Meter
from sagewright.staging.packing import PIECE, packed
from sagewright.staging.source import ObjectBatch, ObjectStore
from sagewright.workloads.transfer import CollectOutputs

_ARCHIVE_TYPE: Final = "application/x-tar"
_FILE_TYPE: Final = "binary/octet-stream"
_ML: Final = "/opt/ml"
_PLACES: Final = ("/opt/ml/model", "/opt/ml/output/data")
_KINDS: Final = (stat.S_ISREG, stat.S_ISDIR, stat.S_ISLNK)

Members = list[tuple[Path, str]]  # (path, name in the archive), sorted by name


def collect(transfer: CollectOutputs, objects: ObjectStore, meter: Meter) -> tuple[str, ...]:
    """The URIs that were written. Raises TransferError, Cancelled, OSError, BlobStoreFull, StoreError."""
    roots = (transfer.root, *transfer.peers)
    wanted = [(uri, found) for name, uri in transfer.archives.items() if (found := _merged(roots, name))]
    meter.total = sum(_file_size(path) for _, found in wanted for path, _ in found)
    for uri, _ in wanted:
        _check_bucket(uri, transfer.account, objects)
    if not wanted:
        return ()
    batch = objects.batch()
    try:
        with ThreadPoolExecutor(len(wanted), "pack") as packers:
            running = [packers.submit(_store, found, uri, batch, meter) for uri, found in wanted]
        written = tuple(made for each in running if (made := each.result()))
        batch.publish()
        return written
    finally:
        batch.cancel()


def _check_bucket(uri: str, account: Account, objects: ObjectStore) -> None:
    bucket, _ = split_uri(uri)
    if not objects.bucket_exists(bucket, account):
        raise TransferError(f"The bucket '{bucket}' does not exist. Create it first: aws s3 mb s3://{bucket}")


def _merged(roots: tuple[Path, ...], name: str) -> Members:
    """Of every host; where two have the same name, the last one wins, with all that is below it."""
    merged: dict[str, Path] = {}
    for root in roots:
        found = _members(root, name)
        files = {member for path, member in found if path.is_symlink() or not path.is_dir()}
        for hidden in [member for member in merged if any(above in files for above in _above(member))]:
            del merged[hidden]
        for path, member in found:
            merged[member] = path
    return sorted(((path, member) for member, path in merged.items()), key=lambda each: each[1])


def _above(name: str) -> Iterator[str]:
    """`a/b/c` → `a`, `a/b`."""
    pieces = name.split("/")
    return ("/".join(pieces[:count]) for count in range(1, len(pieces)))


def _members(root: Path, name: str) -> Members:
    """Empty when the folder is empty or was removed."""
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
    return list(_walk(str(folder)))


def _walk(folder: str) -> Iterator[tuple[Path, str]]:
    """Everything below, however deep: a program may nest folders further than Python nests calls."""
    waiting = [(folder, "")]
    while waiting:
        folder, prefix = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                mode = entry.stat(follow_symlinks=False).st_mode
                if not any(test(mode) for test in _KINDS):
                    continue
                name = f"{prefix}{entry.name}"
                yield Path(entry.path), name
                if stat.S_ISDIR(mode):
                    waiting.append((entry.path, f"{name}/"))


def _file_size(path: Path) -> int:
    """Of a file; 0 for all else. Where a link leads is nobody's business here: it may not even be allowed to look."""
    found = os.lstat(path)
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _store(members: Members, uri: str, objects: ObjectBatch, meter: Meter) -> str | None:
    if uri.endswith("/"):
        return _store_files(members, uri, objects, meter)
    bucket, key = split_uri(uri)
    with objects.put_stream(bucket, key, _ARCHIVE_TYPE) as writer:
        with (
            packed(writer, meter) as stream,
            tarfile.TarFile(mode="w", fileobj=stream, format=tarfile.PAX_FORMAT, copybufsize=PIECE) as tar,
        ):
            for path, name in members:
                _add(tar, path, name)
        writer.commit()
    return uri


def _store_files(members: Members, uri: str, objects: ObjectBatch, meter: Meter) -> str | None:
    """Objects cannot be links, so a link to a file of the folder becomes that file, and any other is refused by name; a
    folder is there by what is in it."""
    bucket, prefix = split_uri(uri)
    files = [
        (_linked(path, name) if path.is_symlink() else path, name)
        for path, name in members
        if path.is_symlink() or not path.is_dir()
    ]
    for _, name in files:
        if not name.isprintable():  # also where its bytes are not text
            raise TransferError(f"The file name {name!r} cannot be the key of an object. Write it under another name.")
    for path, name in files:
        with (
            open(path, "rb", buffering=0, opener=_no_follow) as content,
            objects.put_stream(bucket, f"{prefix}{name}", _FILE_TYPE) as writer,
        ):
            while piece := content.read(PIECE):
                writer.write(piece)
                meter.add(len(piece))
            writer.commit()
    return uri.rstrip("/") if files else None


def _linked(path: Path, name: str) -> Path:
    """The file that a link leads to, itself no link. An absolute one says where it leads in the container."""
    folder = os.path.realpath(path.parents[name.count("/")])
    leads = str(path.readlink())
    for place in _PLACES:
        if folder.endswith(place.removeprefix(_ML)) and leads.startswith(f"{place}/"):
            path = Path(f"{folder}{leads.removeprefix(place)}")
    target = Path(os.path.realpath(path))
    if target.is_relative_to(folder) and os.path.lexists(target) and stat.S_ISREG(os.lstat(target).st_mode):
        return target
    raise TransferError(
        f"'{name}' is a symbolic link that leads to no file of the folder, which cannot be an object. Write a file in "
        "its place, or set OutputDataConfig.CompressionType to GZIP."
    )


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
