"""A training job's channels as one host sees them: the request's words made `ChannelInput`s (contract A.8). Pure.

FastFile is staged as File is. ShuffleConfig says in which order a Pipe is fed; files have no order, so it has no
effect.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sagewright.workloads.hosts import Host, hosts_of, seen_by, sharers
from sagewright.workloads.transfer import ChannelInput, PipeInput


def channel_inputs(request: Mapping[str, Any], host: Host) -> tuple[ChannelInput, ...]:
    """Of the channels that the host gets; one that names instance groups is shared out among their hosts."""
    channels = seen_by(request, host).get("InputDataConfig") or ()
    hosts = hosts_of(request)
    return tuple(
        replace(_channel(each, host, sharers(each, hosts)), pipe=pipe_input(request, each)) for each in channels
    )


def pipe_input(request: Mapping[str, Any], channel: Mapping[str, Any]) -> PipeInput | None:
    """How a channel is streamed; None when it is made of files."""
    if (channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]) != "Pipe":
        return None
    source = channel["DataSource"]["S3DataSource"]
    return PipeInput(
        records=channel.get("RecordWrapperType") == "RecordIO",
        gunzip=channel.get("CompressionType") == "Gzip",
        seed=(channel.get("ShuffleConfig") or {}).get("Seed"),
        attributes=tuple(source["AttributeNames"]) if source["S3DataType"] == "AugmentedManifestFile" else (),
    )


def has_pipes(request: Mapping[str, Any]) -> bool:
    return any(pipe_input(request, each) for each in request.get("InputDataConfig") or ())


def _channel(channel: Mapping[str, Any], host: Host, hosts: Sequence[Host]) -> ChannelInput:
    source = channel["DataSource"]["S3DataSource"]
    made = ChannelInput(channel["ChannelName"], source["S3Uri"], manifest=source["S3DataType"] == "ManifestFile")
    if source.get("S3DataDistributionType") != "ShardedByS3Key":
        return made
    return ChannelInput(made.channel, made.s3_uri, made.manifest, hosts.index(host), len(hosts))
