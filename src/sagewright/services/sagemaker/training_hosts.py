"""Which hosts a CreateTrainingJob request may ask for, and which of them a channel may go to. Pure.

Source: contract A.5 and A.8; https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_ResourceConfig.html.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sagewright.services.service import Request
from sagewright.wire.faults import ApiFault, validation

MOST: Final = 64  # hosts of one job; all of them run on this machine


def check(config: Mapping[str, Any] | None) -> None:
    """ResourceConfig. Raises ApiFault for the first thing that is wrong."""
    if not config:
        raise validation("Give ResourceConfig with InstanceType and InstanceCount.")
    groups = config.get("InstanceGroups") or ()
    if groups and ("InstanceType" in config or "InstanceCount" in config):
        raise validation(
            "InstanceType or InstanceCount cannot be specified with InstanceGroups. Leave them out of ResourceConfig: "
            "each group has its own."
        )
    if not groups and "InstanceType" not in config:
        raise validation("Give ResourceConfig.InstanceType, for example ml.m5.large.")
    for name, count in Counter(group["InstanceGroupName"] for group in groups).items():
        if count > 1:
            raise validation(f"ResourceConfig has two instance groups named '{name}'. Give each its own name.")
    _check_counts(groups or (config,))


def _check_counts(groups: Sequence[Mapping[str, Any]]) -> None:
    for group in groups:
        if group.get("InstanceCount", 0) < 1:
            where = f" of instance group '{group['InstanceGroupName']}'" if "InstanceGroupName" in group else ""
            raise validation(f"ResourceConfig.InstanceCount{where} must be at least 1.")
    total = sum(group["InstanceCount"] for group in groups)
    if total > MOST:
        kind = groups[0].get("InstanceType", "ml")
        raise ApiFault(
            "ResourceLimitExceeded",
            f"The account-level service limit '{kind} for training job usage' is {MOST} Instances, with current "
            f"utilization of 0 Instances and a request delta of {total} Instances. All run on this machine: ask for "
            "fewer.",
        )


def check_channels(request: Request) -> None:
    """Instance groups are named by all channels or by none, and only those that there are."""
    names = {group["InstanceGroupName"] for group in request["ResourceConfig"].get("InstanceGroups") or ()}
    assigned: dict[str, None] = {}
    free = []
    for channel in request.get("InputDataConfig", ()):
        wanted = channel["DataSource"].get("S3DataSource", {}).get("InstanceGroupNames") or ()
        for each in wanted:
            if each not in names:
                there = ", ".join(sorted(names)) or "none"
                raise validation(
                    f"Channel '{channel['ChannelName']}' names the instance group '{each}', which ResourceConfig does "
                    f"not have (it has: {there}). Mend InstanceGroupNames, or leave it out."
                )
        if not wanted:
            free.append(channel["ChannelName"])
        assigned.update(dict.fromkeys(wanted))
    if assigned and free:
        some, others = ", ".join(assigned), ", ".join(free)
        raise validation(f"Some channels have assigned instance groups: [{some}] while others not: [{others}]")
