"""Which object of a channel becomes which file, on which host (container contract A.8). Pure.

    s3://b/data/iris     data/iris/a.csv → a.csv           the prefix names a folder, with or without its last slash
                         data/iris-2/b.csv → iris-2/b.csv  matches as well: a prefix is a string, not a folder
                         data/iris → iris                  the prefix names one object: its base name
    s3://b/data/         data/x/ (no bytes) → folder x
                         data//y, data/z//y → y, z/y       slashes that follow one another are one, as in every path
    a manifest           the path is the entry, whatever the manifest's prefix is

ShardedByS3Key: objects sorted by key, index modulo the number of hosts. A host may get none.
Every key that cannot be a file of its own is refused by name, with what to change: nothing is skipped silently.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from sagewright.core.errors import TransferError
from sagewright.staging.source import StoredObject

LONGEST_NAME: Final = 255  # bytes of one path segment, on every Linux file system in use
LONGEST_PATH: Final = 4000  # bytes; the kernel's limit is 4096, and the channel's own folder comes before it


@dataclass(slots=True)
class ChannelPlan:
    """All objects lie in `bucket`. `files` maps a path relative to the channel's folder to its object; `folders` are
    all the folders needed, parents before children."""

    bucket: str
    files: dict[str, StoredObject] = field(default_factory=dict)
    folders: dict[str, None] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(each.size for each in self.files.values())


def plan_channel(channel: str, bucket: str, prefix: str, objects: Iterable[StoredObject]) -> ChannelPlan:
    """Raises TransferError for a key that cannot become a file."""
    return plan_files(channel, bucket, ((_relative(each.key, prefix), each) for each in objects))


def sharded(objects: Iterable[StoredObject], shard: int, shards: int) -> Iterator[StoredObject]:
    """What host `shard` of `shards` gets of `objects`, which come sorted by key."""
    return islice(objects, shard, None, shards)


def plan_files(channel: str, bucket: str, found: Iterable[tuple[str, StoredObject]]) -> ChannelPlan:
    """From (path in the channel, object). Raises TransferError for a path that cannot be one."""
    plan = ChannelPlan(bucket)
    for path, each in found:
        where = f"Object s3://{bucket}/{each.key} of channel '{channel}'"
        pieces = _pieces(path, where)
        if pieces and not path.endswith("/"):
            _add_file(plan, pieces, each, where)
        elif each.size:
            raise TransferError(
                f"{where} ends with '/' and has content, so it is neither a folder nor a file. Rename it."
            )
        else:
            _add_folders(plan, pieces, where)
    return plan


def _relative(key: str, prefix: str) -> str:
    """The key without the folder that the prefix names or lies in."""
    if prefix and not prefix.endswith("/") and key.startswith(prefix + "/"):
        return key[len(prefix) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def _pieces(path: str, where: str) -> list[str]:
    pieces = [piece for piece in path.split("/") if piece]
    for piece in pieces:
        if piece in {".", ".."}:
            raise TransferError(f"{where} has the segment '{piece}', which would leave its folder. Rename it.")
        if "\0" in piece or len(piece.encode()) > LONGEST_NAME:
            raise TransferError(f"{where} has a segment that no file can be named. Rename it (at most 255 bytes).")
    if len(path.encode()) > LONGEST_PATH:
        raise TransferError(f"{where} is too long a path for a file. Rename it.")
    return pieces


def _add_file(plan: ChannelPlan, pieces: list[str], each: StoredObject, where: str) -> None:
    path = "/".join(pieces)
    _add_folders(plan, pieces[:-1], where)
    if path in plan.folders:
        raise TransferError(f"{where} is a file where other objects need a folder of that name. Rename one of them.")
    if path in plan.files:
        raise TransferError(f"{where} would be the same file as {plan.files[path].key}. Rename one of them.")
    plan.files[path] = each


def _add_folders(plan: ChannelPlan, pieces: list[str], where: str) -> None:
    path = ""
    for piece in pieces:
        path = f"{path}/{piece}" if path else piece
        if path in plan.folders:
            continue
        if path in plan.files:
            raise TransferError(
                f"{where} needs a folder where the object {plan.files[path].key} is a file. Rename one of them."
            )
        plan.folders[path] = None
