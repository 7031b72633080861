"""The reconcile line and its loop: what happens when something other than a job goes wrong. Virtual time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sagewright.backends.fake import backend as fake
from sagewright.backends.fake.engine import Fault
from sagewright.backends.fake.script import End, OnTerm, Run, Say, Script
from sagewright.controllers.controller import Decision
from sagewright.controllers.training_jobs import TrainingController
from sagewright.core.ids import WorkloadId
from sagewright.store.db import Database
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import ImageRef, Workload
from suites.reconcile_world import World
from suites.training import job_key
from suites.virtual_time import run

SHORT = Script((Run(5), End(0)))


@pytest.fixture(autouse=True)
def rare_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake, "_LOOK_AGAIN", 0.3)


@pytest.fixture
def play(tmp_path: Path) -> Iterator[Callable[..., World]]:
    """Runs a scene in a world whose containers do what the script says."""
    with closing(Database.open(tmp_path / "store.db")) as store:

        def play(scene: Callable[[World], Awaitable[None]], script: Any = SHORT) -> World:
            async def whole() -> World:
                choose = script if callable(script) else lambda workload: script
                world = World(store, tmp_path, Random(0), choose)
                await scene(world)
                return world

            return run(whole())

        yield play


def state(world: World, name: str = "job") -> str:
    job = world.job(job_key(name))
    return job.resource.state if job else "forgotten"


def reason(world: World) -> str:
    job = world.job(job_key())
    assert job is not None
    return job.status.failure_reason or ""


def test_a_job_runs_to_its_end_and_a_delete_forgets_it(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        key = world.create("job")
        await world.live(120)
        assert state(world) == "Completed"
        world.check_settled()
        world.delete(key)
        await world.live(240)
        assert state(world) == "forgotten"

    play(scene)


def test_a_refusal_for_good_fails_the_job_with_its_words_also_after_a_restart(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.create("job", ResourceConfig={"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1})
        world.chaos.crash = 0.1
        while await world.live(300):
            pass
        world.chaos.crash = 0.0
        await world.live(600)
        assert state(world) == "Failed"
        assert reason(world).startswith("ClientError: ")
        assert "GPU" in reason(world)
        world.check_settled()

    play(scene)


@pytest.mark.parametrize("cause", [ExitCause.IMAGE, ExitCause.START])
def test_a_container_that_cannot_start_fails_with_the_words_of_the_backend(
    play: Callable[..., World], cause: ExitCause
) -> None:
    async def scene(world: World) -> None:
        world.create("job")
        await world.live(100)
        assert reason(world) == "ClientError: no such thing"
        world.check_settled()

    play(scene, Script(fails=(cause, "no such thing")))


def test_a_bug_in_decide_marks_nothing_and_is_told_with_its_traceback(
    play: Callable[..., World], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decide = TrainingController.decide

    def broken(self: TrainingController, job: Any, seen: Any, now: Any) -> Decision:
        if job.status.workloads:
            raise ZeroDivisionError("a bug")
        return decide(self, job, seen, now)

    async def scene(world: World) -> None:
        world.create("job")
        with monkeypatch.context() as patch:
            patch.setattr(TrainingController, "decide", broken)
            await world.live(60)
            assert state(world) == "InProgress"
        await world.live(200)
        assert state(world) == "Completed"

    with caplog.at_level(logging.ERROR):
        play(scene)
    errors = [each for each in caplog.records if each.exc_info]
    assert 2 < len(errors) < 30
    assert "ZeroDivisionError: a bug" in (caplog.text)


def test_an_illegal_move_is_an_error_with_the_story_of_the_job(
    play: Callable[..., World], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def scene(world: World) -> None:
        key = world.create("job")
        await world.live(100)
        monkeypatch.setattr(TrainingController, "decide", lambda *_: Decision(state="InProgress"))
        world.delete(key)
        await world.live(110)
        assert state(world) == "Completed"

    with caplog.at_level(logging.ERROR):
        play(scene)
    assert "may not go from Completed to InProgress; it went " in caplog.text
    assert "Z Uploading" in caplog.text


def test_a_wish_that_is_committed_during_a_look_is_seen_before_anything_is_submitted(
    play: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop lands between the look and its commit: the commit must lose, and the submit not happen."""
    decide = TrainingController.decide

    async def scene(world: World) -> None:
        key = world.create("job")

        def interrupted(self: TrainingController, job: Any, seen: Any, now: Any) -> Decision:
            decision = decide(self, job, seen, now)
            if decision.note == "submits":
                world.stop(key)
            return decision

        monkeypatch.setattr(TrainingController, "decide", interrupted)
        await world.live(100)
        assert state(world) == "Stopped"
        assert not world.submitted
        world.check_settled()

    play(scene)


def test_a_full_disk_delays_a_job_and_loses_nothing(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.create("job")
        await world.live(2)
        world.full_disk = True
        await world.live(100)
        assert state(world) == "InProgress"
        world.full_disk = False
        await world.live(200)
        assert state(world) == "Completed"
        world.check_settled()

    play(scene, Script((Say(b"one\n"), Run(20), Say(b"two\n"), End(0))))


def test_an_engine_that_is_down_when_the_job_comes_is_waited_for(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.engine.down = True
        world.create("job")
        await world.live(300)
        job = world.job(job_key())
        assert job is not None
        assert job.status.transitions[-1]["StatusMessage"].startswith("Starting the training job - waiting for the")
        assert "set `down` to False" in job.status.transitions[-1]["StatusMessage"]
        world.engine.down = False
        await world.live(400)
        assert state(world) == "Completed"

    play(scene)


def test_an_engine_that_stays_down_fails_the_job_and_the_rest_is_removed_when_it_is_back(
    play: Callable[..., World],
) -> None:
    async def scene(world: World) -> None:
        world.create("job")
        await world.live(3)
        assert world.engine.live()
        world.engine.down = True
        await world.live(700)
        assert state(world) == "Failed"
        assert reason(world).startswith("InternalServerError: the fake engine is down")
        assert reason(world).endswith("Sagewright waited 10 min for it.")
        world.engine.down = False
        await world.live(800)
        world.check_settled()

    play(scene, Script((Run(None),)))


def test_an_engine_that_answers_but_does_not_submit_is_given_up_in_the_end(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.engine.faults = lambda verb, workload: Fault.UNAVAILABLE if verb == "submit" else Fault.NONE
        world.create("job")
        await world.live(300)
        assert state(world) == "InProgress"
        await world.live(1000)
        assert state(world) == "Failed"
        assert "Sagewright waited 10 min for it." in reason(world)
        world.check_settled()

    play(scene)


def test_a_deaf_container_is_killed_after_its_grace_and_the_job_is_stopped(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        key = world.create("job")
        await world.live(5)
        world.stop(key)
        await world.live(300)
        job = world.job(key)
        assert job is not None
        assert (job.resource.state, job.status.exit_code) == ("Stopped", 137)
        stops = [call for call in world.engine.calls if call.verb == "stop"]
        assert 1 < len(stops) < 40, "repeated, but not for every look"
        world.check_settled()

    play(scene, Script((Run(None),), on_term=None))


def test_the_time_limit_stops_a_job_with_its_outputs(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        world.create("job", max_runtime=30)
        await world.live(100)
        job = world.job(job_key())
        assert job is not None
        assert (job.resource.state, job.status.secondary) == ("Stopped", "MaxRuntimeExceeded")
        assert job.status.written
        stop = next(call for call in world.engine.calls if call.verb == "stop")
        started = world.programs[job.workloads[0]].seen.started_at
        assert started is not None
        assert 30 <= (stop.at - started).total_seconds() < 31
        world.check_settled()

    play(scene, Script((Run(None),), on_term=OnTerm(0, after=2)))


def test_a_workload_that_belongs_to_no_row_is_removed_and_others_are_not(play: Callable[..., World]) -> None:
    """A submit whose reply was lost, that arrives after its job has ended."""

    async def scene(world: World) -> None:
        world.create("job")
        await world.live(5)
        stray = Workload(WorkloadId("training-job-old-1-algo-1-00000000"), ImageRef("mine"), None, ("train",))
        program = world.engine.make(stray, "test")
        world.engine.programs[stray.id] = program
        await world.live(190)
        assert stray.id not in world.engine.programs
        assert len(world.engine.programs) == 1
        assert state(world) == "InProgress"

    play(scene, Script((Run(None),)))


def test_many_jobs_go_on_side_by_side(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        for number in range(50):
            world.create(f"job-{number}")
        await world.live(100)
        world.check_settled()
        assert {state(world, f"job-{number}") for number in range(50)} == {"Completed"}
        ends = [each.seen.ended_at for each in world.programs.values() if each.seen.ended_at]
        assert (max(ends) - min(ends)).total_seconds() < 40

    play(scene)


def test_one_job_that_hangs_in_its_backend_does_not_hold_the_others(play: Callable[..., World]) -> None:
    async def scene(world: World) -> None:
        slow = world.create("slow")
        await world.live(60)
        assert state(world, "slow") == "InProgress"
        with world.engine.hold("stop"):
            living = asyncio.create_task(world.live(900))
            await asyncio.sleep(5)
            world.stop(slow)
            world.create("quick")
            await asyncio.sleep(300)
            assert state(world, "slow") == "Stopping"
            assert state(world, "quick") == "Completed"
        await living
        assert state(world, "slow") == "Stopped"

    def script(workload: Workload) -> Script:
        return Script((Run(None if "slow" in workload.id else 20), End(0)))

    play(scene, script)
