"""Which objects a channel has: those under a key prefix, or those that a manifest lists; of them, one host's share.

    s3://b/list.json: [{"prefix": "s3://b/data/"}, "a.csv", "deep/b.csv"]  →  a.csv, deep/b.csv

Owns: reading a manifest, saying what is missing. Does not own: paths and shares (`plan`), bytes on disk (`stage`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, Final

from sagewright.core.errors import NotFound, TransferError
from sagewright.staging.plan import ChannelPlan, plan_channel, plan_files, sharded
from sagewright.staging.source import ObjectStore, StoredObject, split_uri
from sagewright.workloads.transfer import ChannelInput, Mirror, StageInputs

LARGEST_MANIFEST: Final = 256 << 20  # bytes; it is read as a whole
_FORM: Final = '[{"prefix": "s3://BUCKET/FOLDER/"}, "FILE", "FILE", …]'


def plan_input(channel: ChannelInput, transfer: StageInputs, objects: ObjectStore) -> ChannelPlan:
    """Raises TransferError: no objects, a broken manifest, an object that it lists and that is not there."""
    bucket, key = split_uri(channel.s3_uri)
    known = objects.bucket_exists(bucket, transfer.account)
    if channel.manifest:
        if not known:
            raise nothing_found(channel.s3_uri, bucket, transfer)
        return _plan_manifest(channel, transfer, objects)
    found = list(objects.list(bucket, key)) if known else []
    if not found:
        raise nothing_found(channel.s3_uri, bucket, transfer)
    return plan_channel(channel.channel, bucket, key, sharded(found, channel.shard, channel.shards))


def listed_objects(
    channel: ChannelInput, transfer: StageInputs, objects: ObjectStore
) -> tuple[str, Iterable[StoredObject]]:
    """The bucket, and all the channel's objects in it: by key, or as its manifest lists them. Raises TransferError."""
    bucket, key = split_uri(channel.s3_uri)
    if not objects.bucket_exists(bucket, transfer.account):
        raise nothing_found(channel.s3_uri, bucket, transfer)
    if not channel.manifest:
        return bucket, objects.list(bucket, key)
    bucket, wanted, found = _listed(channel, transfer, objects)
    return bucket, (found[each] for each in wanted)


def plan_restore(mirror: Mirror, objects: ObjectStore) -> ChannelPlan:
    """What is in S3 of a folder that is mirrored; nothing is no error. Raises TransferError for a key that cannot be a
    file, NotFound when there is no bucket."""
    bucket, prefix = split_uri(mirror.s3_uri)
    folder = f"{prefix}/" if prefix else ""
    return plan_channel(mirror.folder, bucket, folder, objects.list(bucket, folder))


def _plan_manifest(channel: ChannelInput, transfer: StageInputs, objects: ObjectStore) -> ChannelPlan:
    bucket, wanted, found = _listed(channel, transfer, objects)
    mine = sharded((found[key] for key in sorted(found, key=os.fsencode)), channel.shard, channel.shards)
    return plan_files(channel.channel, bucket, ((wanted[each.key], each) for each in mine))


def _listed(
    channel: ChannelInput, transfer: StageInputs, objects: ObjectStore
) -> tuple[str, dict[str, str], dict[str, StoredObject]]:
    """The bucket; key → entry, in the manifest's order; key → object."""
    prefix, names = _read_manifest(channel, objects)
    bucket, folder = split_uri(prefix)
    if not bucket or not objects.bucket_exists(bucket, transfer.account):
        raise nothing_found(prefix, bucket, transfer)
    wanted = {f"{folder}{name}": name for name in names}
    found = found_objects(wanted, bucket, objects)
    missing = [key for key in wanted if key not in found]
    if missing:
        raise TransferError(
            f"The manifest {channel.s3_uri} of channel '{channel.channel}' lists {len(missing)} objects that do not "
            f"exist, the first of them s3://{bucket}/{missing[0]}. Upload them, or take them out of the manifest."
        )
    return bucket, wanted, found


def found_objects(wanted: Iterable[str], bucket: str, objects: ObjectStore) -> dict[str, StoredObject]:
    """One listing of what all of them begin with, however many they are."""
    keys = frozenset(wanted)
    pairs = zip(min(keys), max(keys), strict=False)
    common = "".join(one for one, other in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return {each.key: each for each in objects.list(bucket, common) if each.key in keys}


def _read_manifest(channel: ChannelInput, objects: ObjectStore) -> tuple[str, list[str]]:
    bucket, key = split_uri(channel.s3_uri)
    where = f"The manifest {channel.s3_uri} of channel '{channel.channel}'"
    try:
        with objects.open(bucket, key) as content:
            text = content.read(LARGEST_MANIFEST + 1)
    except NotFound:
        raise TransferError(f"{where} does not exist. Give the S3Uri of the manifest object itself.") from None
    if len(text) > LARGEST_MANIFEST:
        raise TransferError(f"{where} is larger than {LARGEST_MANIFEST >> 20} MiB. Split it into several channels.")
    try:
        listed: Any = json.loads(text)
    except ValueError as error:
        raise TransferError(f"{where} is not JSON ({error}). It has to be {_FORM}") from error
    head = listed[0] if isinstance(listed, list) and listed else None
    prefix = head.get("prefix") if isinstance(head, dict) else None
    if not isinstance(prefix, str) or not prefix.startswith("s3://"):
        raise TransferError(f"{where} does not begin with a prefix. It has to be {_FORM}")
    names = listed[1:]
    for name in names:
        if not isinstance(name, str) or not name:
            raise TransferError(f"{where} has the entry {json.dumps(name)}, which is no text. It has to be {_FORM}")
    if not names:
        raise TransferError(f"{where} lists no objects. It has to be {_FORM}")
    return prefix, names


def nothing_found(uri: str, bucket: str, transfer: StageInputs) -> TransferError:
    """AWS's sentence (contract A.8)."""
    return TransferError(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the '
        f"bucket exists in the selected region ({transfer.region}), that objects exist under that S3 prefix, and "
        f'that the role has "s3:ListBucket" permissions on bucket "{bucket}".'
    )
