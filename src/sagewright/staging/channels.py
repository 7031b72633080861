"""Which objects a channel has: those under a key prefix, or those that a manifest lists; of them, one host's share.

    s3://b/list.json: [{"prefix": "s3://b/data/"}, "a.csv", "deep/b.csv"]  →  a.csv, deep/b.csv

Owns: saying that nothing was found. Does not own: manifests (`workloads.manifests`), paths and shares (`plan`), bytes
on disk (`stage`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from sagewright.core.errors import TransferError
from sagewright.core.s3_uris import split_uri
from sagewright.staging.plan import ChannelPlan, plan_channel, plan_files, sharded
from sagewright.staging.source import ObjectStore, StoredObject
from sagewright.workloads.manifests import Manifest, objects_of, read_manifest
from sagewright.workloads.transfer import ChannelInput, Mirror, StageInputs


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
    manifest, found = _listed(channel, transfer, objects)
    return manifest.bucket, (found[each] for each in manifest.names)


def plan_restore(mirror: Mirror, objects: ObjectStore) -> ChannelPlan:
    """What is in S3 of a folder that is mirrored; nothing is no error. Raises TransferError for a key that cannot be a
    file, NotFound when there is no bucket."""
    bucket, prefix = split_uri(mirror.s3_uri)
    folder = f"{prefix}/" if prefix else ""
    return plan_channel(mirror.folder, bucket, folder, objects.list(bucket, folder))


def _plan_manifest(channel: ChannelInput, transfer: StageInputs, objects: ObjectStore) -> ChannelPlan:
    manifest, found = _listed(channel, transfer, objects)
    mine = sharded((found[key] for key in sorted(found, key=os.fsencode)), channel.shard, channel.shards)
    return plan_files(channel.channel, manifest.bucket, ((manifest.names[each.key], each) for each in mine))


def _listed(
    channel: ChannelInput, transfer: StageInputs, objects: ObjectStore
) -> tuple[Manifest, dict[str, StoredObject]]:
    """The manifest; key → object."""
    where = f"The manifest {channel.s3_uri} of channel '{channel.channel}'"
    manifest = read_manifest(channel.s3_uri, where, objects)
    if not manifest.bucket or not objects.bucket_exists(manifest.bucket, transfer.account):
        raise nothing_found(manifest.prefix, manifest.bucket, transfer)
    return manifest, objects_of(manifest, where, objects)


def nothing_found(uri: str, bucket: str, transfer: StageInputs) -> TransferError:
    """AWS's sentence (contract A.8)."""
    return TransferError(
        f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the '
        f"bucket exists in the selected region ({transfer.region}), that objects exist under that S3 prefix, and "
        f'that the role has "s3:ListBucket" permissions on bucket "{bucket}".'
    )
