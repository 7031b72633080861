"""The queue of training jobs: order, room, and two hundred jobs at once through the whole reconcile line."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from sagewright.backends.fake.script import End, Run, Say, Script
from sagewright.controllers.controller import Seen
from sagewright.controllers.training_queue import JobQueue
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import to_text
from sagewright.core.ids import BackendName
from sagewright.settings import ControllerSettings
from sagewright.store.db import Database
from sagewright.store.kinds.training_job import TrainingStatus
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.workload import Workload
from suites.reconcile_world import World
from suites.training import DOCKER, T0, after, controller, job_key, row, spec
from suites.virtual_time import run

HAS = Capabilities(DOCKER, available=True, cpus=4, memory=20 << 30)  # 19 GiB of it for jobs


def job(name: str, second: int, instance: str = "ml.m5.large", hosts: int = 1, **status: Any) -> Job:
    wanted = spec(name, ResourceConfig={"InstanceType": instance, "InstanceCount": hosts})
    made = row(wanted, TrainingStatus(**status))
    return Job.of(replace(made, key=job_key(name), created_at=T0 + timedelta(seconds=second)))


def test_as_many_begin_as_the_memory_holds() -> None:
    queue = JobQueue()
    first, second, third = job("a", 1), job("b", 2), job("c", 3)
    assert queue.enter(first, HAS).waits_for == queue.enter(second, HAS).waits_for == ""
    assert queue.enter(third, HAS).waits_for == "ml.m5.large has 8.0 GiB of memory, and 3.0 of 19.0 GiB are free"
    assert queue.waiting() == (third.resource.key,)
    queue.release(first.resource.key)
    assert queue.enter(third, HAS).waits_for == ""


def test_a_small_job_does_not_overtake_a_large_one() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1), HAS).waits_for == ""
    assert "16.0 GiB" in queue.enter(job("large", 2, "ml.m5.xlarge"), HAS).waits_for
    assert queue.enter(job("small", 3, "ml.t3.medium"), HAS).waits_for == "jobs that were created earlier come first"


def test_one_that_waits_keeps_its_place_whoever_is_looked_at_first() -> None:
    queue = JobQueue()
    for each in (job("a", 1, "ml.m5.xlarge"), job("b", 2, "ml.m5.xlarge")):
        queue.note(each)
    assert queue.enter(job("b", 2, "ml.m5.xlarge"), HAS).waits_for == "jobs that were created earlier come first"
    assert queue.enter(job("a", 1, "ml.m5.xlarge"), HAS).waits_for == ""


def test_a_job_larger_than_the_machine_gets_the_machine() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1, "ml.m5.24xlarge"), HAS).waits_for == ""
    assert queue.enter(job("b", 2, "ml.m5.24xlarge"), HAS).waits_for


def test_a_job_begins_once_all_its_hosts_fit() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1), HAS).waits_for == ""
    two = job("b", 2, hosts=2)
    assert queue.enter(two, HAS).waits_for == "2 x ml.m5.large have 16.0 GiB of memory, and 11.0 of 19.0 GiB are free"
    assert queue.enter(job("c", 3, "ml.t3.medium"), HAS).waits_for == "jobs that were created earlier come first"
    queue.release(job_key("a"))
    assert queue.enter(two, HAS).waits_for == ""
    assert queue.enter(job("c", 3), HAS).waits_for == "ml.m5.large has 8.0 GiB of memory, and 3.0 of 19.0 GiB are free"


def test_every_host_counts_and_one_job_of_more_hosts_than_that_runs_alone() -> None:
    queue = JobQueue()
    has = replace(HAS, memory=0)  # not known, so that only the number counts: 8
    assert queue.enter(job("a", 1, hosts=20), has).waits_for == ""
    assert queue.enter(job("b", 2), has).waits_for == "at most 8 run at once"
    queue.release(job_key("a"))
    assert queue.enter(job("b", 2, hosts=7), has).waits_for == ""
    assert queue.enter(job("c", 3, hosts=2), has).waits_for == "at most 8 run at once"


ONE, ALL = "ml.g5.xlarge", "ml.g5.12xlarge"  # accelerators of a machine that has four
FOUR = replace(HAS, memory=0, cpus=16, gpus=4)


def test_each_job_has_accelerators_of_its_own() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1, ONE), FOUR) == ("", 0)
    assert queue.enter(job("b", 2, ONE, hosts=2), FOUR) == ("", 1)
    assert queue.enter(job("c", 3, ONE), FOUR) == ("", 3)
    assert queue.enter(job("no accelerator", 4), FOUR) == ("", 0)
    waits = queue.enter(job("d", 5, ONE), FOUR).waits_for
    assert waits == "it needs 1 of the machine's 4 accelerators, and 0 are free"
    queue.release(job_key("b"))
    assert queue.enter(job("d", 5, ONE), FOUR) == ("", 1)


def test_a_job_for_all_accelerators_is_not_overtaken() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1, ONE), FOUR) == ("", 0)
    waits = queue.enter(job("b", 2, ALL), FOUR).waits_for
    assert waits == "it needs 4 of the machine's 4 accelerators, and 3 are free"
    assert queue.enter(job("c", 3, ONE), FOUR).waits_for == "jobs that were created earlier come first"
    queue.release(job_key("a"))
    assert queue.enter(job("b", 2, ALL), FOUR) == ("", 0)


def test_accelerators_of_one_job_are_side_by_side() -> None:
    queue = JobQueue()
    for name, first in (("a", 0), ("b", 2)):
        queue.note(job(name, 1, ONE, workloads=("w",), first_gpu=first))  # as it is after a restart
    waits = queue.enter(job("c", 3, ONE, hosts=2), FOUR).waits_for
    assert waits == "it needs 2 of the machine's 4 accelerators, and 2 are free, not side by side"
    assert queue.enter(job("d", 4, ONE), FOUR).waits_for == "jobs that were created earlier come first"
    assert queue.enter(job("no accelerator", 5), FOUR) == ("", 0)


def test_nobody_waits_for_accelerators_that_do_not_exist() -> None:
    queue = JobQueue()
    none = replace(FOUR, gpus=0)
    assert queue.enter(job("a", 1, ALL), none) == queue.enter(job("b", 2, ONE), none) == ("", 0)
    assert JobQueue().enter(job("c", 3, "ml.p3.16xlarge"), replace(FOUR, gpus=1)) == ("", 0)


def test_a_number_that_was_set_counts_alone() -> None:
    queue = JobQueue(3)
    told = [queue.enter(job(name, n, "ml.m5.24xlarge"), HAS).waits_for for n, name in enumerate("abcd")]
    assert told == ["", "", "", "at most 3 run at once"]


def test_what_began_before_a_restart_counts_and_what_uploads_does_not() -> None:
    queue = JobQueue(1)
    queue.note(job("a", 1, workloads=("w",)))
    assert queue.enter(job("b", 2), HAS).waits_for == "at most 1 run at once"
    queue.note(job("a", 1, workloads=("w",), secondary="Uploading"))
    assert queue.enter(job("b", 2), HAS).waits_for == ""


def test_a_job_without_its_backend_is_in_nobodys_way() -> None:
    queue = JobQueue(1)
    queue.note(job("a", 1, backend="process"))
    assert queue.enter(job("b", 2), replace(HAS, name=BackendName("docker"))).waits_for == ""


def test_a_job_that_waits_says_for_what_then_begins_or_is_stopped() -> None:
    queue = JobQueue(1)
    running, late = job("a", 1), job("b", 2)
    assert queue.enter(running, HAS).waits_for == ""
    decide = controller(queue=queue).decide
    ready = Seen(capabilities={DOCKER: HAS})
    waits = decide(late, ready, after(5))
    assert waits.status is not None
    assert (waits.actions, waits.status["secondary"]) == ((), "Pending")
    assert waits.status["transitions"][-1]["StatusMessage"] == "Waiting for capacity - at most 1 run at once"
    late = late.with_status(TrainingStatus.from_row(waits.status))
    queue.release(running.resource.key)
    begins = decide(late, ready, after(9))
    assert begins.status is not None
    told = [(each["Status"], each["StartTime"]) for each in begins.status["transitions"]]
    assert told == [("Pending", to_text(after(5))), ("Starting", to_text(after(9))), ("Starting", to_text(after(9)))]
    wished = replace(late, spec=replace(late.spec, stop_requested_at=to_text(after(6))))
    ends = decide(wished, ready, after(7))
    assert (ends.state, ends.actions) == ("Stopping", ())


def test_a_job_waits_no_longer_than_it_is_willing_to() -> None:
    queue = JobQueue(1)
    assert queue.enter(job("a", 1), HAS).waits_for == ""
    late = job("b", 2)
    willing = {**late.spec.request, "StoppingCondition": {"MaxPendingTimeInSeconds": 1800}}
    late = replace(late, spec=replace(late.spec, request=willing))
    decide, ready = controller(queue=queue).decide, Seen(capabilities={DOCKER: HAS})
    waits = decide(late, ready, after(5))
    assert waits.status is not None
    late = late.with_status(TrainingStatus.from_row(waits.status))
    assert decide(late, ready, after(5 + 1799)).state == "InProgress"
    ends = decide(late, ready, after(5 + 1800))
    assert ends.status is not None
    assert (ends.state, ends.status["ending"]["secondary"]) == ("Stopping", "MaxWaitTimeExceeded")
    assert "MaxPendingTimeInSeconds" in ends.status["ending"]["message"]
    queue.release(job_key("a"))
    assert decide(late, ready, after(5 + 1800)).status["secondary"] == "Starting"  # type: ignore[index]


def test_two_hundred_jobs_at_once_each_run_once_and_never_more_than_fit(tmp_path: Path) -> None:
    at_once: list[int] = []

    async def story(store: Database) -> World:
        def choose(workload: Workload) -> Script:
            at_once.append(1 + len(world.engine.live()))
            return Script((Say(b"hello\n"), Run(0.3), End(0)))

        world = World(store, tmp_path, Random(7), choose)
        world.at_once = None
        world.chaos.hint_lost = 0.2
        for number in range(200):
            world.create(f"job-{number:03}", ResourceConfig={"InstanceType": "ml.t3.medium", "InstanceCount": 1})
        while not world.is_settled():
            await world.live(asyncio.get_running_loop().time() + 60, ControllerSettings(full_pass=20.0))
        return world

    with closing(Database.open(tmp_path / "store.db")) as store:
        world = run(story(store))
        world.check_settled()
        assert max(at_once) == 3  # of 16 GiB, 15.2 are for jobs, and each has 4
        assert sorted(world.engine.starts.values()) == [1] * 200


def test_no_two_jobs_ever_share_an_accelerator_also_after_kills(tmp_path: Path) -> None:
    shared: list[set[int]] = []
    most = 0

    def numbers(workload: Workload) -> set[int]:
        has = workload.resources
        return set(range(has.first_gpu, has.first_gpu + has.gpus))

    async def story(store: Database) -> World:
        holding: dict[str, set[int]] = {}

        def choose(workload: Workload) -> Script:
            nonlocal most
            live = world.engine.live()
            for each in [each for each in holding if each not in live]:
                del holding[each]
            shared.extend(taken & numbers(workload) for taken in holding.values())
            holding[workload.id] = numbers(workload)
            most = max(most, sum(map(len, holding.values())))
            return Script((Say(b"hello\n"), Run(5), End(0)))

        world = World(store, tmp_path, Random(11), choose)
        world.engine.gpus = 4
        for number, kind in enumerate((ONE, "ml.g5.2xlarge", ALL, ONE) * 6):
            world.create(f"job-{number:02}", ResourceConfig={"InstanceType": kind, "InstanceCount": 1})
        while not world.is_settled():
            await world.live(asyncio.get_running_loop().time() + 7, ControllerSettings(full_pass=20.0))
        return world

    with closing(Database.open(tmp_path / "store.db")) as store:
        world = run(story(store))
        world.check_settled()
    assert not any(shared)
    assert 1 < most <= 4
    assert sorted(world.engine.starts.values()) == [1] * 24
