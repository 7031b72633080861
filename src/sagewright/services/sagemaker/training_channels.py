"""What the channels of a CreateTrainingJob request must satisfy (contract A.8). Pure checks and look-ups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sagewright.core.context import Ctx
from sagewright.services import s3_uris
from sagewright.services.sagemaker.checks import later
from sagewright.services.service import Request
from sagewright.store import object_rows
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    channels = request.get("InputDataConfig", ())
    names = [channel["ChannelName"] for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise validation(f"InputDataConfig has two channels named '{name}'. Give each channel its own name.")
        if name in {".", ".."}:
            raise validation(f"'{name}' cannot be a channel name: it would not be a folder of its own.")
    _check_pipes(request, channels)
    for channel in channels:
        _check_channel(ctx, tx, request, channel)


def _check_channel(ctx: Ctx, tx: Tx, request: Request, channel: Mapping[str, Any]) -> None:
    name = channel["ChannelName"]
    mode = _mode(request, channel)
    if mode != "Pipe":
        _check_files(name, mode, channel)
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise later(
            f"A data source other than S3 (channel '{name}')", "Put the data into a bucket and give S3DataSource"
        )
    if source.get("HubAccessConfig"):
        raise later(f"HubAccessConfig (channel '{name}')", "Copy the data to a bucket of yours and give its S3Uri")
    _check_source(name, mode, source)
    _check_objects(ctx, tx, request["RoleArn"], source, name)


def _mode(request: Request, channel: Mapping[str, Any]) -> str:
    mode: str = channel.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"])
    return mode


def _check_pipes(request: Request, channels: Sequence[Mapping[str, Any]]) -> None:
    """The pipes of a channel lie beside the other channels, as CHANNEL_0, CHANNEL_1 and so on."""
    piped = [channel["ChannelName"] for channel in channels if _mode(request, channel) == "Pipe"]
    for name in (channel["ChannelName"] for channel in channels):
        stem, _, number = name.rpartition("_")
        if stem in piped and number.isdecimal():
            raise validation(
                f"Channel '{name}' has the name of a pipe of channel '{stem}', whose input mode is Pipe. Rename one."
            )


def _check_files(name: str, mode: str, channel: Mapping[str, Any]) -> None:
    """What only a stream can have."""
    if channel.get("CompressionType", "None") != "None":
        raise validation(
            f"CompressionType {channel['CompressionType']} of channel '{name}' needs Pipe input mode: in {mode} mode "
            "objects are delivered as they are stored. Leave CompressionType out."
        )
    if channel.get("RecordWrapperType", "None") != "None":
        raise validation(f"RecordWrapperType of channel '{name}' needs Pipe input mode. Leave it out.")


def _check_source(name: str, mode: str, source: Mapping[str, Any]) -> None:
    kind = source["S3DataType"]
    if kind not in {"S3Prefix", "ManifestFile", "AugmentedManifestFile"}:
        raise later(f"S3DataType {kind} (channel '{name}')", "Use S3Prefix, ManifestFile or AugmentedManifestFile")
    if kind == "AugmentedManifestFile":
        if mode != "Pipe":
            raise validation(
                f"S3DataType AugmentedManifestFile needs Pipe input mode, and channel '{name}' has {mode}. Set the "
                "channel's InputMode to Pipe, or use S3Prefix or ManifestFile."
            )
        if not source.get("AttributeNames"):
            raise validation(
                f"Channel '{name}' has an augmented manifest and no AttributeNames. Name the attributes to be "
                "streamed, in their order."
            )
    elif source.get("AttributeNames"):
        raise validation(
            f"AttributeNames of channel '{name}' needs S3DataType AugmentedManifestFile, and it is {kind}. Leave them "
            "out."
        )
    if mode == "FastFile" and kind != "S3Prefix":
        raise validation(f"FastFile input mode takes S3Prefix only, and channel '{name}' has {kind}. Use File.")


def _check_objects(ctx: Ctx, tx: Tx, role: str, source: Mapping[str, Any], channel: str) -> None:
    text = source["S3Uri"]
    uri = s3_uris.parse(text, f"inputDataConfig channel {channel}")
    if object_rows.bucket_exists(tx, ctx.account, uri.bucket) and object_rows.any_object(tx, uri.bucket, uri.key):
        return
    raise validation(
        f'No S3 objects found under S3 URL "{text}" given in input data source. Please ensure that the bucket exists '
        f"in the selected region ({ctx.region}), that objects exist under that S3 prefix, and that the role "
        f'"{role}" has "s3:ListBucket" permissions on bucket "{uri.bucket}".'
    )
