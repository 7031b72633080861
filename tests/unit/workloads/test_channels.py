"""What one host is to get of each channel."""

from __future__ import annotations

from typing import Any

from sagewright.workloads.channels import channel_inputs
from sagewright.workloads.transfer import ChannelInput


def channel(name: str, **source: str) -> dict[str, Any]:
    given = {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{name}", **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": given}}


def test_only_a_sharded_channel_is_shared_out() -> None:
    whole = channel("whole", S3DataDistributionType="FullyReplicated")
    listed = channel("listed", S3DataType="ManifestFile", S3DataDistributionType="ShardedByS3Key")
    request = {"InputDataConfig": [whole, listed]}
    assert channel_inputs(request, host="algo-2", hosts=("algo-1", "algo-2", "algo-3")) == (
        ChannelInput("whole", "s3://b/whole"),
        ChannelInput("listed", "s3://b/listed", manifest=True, shard=1, shards=3),
    )


def test_no_channels_are_none() -> None:
    assert channel_inputs({}, host="algo-1", hosts=("algo-1",)) == ()
