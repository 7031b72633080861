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
    assert queue.enter(first, HAS) == queue.enter(second, HAS) == ""
    assert queue.enter(third, HAS) == "ml.m5.large has 8.0 GiB of memory, and 3.0 of 19.0 GiB are free"
    assert queue.waiting() == (third.resource.key,)
    queue.release(first.resource.key)
    assert queue.enter(third, HAS) == ""


def test_a_small_job_does_not_overtake_a_large_one() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1), HAS) == ""
    assert "16.0 GiB" in queue.enter(job("large", 2, "ml.m5.xlarge"), HAS)
    assert queue.enter(job("small", 3, "ml.t3.medium"), HAS) == "jobs that were created earlier come first"


def test_one_that_waits_keeps_its_place_whoever_is_looked_at_first() -> None:
    queue = JobQueue()
    for each in (job("a", 1, "ml.m5.xlarge"), job("b", 2, "ml.m5.xlarge")):
        queue.note(each)
    assert queue.enter(job("b", 2, "ml.m5.xlarge"), HAS) == "jobs that were created earlier come first"
    assert queue.enter(job("a", 1, "ml.m5.xlarge"), HAS) == ""


def test_a_job_larger_than_the_machine_gets_the_machine() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1, "ml.m5.24xlarge"), HAS) == ""
    assert queue.enter(job("b", 2, "ml.m5.24xlarge"), HAS)


def test_a_job_begins_once_all_its_hosts_fit() -> None:
    queue = JobQueue()
    assert queue.enter(job("a", 1), HAS) == ""
    two = job("b", 2, hosts=2)
    assert queue.enter(two, HAS) == "2 x ml.m5.large have 16.0 GiB of memory, and 11.0 of 19.0 GiB are free"
    assert queue.enter(job("c", 3, "ml.t3.medium"), HAS) == "jobs that were created earlier come first"
    queue.release(job_key("a"))
    assert queue.enter(two, HAS) == ""
    assert queue.enter(job("c", 3), HAS) == "ml.m5.large has 8.0 GiB of memory, and 3.0 of 19.0 GiB are free"


def test_every_host_counts_and_one_job_of_more_hosts_than_that_runs_alone() -> None:
    queue = JobQueue()
    has = replace(HAS, memory=0)  # not known, so that only the number counts: 8
    assert queue.enter(job("a", 1, hosts=20), has) == ""
    assert queue.enter(job("b", 2), has) == "at most 8 run at once"
    queue.release(job_key("a"))
    assert queue.enter(job("b", 2, hosts=7), has) == ""
    assert queue.enter(job("c", 3, hosts=2), has) == "at most 8 run at once"


def test_a_number_that_was_set_counts_alone() -> None:
    queue = JobQueue(3)
    told = [queue.enter(job(name, n, "ml.m5.24xlarge"), HAS) for n, name in enumerate("abcd")]
    assert told == ["", "", "", "at most 3 run at once"]


def test_what_began_before_a_restart_counts_and_what_uploads_does_not() -> None:
    queue = JobQueue(1)
    queue.note(job("a", 1, workloads=("w",)))
    assert queue.enter(job("b", 2), HAS) == "at most 1 run at once"
    queue.note(job("a", 1, workloads=("w",), secondary="Uploading"))
    assert queue.enter(job("b", 2), HAS) == ""


def test_a_job_without_its_backend_is_in_nobodys_way() -> None:
    queue = JobQueue(1)
    queue.note(job("a", 1, backend="process"))
    assert queue.enter(job("b", 2), replace(HAS, name=BackendName("docker"))) == ""


def test_a_job_that_waits_says_for_what_then_begins_or_is_stopped() -> None:
    queue = JobQueue(1)
    running, late = job("a", 1), job("b", 2)
    assert queue.enter(running, HAS) == ""
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
    assert queue.enter(job("a", 1), HAS) == ""
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
