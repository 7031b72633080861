"""What one host is to get of each channel."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.workloads.channels import channel_inputs, has_pipes
from sagewright.workloads.hosts import hosts_of
from sagewright.workloads.transfer import ChannelInput, PipeInput


def resources(**config: Any) -> dict[str, Any]:
    files = {"TrainingInputMode": "File"}
    return {"AlgorithmSpecification": files, "ResourceConfig": {"VolumeSizeInGB": 1, **config}}


def channel(name: str, **source: Any) -> dict[str, Any]:
    given = {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{name}", **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": given}}


def test_only_a_sharded_channel_is_shared_out() -> None:
    whole = channel("whole", S3DataDistributionType="FullyReplicated")
    listed = channel("listed", S3DataType="ManifestFile", S3DataDistributionType="ShardedByS3Key")
    request = {"InputDataConfig": [whole, listed], **resources(InstanceCount=3, InstanceType="ml.m5.large")}
    assert channel_inputs(request, hosts_of(request)[1]) == (
        ChannelInput("whole", "s3://b/whole"),
        ChannelInput("listed", "s3://b/listed", manifest=True, shard=1, shards=3),
    )


def test_no_channels_are_none() -> None:
    request = resources(InstanceCount=1, InstanceType="ml.m5.large")
    assert channel_inputs(request, hosts_of(request)[0]) == ()


def test_a_channel_of_some_groups_is_shared_out_among_their_hosts_only() -> None:
    groups = [
        {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": count}
        for name, count in (("prepare", 1), ("train", 2))
    ]
    sharded = {"S3DataDistributionType": "ShardedByS3Key", "InstanceGroupNames": ["train"]}
    both = channel("both", InstanceGroupNames=["prepare", "train"])
    request = {"InputDataConfig": [channel("own", **sharded), both], **resources(InstanceGroups=groups)}
    given = [channel_inputs(request, host) for host in hosts_of(request)]
    assert given == [
        (ChannelInput("both", "s3://b/both"),),
        (ChannelInput("own", "s3://b/own", shard=0, shards=2), ChannelInput("both", "s3://b/both")),
        (ChannelInput("own", "s3://b/own", shard=1, shards=2), ChannelInput("both", "s3://b/both")),
    ]


def piped(**more: Any) -> dict[str, Any]:
    return {**channel("c"), "InputMode": "Pipe", **more}


@pytest.mark.parametrize(
    ("given", "pipe"),
    [
        (channel("c"), None),
        (piped(), PipeInput()),
        (piped(RecordWrapperType="RecordIO", CompressionType="Gzip"), PipeInput(records=True, gunzip=True)),
        (piped(RecordWrapperType="None", CompressionType="None", ShuffleConfig={"Seed": 0}), PipeInput(seed=0)),
        (
            {**piped(), **channel("c", S3DataType="AugmentedManifestFile", AttributeNames=["b-ref", "a"])},
            PipeInput(attributes=("b-ref", "a")),
        ),
    ],
)
def test_how_a_channel_is_streamed(given: dict[str, Any], pipe: PipeInput | None) -> None:
    request = {"InputDataConfig": [channel("other"), given], **resources(InstanceCount=1, InstanceType="ml.m5.large")}
    assert [each.pipe for each in channel_inputs(request, hosts_of(request)[0])] == [None, pipe]
    assert has_pipes(request) == (pipe is not None)


def test_a_channels_own_mode_comes_before_the_jobs() -> None:
    request = resources(InstanceCount=1, InstanceType="ml.m5.large")
    request["AlgorithmSpecification"] = {"TrainingInputMode": "Pipe"}
    request["InputDataConfig"] = [channel("c"), {**channel("d"), "InputMode": "File"}]
    assert [each.pipe for each in channel_inputs(request, hosts_of(request)[0])] == [PipeInput(), None]
