"""The hosts of a training job: which there are, what each is, and what each gets to see of the request. Pure.

    ResourceConfig ──► algo-1 … algo-N, each of a group and an instance type
                   ──► the request as one host sees it: channels of its own groups
                   ──► limits of each host, bounded by the one machine that all of them share

Source: contract A.5 and A.8; https://docs.aws.amazon.com/sagemaker/latest/dg/train-heterogeneous-cluster.html.
Groups take the hosts in order: AWS numbers them in no order that a program may rely on.
Owns: these names and shares. Does not own: files and environment (`container`), starting (`controllers`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sagewright.workloads.instances import GIB, OF_MACHINE, Machine, find, instance_resources
from sagewright.workloads.workload import Resources

HOMOGENEOUS: Final = "homogeneousCluster"  # the group of a job that describes none

Request = Mapping[str, Any]  # CreateTrainingJob as decoded


@dataclass(frozen=True, slots=True)
class Host:
    """`name` is `algo-1`, `algo-2` …"""

    name: str
    group: str
    instance_type: str


def hosts_of(request: Request) -> tuple[Host, ...]:
    """All hosts, algo-1 first."""
    config = request["ResourceConfig"]
    groups = config.get("InstanceGroups") or [
        {
            "InstanceGroupName": HOMOGENEOUS,
            "InstanceType": config.get("InstanceType", ""),
            "InstanceCount": config.get("InstanceCount", 1),
        }
    ]
    each = [group for group in groups for _ in range(group["InstanceCount"])]
    return tuple(
        Host(f"algo-{number}", group["InstanceGroupName"], group["InstanceType"])
        for number, group in enumerate(each, start=1)
    )


def seen_by(request: Request, host: Host) -> Request:
    """The request without the channels that only other groups get."""
    channels = request.get("InputDataConfig")
    if not channels:
        return request
    return {**request, "InputDataConfig": [each for each in channels if host in sharers(each, (host,))]}


def sharers(channel: Mapping[str, Any], hosts: Sequence[Host]) -> tuple[Host, ...]:
    """Those that get the channel: all, or those of the groups that it names."""
    source = (channel.get("DataSource") or {}).get("S3DataSource") or {}
    names = source.get("InstanceGroupNames")
    return tuple(each for each in hosts if not names or each.group in names)


def host_resources(hosts: Sequence[Host], machine: Machine, first_gpu: int = 0) -> tuple[Resources, ...]:
    """The limits of each host, in order.

    A job larger than the machine gets the machine: its hosts share the memory in proportion to what their instance
    types have. CPUs are shared by all and only ever limited to what a type has. GPUs are counted off from `first_gpu`
    on, so that no two hosts get the same one; where there are too few, the last hosts' numbers do not exist and the
    backend refuses them.
    """
    alone = [
        instance_resources(each.instance_type, cpus=machine.cpus, memory=machine.memory, gpus=machine.gpus)
        for each in hosts
    ]
    if len(hosts) == 1:
        return (replace(alone[0], first_gpu=first_gpu if alone[0].gpus else 0),)
    return _gpus_counted_off(_memory_shared(alone, machine), hosts, machine, first_gpu)


def _memory_shared(alone: Sequence[Resources], machine: Machine) -> list[Resources]:
    room = int(machine.memory * OF_MACHINE)
    wanted = sum(each.memory or 0 for each in alone)
    if not room or wanted <= room:
        return list(alone)
    shares = [int((each.memory or 0) / wanted * room) for each in alone]
    return [replace(each, memory=share, shared_memory=share // 2) for each, share in zip(alone, shares, strict=True)]


def _gpus_counted_off(
    limits: Sequence[Resources], hosts: Sequence[Host], machine: Machine, first: int
) -> tuple[Resources, ...]:
    asking = sum(1 for each in limits if each.gpus)
    if not asking:
        return tuple(limits)
    fair = max(1, machine.gpus // asking)
    counted: list[Resources] = []
    for each, host in zip(limits, hosts, strict=True):
        known = find(host.instance_type)
        count = min(known.gpus, fair if machine.gpus else known.gpus) if known and each.gpus else 0
        counted.append(replace(each, gpus=count, first_gpu=first if count else 0))
        first += count
    return tuple(counted)


def bounded(hosts: Sequence[Host], machine: Machine) -> str:
    """What the machine gives instead of what the instance types have; empty when nobody gets less. For a status
    message: `2 x ml.m5.24xlarge have 192 vCPUs and 768 GiB together, this machine gives 4 vCPUs and 15.2 GiB`."""
    known = [found for each in hosts if (found := find(each.instance_type))]
    unknown = list(dict.fromkeys(each.instance_type for each in hosts if not find(each.instance_type)))
    if unknown:
        return f"the size of {', '.join(unknown)} is not known here, so this machine is the only limit"
    room = machine.memory * OF_MACHINE / GIB
    vcpus, memory = sum(each.vcpus for each in known), sum(each.memory for each in known)
    less = []
    if vcpus > machine.cpus:
        less.append((f"{vcpus} vCPUs", f"{machine.cpus} vCPUs"))
    if room and memory > room:
        less.append((f"{memory:g} GiB", f"{room:.1f} GiB"))
    gpus = sum(each.gpus for each in known)
    if machine.gpus and gpus > machine.gpus:
        less.append((f"{gpus} accelerators", f"{machine.gpus} accelerators"))
    if not less:
        return ""
    has = " and ".join(asked for asked, _ in less)
    gives = " and ".join(given for _, given in less)
    return f"{named(hosts)} {'has' if len(hosts) == 1 else 'have'} {has}, this machine gives {gives}"


def named(hosts: Sequence[Host]) -> str:
    """`ml.c5.xlarge and 2 x ml.m5.large`."""
    counts: dict[str, int] = {}
    for each in hosts:
        counts[each.instance_type] = counts.get(each.instance_type, 0) + 1
    return " and ".join(f"{count} x {name}" if count > 1 else name for name, count in counts.items())
