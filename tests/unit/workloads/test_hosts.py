"""The hosts of a job: their names, groups, and shares of one machine."""

from __future__ import annotations

from typing import Any

from sagewright.workloads.hosts import Host, bounded, host_resources, hosts_of
from sagewright.workloads.instances import GIB, Machine


def request(**config: Any) -> dict[str, Any]:
    return {"ResourceConfig": config}


def plain(count: int, instance: str = "ml.m5.large") -> tuple[Host, ...]:
    return hosts_of(request(InstanceType=instance, InstanceCount=count))


def group(name: str, instance: str, count: int) -> dict[str, Any]:
    return {"InstanceGroupName": name, "InstanceType": instance, "InstanceCount": count}


def test_hosts_are_numbered_through_all_groups() -> None:
    assert plain(2) == (
        Host("algo-1", "homogeneousCluster", "ml.m5.large"),
        Host("algo-2", "homogeneousCluster", "ml.m5.large"),
    )
    groups = [group("a", "ml.c5.xlarge", 1), group("b", "ml.m5.large", 2)]
    assert [(each.name, each.group, each.instance_type) for each in hosts_of(request(InstanceGroups=groups))] == [
        ("algo-1", "a", "ml.c5.xlarge"),
        ("algo-2", "b", "ml.m5.large"),
        ("algo-3", "b", "ml.m5.large"),
    ]


def test_a_job_that_fits_has_what_its_types_have() -> None:
    limits = host_resources(plain(2), Machine(cpus=8, memory=32 * GIB))
    assert [each.memory for each in limits] == [8 * GIB, 8 * GIB]
    assert [each.cpus for each in limits] == [2.0, 2.0]


def test_a_job_larger_than_the_machine_shares_it_in_proportion() -> None:
    groups = [group("a", "ml.m5.4xlarge", 1), group("b", "ml.m5.xlarge", 2)]
    machine = Machine(cpus=4, memory=40 * GIB)
    large, *small = host_resources(hosts_of(request(InstanceGroups=groups)), machine)
    assert large.memory is not None
    assert small[0].memory is not None
    assert large.memory + 2 * small[0].memory <= int(machine.memory * 0.95)
    assert large.memory > 2 * small[0].memory
    assert large.shared_memory == large.memory // 2


def test_gpus_are_counted_off_and_where_there_are_too_few_numbers_do_not_exist() -> None:
    hosts = plain(2, "ml.g5.12xlarge")  # 4 each
    four = host_resources(hosts, Machine(cpus=8, memory=0, gpus=4))
    assert [(each.gpus, each.first_gpu) for each in four] == [(2, 0), (2, 2)]
    later = host_resources(hosts, Machine(cpus=8, memory=0, gpus=4), 2)
    assert [each.first_gpu for each in later] == [2, 4]
    assert host_resources(hosts[:1], Machine(cpus=8, memory=0, gpus=8), 3)[0].first_gpu == 3
    one = host_resources(hosts, Machine(cpus=8, memory=0, gpus=1))
    assert one[1].first_gpu + one[1].gpus > 1
    none = host_resources(hosts, Machine(cpus=8, memory=0))
    assert [each.gpus for each in none] == [4, 4]


def test_what_the_machine_gives_less_of_is_said() -> None:
    machine = Machine(cpus=4, memory=16 * GIB)
    assert bounded(plain(1), machine) == ""
    assert bounded(plain(1, "ml.m5.24xlarge"), machine) == (
        "ml.m5.24xlarge has 96 vCPUs and 384 GiB, this machine gives 4 vCPUs and 15.2 GiB"
    )
    assert bounded(plain(2), machine) == "2 x ml.m5.large have 16 GiB, this machine gives 15.2 GiB"
    assert "ml.x9.huge is not known" in bounded(plain(1, "ml.x9.huge"), machine)
