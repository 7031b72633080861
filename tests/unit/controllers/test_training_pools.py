"""Warm pools: who gets which, what its owner's row says, and when its folder goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagewright.controllers.controller import ForgetTransfers, Seen, StartTransfer, Submit
from sagewright.controllers.training_pools import Claim, WarmPools, ended, looked_at, match
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import to_text
from sagewright.core.ids import ResourceName
from sagewright.store.kinds.training_job import COMPLETED, FAILED, IN_PROGRESS, STOPPED, TrainingStatus
from sagewright.store.resources import Resource
from sagewright.workloads.transfer import StageInputs, TransferPhase
from sagewright.workloads.warm import CACHE, VARIABLE
from suites.training import HOME, T0, WORKLOAD, after, begun, controller, job_key, seen, spec

KEEP = 60


def config(keep: int = KEEP, **more: Any) -> dict[str, Any]:
    return {
        "InstanceType": "ml.m5.large",
        "InstanceCount": 1,
        "VolumeSizeInGB": 1,
        "KeepAlivePeriodInSeconds": keep,
        **more,
    }


def job(name: str, status: TrainingStatus, state: str = IN_PROGRESS, **more: Any) -> Job:
    wanted = spec(name, **{"ResourceConfig": config(), **more})
    return Job.of(Resource(job_key(name), wanted.to_row(), status.to_row(), state, 1, T0, T0, None))


def waiting(name: str = "first", **more: Any) -> Job:
    pool = {"cache": "c.warm", "from": None, "status": "Available", "since": to_text(after(10))}
    return job(name, begun(cleaned=True, pool=pool), COMPLETED, **more)


def new(name: str, **more: Any) -> Job:
    return job(name, TrainingStatus(), **more)


def test_a_matching_job_gets_the_pool_and_nobody_else_does() -> None:
    pools = WarmPools()
    pools.note(waiting())
    assert pools.claim(new("second")) == (job_key("first"), "c.warm")
    assert pools.claim(new("third")) is None
    assert pools.claim(new("second")) == (job_key("first"), "c.warm"), "asking again is the same claim"


@pytest.mark.parametrize(
    "change",
    [
        {"ResourceConfig": config(VolumeSizeInGB=2)},
        {"ResourceConfig": config(InstanceCount=2)},
        {"ResourceConfig": config(InstanceType="ml.m5.xlarge")},
        {"RoleArn": "arn:aws:iam::000000000000:role/Other"},
        {"EnableNetworkIsolation": True},
        {"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}},
        {"EnableManagedSpotTraining": True},
    ],
)
def test_another_configuration_does_not_match(change: dict[str, Any]) -> None:
    pools = WarmPools()
    pools.note(waiting())
    assert pools.claim(new("second", **change)) is None


def test_a_job_without_a_pool_of_its_own_may_take_one() -> None:
    pools = WarmPools()
    pools.note(waiting())
    assert pools.claim(new("second", ResourceConfig=config(keep=0))) is not None
    assert match(new("a", ResourceConfig=config(keep=0))) == match(new("b"))


def test_a_claim_that_comes_to_nothing_is_let_go() -> None:
    pools = WarmPools()
    owner = waiting()
    pools.note(owner)
    pools.claim(new("second"))
    assert pools.asked_for(owner, after(20)) == Claim(ResourceName("second"), taken=False)
    pools.note(job("second", TrainingStatus(), FAILED))
    assert pools.asked_for(owner, after(20)) is None
    assert pools.claim(new("third")) is not None


def test_a_row_that_says_whose_pool_it_took_is_believed_after_a_restart() -> None:
    pools = WarmPools()
    pools.note(job("second", begun(pool={"cache": "c.warm", "from": "first"})))
    owner = waiting()
    pools.note(owner)
    assert pools.asked_for(owner, after(20)) == Claim(ResourceName("second"), taken=True)
    assert pools.claim(new("third")) is None


def test_a_pool_whose_time_is_up_is_given_to_nobody() -> None:
    pools = WarmPools()
    owner = waiting()
    pools.note(owner)
    assert pools.asked_for(owner, after(10 + KEEP)) is None
    assert pools.claim(new("second")) is None


def test_the_owner_s_row_tells_who_took_it() -> None:
    owner = waiting()
    assert looked_at(owner, Claim(ResourceName("second"), taken=False), after(500)) is owner.status
    status = looked_at(owner, Claim(ResourceName("second"), taken=True), after(30))
    assert status.pool is not None
    assert (status.pool["status"], status.pool["reused_by"], status.pool["retained"]) == ("Reused", "second", 20)
    assert status.transitions[-1]["StatusMessage"] == "Resource reused by training job: second"
    assert status.transitions[-1]["EndTime"]


def test_a_pool_that_is_over_is_removed_and_then_settled() -> None:
    line = controller()
    owner = waiting()
    waits = line.decide(owner, Seen(), after(30))
    assert waits.status is None
    assert waits.wake_in is not None
    assert waits.wake_in.total_seconds() == 40
    over = line.decide(owner, Seen(), after(70))
    assert over.status is not None
    gone = Job.of(replace(owner.resource, status=over.status))
    folders = line.watch(gone).folders
    assert HOME / "c.warm" in folders.values()
    removes = line.decide(gone, Seen(folders=tuple(folders)), after(71))
    roots = [each.root for each in removes.actions if isinstance(each, ForgetTransfers)]
    assert HOME / "c.warm" in roots
    settled = line.decide(Job.of(replace(gone.resource, status={**over.status, "cleaned": True})), Seen(), after(72))
    assert settled.wake_in is None


def test_the_cache_of_a_job_that_was_stopped_between_two_attempts_goes_too() -> None:
    line = controller()
    status = replace(begun(workloads=(), attempt=1), pool={"cache": "c.warm", "from": None, "status": "Terminated"})
    gone = job("first", status, STOPPED)
    folders = line.watch(gone).folders
    assert folders == {"c.warm": HOME / "c.warm"}
    removes = line.decide(gone, Seen(folders=tuple(folders)), after(71))
    assert [each.root for each in removes.actions if isinstance(each, ForgetTransfers)] == [HOME / "c.warm"]
    assert line.decide(gone, Seen(), after(72)).status is not None, "and then it is cleaned up"


def test_a_clock_that_was_set_back_does_not_keep_a_pool_until_it_is_there_again() -> None:
    owner = waiting()
    status = looked_at(owner, None, after(-3600))
    assert status.pool is not None
    assert status.pool["since"] == to_text(after(-3600))
    later = Job.of(replace(owner.resource, status=status.to_row()))
    assert (looked_at(later, None, after(KEEP - 3600)).pool or {})["status"] == "Terminated"


@pytest.mark.parametrize(
    ("reason", "keep", "state"),
    [
        (None, KEEP, "Available"),
        ("AlgorithmError: x", KEEP, "Available"),
        ("InternalServerError: x", KEEP, "Terminated"),
        (None, 0, "Terminated"),
    ],
)
def test_what_is_left_of_a_job_that_ended(reason: str | None, keep: int, state: str) -> None:
    status = begun(pool={"cache": "c.warm", "from": None}, failure_reason=reason)
    pool = ended(job("first", status, ResourceConfig=config(keep=keep)), after(5)).pool
    assert pool is not None
    assert pool["status"] == state


def test_the_cache_is_made_and_mounted_for_each_host() -> None:
    line = controller()
    begins = line.decide(new("first"), seen(), after(1))
    assert begins.status is not None
    assert begins.status["pool"] == {"cache": f"{WORKLOAD}.warm", "from": None}
    (stage,) = begins.actions
    assert isinstance(stage, StartTransfer)
    assert isinstance(stage.transfer, StageInputs)
    cache = HOME / f"{WORKLOAD}.warm" / "algo-1"
    assert stage.transfer.beside == (cache,)
    ready = job("first", TrainingStatus.from_row(begins.status))
    (submit,) = line.decide(ready, seen(stage=TransferPhase.DONE), after(2)).actions
    assert isinstance(submit, Submit)
    assert (cache, CACHE) in [(mount.source, mount.target) for mount in submit.workload.mounts]
    assert submit.workload.env[VARIABLE] == CACHE


def test_without_keep_alive_there_is_no_pool() -> None:
    begins = controller().decide(new("first", ResourceConfig=config(keep=0)), seen(), after(1))
    assert begins.status is not None
    assert begins.status["pool"] is None
