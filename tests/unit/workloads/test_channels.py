"""What one host is to get of each channel."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.workloads.channels import channel_inputs, has_pipes
from sagewright.workloads.transfer import ChannelInput, PipeInput

FILES = {"AlgorithmSpecification": {"TrainingInputMode": "File"}}


def channel(name: str, **source: str) -> dict[str, Any]:
    given = {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{name}", **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": given}}


def test_only_a_sharded_channel_is_shared_out() -> None:
    whole = channel("whole", S3DataDistributionType="FullyReplicated")
    listed = channel("listed", S3DataType="ManifestFile", S3DataDistributionType="ShardedByS3Key")
    request = {**FILES, "InputDataConfig": [whole, listed]}
    assert channel_inputs(request, host="algo-2", hosts=("algo-1", "algo-2", "algo-3")) == (
        ChannelInput("whole", "s3://b/whole"),
        ChannelInput("listed", "s3://b/listed", manifest=True, shard=1, shards=3),
    )


def test_no_channels_are_none() -> None:
    assert channel_inputs({}, host="algo-1", hosts=("algo-1",)) == ()


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
            {**piped(), **channel("c", S3DataType="AugmentedManifestFile", AttributeNames=["b-ref", "a"])},  # type: ignore[arg-type]
            PipeInput(attributes=("b-ref", "a")),
        ),
    ],
)
def test_how_a_channel_is_streamed(given: dict[str, Any], pipe: PipeInput | None) -> None:
    request = {**FILES, "InputDataConfig": [channel("other"), given]}
    assert [each.pipe for each in channel_inputs(request, host="algo-1", hosts=("algo-1",))] == [None, pipe]
    assert has_pipes(request) == (pipe is not None)


def test_a_channels_own_mode_comes_before_the_jobs() -> None:
    request = {"AlgorithmSpecification": {"TrainingInputMode": "Pipe"}}
    channels = [channel("c"), {**channel("d"), "InputMode": "File"}]
    found = channel_inputs({**request, "InputDataConfig": channels}, host="algo-1", hosts=("algo-1",))
    assert [each.pipe for each in found] == [PipeInput(), None]
