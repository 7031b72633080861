"""What a Pipe channel is fed with, recorded beside the job's folder (`staging.feeder` has the form).

    ROOT/../pipes/N    one channel: its units in order, and the objects' bytes, pinned
    ROOT/input/data/CHANNEL_0

Pinned is a hard link where it can be had, so that a channel of any size costs no bytes: an object may be overwritten or
deleted while the job runs, and every epoch sees what was there at its start. Only the feeder opens these links.
Owns: the record, the first pipe. Does not own: which objects a channel has (`channels`), feeding (`feeder`, `feeds`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from sagewright.core.errors import NotFound, TransferError
from sagewright.core.s3_uris import split_uri
from sagewright.staging import disk
from sagewright.staging.channels import listed_objects, nothing_found
from sagewright.staging.meter import Meter
from sagewright.staging.plan import sharded
from sagewright.staging.source import ObjectStore, StoredObject
from sagewright.workloads.manifests import find_objects
from sagewright.workloads.transfer import ChannelInput, PipeInput, StageInputs

RECORD: Final = "pipes"  # beside ROOT
LONGEST_LINE: Final = 16 << 20  # bytes of one line of an augmented manifest
_REFERENCE: Final = "-ref"

Part: TypeAlias = "str | tuple[int, str]"  # a text, or an object: its number and its S3 URI
Unit: TypeAlias = "list[Part]"


def record_pipes(transfer: StageInputs, objects: ObjectStore, data: Path, meter: Meter) -> None:
    """Record what every Pipe channel is fed with, and make its first pipe in `data`. Raises TransferError, OSError,
    Cancelled, StoreError. The record's place must be empty."""
    for number, channel in enumerate(each for each in transfer.channels if each.pipe):
        folder = transfer.root.with_name(RECORD) / str(number)
        disk.make_folder(folder / "objects", 0o700)
        _record(channel, transfer, objects, folder, meter)
        first = data / f"{channel.channel}_0"
        os.mkfifo(first)
        first.chmod(0o644)


def _record(channel: ChannelInput, transfer: StageInputs, objects: ObjectStore, folder: Path, meter: Meter) -> None:
    """With a seed the share is taken anew in every epoch, so that every host records all of it."""
    pipe = channel.pipe
    assert pipe is not None
    reshuffled = pipe.seed is not None
    config = {
        "channel": channel.channel,
        "records": pipe.records,
        "gunzip": pipe.gunzip,
        "seed": pipe.seed,
        "shard": channel.shard if reshuffled else 0,
        "shards": channel.shards if reshuffled else 1,
    }
    (folder / "channel.json").write_text(json.dumps(config))
    pins = _Pins(folder / "objects", objects, meter)
    units = _units(channel, pipe, transfer, objects, pins)
    with open(folder / "entries", "wb") as file:
        for unit in units:
            file.write(json.dumps(unit, separators=(",", ":")).encode() + b"\n")


class _Pins:
    """Objects of one channel, each pinned once, under numbers."""

    def __init__(self, folder: Path, objects: ObjectStore, meter: Meter) -> None:
        self._folder = folder
        self._objects = objects
        self._meter = meter
        self._count = 0

    def pin(self, bucket: str, each: StoredObject) -> int:
        self._meter.check()
        self._meter.total = (self._meter.total or 0) + each.size
        number, self._count = self._count, self._count + 1
        target = self._folder / str(number)
        if each.content_path is None or not self._link(each.content_path, target):
            self._save(bucket, each.key, target)
        return number

    def open(self, number: int) -> BinaryIO:
        return open(self._folder / str(number), "rb")

    def _link(self, content: Path, target: Path) -> bool:
        """False when the object was written anew, or deleted, since it was listed."""
        try:
            disk.link_file(content, str(target), self._meter)
        except FileNotFoundError:
            return False
        return True

    def _save(self, bucket: str, key: str, target: Path) -> None:
        try:
            with self._objects.open(bucket, key) as content:
                disk.save(content, str(target), self._meter)
        except NotFound as error:
            raise TransferError(f"Object s3://{bucket}/{key} was deleted while the job was being started.") from error


def _units(
    channel: ChannelInput, pipe: PipeInput, transfer: StageInputs, objects: ObjectStore, pins: _Pins
) -> Iterator[Unit]:
    if pipe.attributes:
        yield from _of_attributes(channel, pipe, transfer, objects, pins)
        return
    bucket, found = listed_objects(channel, transfer, objects)
    some = False
    for each in _share(channel, pipe, found):
        some = True
        if each.size or not each.key.endswith("/"):  # else it stands for a folder, and holds nothing
            yield [(pins.pin(bucket, each), f"s3://{bucket}/{each.key}")]
    if not some and channel.shards == 1:
        raise nothing_found(channel.s3_uri, bucket, transfer)


def _share(channel: ChannelInput, pipe: PipeInput, units: Iterable[Any]) -> Iterable[Any]:
    return units if pipe.seed is not None else sharded(units, channel.shard, channel.shards)


# -- augmented manifests -----------------------------------------------------


def _of_attributes(
    channel: ChannelInput, pipe: PipeInput, transfer: StageInputs, objects: ObjectStore, pins: _Pins
) -> Iterator[Unit]:
    """One unit per JSON line: the attributes asked for, in the order asked for. The manifest is read twice, so that
    its objects are looked up together; a pinned one stays the same."""
    bucket, key = split_uri(channel.s3_uri)
    manifest = next((each for each in _manifests(bucket, key, transfer, objects)), None)
    if manifest is None:
        raise nothing_found(channel.s3_uri, bucket, transfer)
    number = pins.pin(bucket, manifest)
    with pins.open(number) as file:
        wanted = {uri for line in _lines(channel, pipe, file) for uri in _references(pipe, line)}
    found = _look_up(channel, wanted, transfer, objects)
    numbers: dict[str, int] = {}
    with pins.open(number) as file:
        for line in _share(channel, pipe, _lines(channel, pipe, file)):
            unit: Unit = []
            for name, value in line.items():
                if not name.endswith(_REFERENCE):
                    unit.append(_as_text(value))
                    continue
                if value not in numbers:
                    numbers[value] = pins.pin(split_uri(value)[0], found[value])
                unit.append((numbers[value], value))
            yield unit


def _manifests(bucket: str, key: str, transfer: StageInputs, objects: ObjectStore) -> Iterable[StoredObject]:
    if not objects.bucket_exists(bucket, transfer.account):
        return ()
    return (each for each in objects.list(bucket, key) if each.key == key)


def _lines(channel: ChannelInput, pipe: PipeInput, file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The attributes asked for of each line, in the order asked for."""
    for number, text in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
        if not text.strip():
            continue
        where = f"Line {number} of the augmented manifest {channel.s3_uri} of channel '{channel.channel}'"
        try:
            line = json.loads(text)
        except ValueError as error:
            raise TransferError(f"{where} is not JSON ({error}). Each line has to be one JSON object.") from error
        if not isinstance(line, dict):
            raise TransferError(f"{where} is not a JSON object. Each line has to be one.")
        for name in pipe.attributes:
            if name not in line:
                raise TransferError(f"{where} has no attribute '{name}', which AttributeNames asks for.")
            if name.endswith(_REFERENCE) and not _is_uri(line[name]):
                raise TransferError(f"{where}: attribute '{name}' has to be the S3 URI of an object (s3://BUCKET/KEY).")
        yield {name: line[name] for name in pipe.attributes}


def _is_uri(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("s3://") and all(split_uri(value))


def _references(pipe: PipeInput, line: dict[str, Any]) -> Iterator[str]:
    return (value for name, value in line.items() if name.endswith(_REFERENCE))


def _look_up(
    channel: ChannelInput, wanted: set[str], transfer: StageInputs, objects: ObjectStore
) -> dict[str, StoredObject]:
    """S3 URI → object, for all of them."""
    by_bucket: dict[str, list[str]] = {}
    for uri in wanted:
        bucket, key = split_uri(uri)
        by_bucket.setdefault(bucket, []).append(key)
    found: dict[str, StoredObject] = {}
    for bucket, keys in by_bucket.items():
        there = find_objects(keys, bucket, objects) if objects.bucket_exists(bucket, transfer.account) else {}
        missing = sorted(set(keys) - there.keys())
        if missing:
            raise TransferError(
                f"The augmented manifest {channel.s3_uri} of channel '{channel.channel}' refers to objects that do "
                f"not exist, the first of them s3://{bucket}/{missing[0]}. Upload them, or take their lines out."
            )
        found |= {f"s3://{bucket}/{key}": each for key, each in there.items()}
    return found


def _as_text(value: Any) -> str:
    """A text is itself; anything else is its JSON."""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
