"""Which hosts a job may ask for, and which channels they get: AWS's words where it has some."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.services.sagemaker import training_hosts
from sagewright.wire.faults import ApiFault


def group(name: str, count: int = 1) -> dict[str, Any]:
    return {"InstanceGroupName": name, "InstanceType": "ml.m5.large", "InstanceCount": count}


def channel(name: str, *groups: str) -> dict[str, Any]:
    source = {"S3Uri": "s3://b/x", **({"InstanceGroupNames": list(groups)} if groups else {})}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}}


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "Give ResourceConfig"),
        ({"InstanceCount": 1}, "Give ResourceConfig.InstanceType"),
        ({"InstanceType": "ml.m5.large", "InstanceCount": 0}, "at least 1"),
        ({"InstanceGroups": [group("a", 0)]}, "of instance group 'a' must be at least 1"),
        ({"InstanceGroups": [group("a"), group("a")]}, "two instance groups named 'a'"),
        (
            {"InstanceType": "ml.m5.large", "InstanceGroups": [group("a")]},
            "InstanceType or InstanceCount cannot be specified with InstanceGroups",
        ),
    ],
)
def test_hosts_that_cannot_be_are_refused(config: dict[str, Any] | None, words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        training_hosts.check(config)
    assert words in caught.value.message


def test_too_many_hosts_are_a_limit_as_on_aws() -> None:
    with pytest.raises(ApiFault, match="ResourceLimitExceeded") as caught:
        training_hosts.check({"InstanceType": "ml.m5.large", "InstanceCount": 100})
    assert caught.value.message.startswith("The account-level service limit 'ml.m5.large for training job usage' is 64")


@pytest.mark.parametrize(
    "config",
    [{"InstanceType": "ml.m5.large", "InstanceCount": 64}, {"InstanceGroups": [group("a", 2), group("b")]}],
)
def test_hosts_that_can_be_are_taken(config: dict[str, Any]) -> None:
    training_hosts.check(config)


def test_groups_of_channels_are_all_or_nothing_and_there() -> None:
    request = {"ResourceConfig": {"InstanceGroups": [group("a"), group("b")]}}
    training_hosts.check_channels(request)
    training_hosts.check_channels({**request, "InputDataConfig": [channel("x"), channel("y")]})
    training_hosts.check_channels({**request, "InputDataConfig": [channel("x", "a"), channel("y", "a", "b")]})
    some = {**request, "InputDataConfig": [channel("x", "a"), channel("y"), channel("z")]}
    with pytest.raises(ApiFault) as caught:
        training_hosts.check_channels(some)
    assert caught.value.message == "Some channels have assigned instance groups: [a] while others not: [y, z]"
    unknown = {**request, "InputDataConfig": [channel("x", "c")]}
    with pytest.raises(
        ApiFault, match=r"names the instance group 'c', which ResourceConfig does not have \(it has: a, b"
    ):
        training_hosts.check_channels(unknown)
    plain = {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1}}
    with pytest.raises(ApiFault, match="it has: none"):
        training_hosts.check_channels({**plain, "InputDataConfig": [channel("x", "a")]})
