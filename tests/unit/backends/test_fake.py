"""The fake under a clock that only the test moves: exact times, faults on demand, what a crash takes along."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.engine import FakeEngine, Fault, random_faults
from sagewright.backends.fake.script import Await, Do, End, OnTerm, Run, Say, Script, Trap, runs
from sagewright.core.errors import BackendUnavailable, WorkloadRejected
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.workload import ImageRef, Resources, Workload

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
WORK = Workload(WorkloadId("job-1"), ImageRef("image"), None, ("train",), stop_grace=timedelta(seconds=120))


class ManualClock:
    def __init__(self) -> None:
        self.moment = BEGIN

    def now(self) -> datetime:
        return self.moment

    def pass_(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def engine(clock: ManualClock) -> FakeEngine:
    return FakeEngine(clock)


@pytest.fixture
def backend(engine: FakeEngine) -> FakeBackend:
    return FakeBackend(engine)


async def look(backend: FakeBackend) -> Observation:
    return (await backend.observe([WORK.id]))[WORK.id]


def seconds(moment: datetime | None) -> float:
    assert moment
    return (moment - BEGIN).total_seconds()


async def test_things_happen_at_their_own_time_however_late_one_looks(
    engine: FakeEngine, backend: FakeBackend, clock: ManualClock
) -> None:
    engine.script(WORK.id, Script(prepare=10, steps=(Say(b"a\n"), Run(5), Say(b"b\nc"), End(3))))
    await backend.submit(WORK)
    assert (await look(backend)).phase is Phase.PREPARING
    clock.pass_(1000)
    seen = await look(backend)
    assert (seconds(seen.started_at), seconds(seen.ended_at), seen.exit_code) == (10, 15, 3)
    records = [record async for record in backend.logs(WORK.id)]
    start = int(BEGIN.timestamp() * 1000)
    assert [(record.timestamp - start, record.message) for record in records] == [
        (10_000, b"a"),
        (15_000, b"b"),
        (15_000, b"c"),
    ]


async def test_sigterm_ends_it_at_its_own_time_and_what_comes_before_still_happens(
    engine: FakeEngine, backend: FakeBackend, clock: ManualClock
) -> None:
    engine.script(WORK.id, Script((Run(10), Say(b"step\n"), Run(None)), on_term=OnTerm(0, b"bye\n", after=5)))
    await backend.submit(WORK)
    clock.pass_(8)
    await backend.stop(WORK.id)
    clock.pass_(100)
    seen = await look(backend)
    assert (seconds(seen.ended_at), seen.exit_code) == (13, 0)
    assert [record.message async for record in backend.logs(WORK.id)] == [b"step", b"bye"]


async def test_what_ignores_sigterm_is_killed_after_the_grace(
    engine: FakeEngine, backend: FakeBackend, clock: ManualClock
) -> None:
    engine.script(WORK.id, Script((Run(None),), on_term=None))
    await backend.submit(WORK)
    clock.pass_(1)
    await backend.stop(WORK.id)
    clock.pass_(60)
    await backend.stop(WORK.id)
    clock.pass_(59)
    assert (await look(backend)).phase is Phase.RUNNING
    clock.pass_(60)
    seen = await look(backend)
    assert (seconds(seen.ended_at), seen.exit_code) == (121, 137)


async def test_a_crash_takes_along_what_prepares_and_the_kill_timer_but_not_what_runs(
    engine: FakeEngine, clock: ManualClock
) -> None:
    running, preparing = replace(WORK, id=WorkloadId("running")), replace(WORK, id=WorkloadId("preparing"))
    engine.script(running.id, Script((Run(None),), on_term=None))
    engine.script(preparing.id, Script(prepare=30))
    first = FakeBackend(engine)
    await first.submit(running)
    await first.submit(preparing)
    await first.stop(running.id)
    await first.aclose()
    second = FakeBackend(engine)
    clock.pass_(1000)
    assert set(await second.observe()) == {running.id}
    await second.stop(running.id)
    clock.pass_(119)
    assert engine.live() == {running.id}
    clock.pass_(1)
    assert engine.live() == set()


async def test_faults_come_as_planned(engine: FakeEngine, backend: FakeBackend) -> None:
    engine.script(WORK.id, runs(None))
    engine.fail_next("submit")
    with pytest.raises(BackendUnavailable):
        await backend.submit(WORK)
    assert await backend.observe() == {}
    engine.fail_next("submit", Fault.REPLY_LOST)
    with pytest.raises(BackendUnavailable, match="reply was lost"):
        await backend.submit(WORK)
    assert engine.live() == {WORK.id}
    await backend.submit(WORK)
    assert engine.starts[WORK.id] == 1
    engine.down = True
    with pytest.raises(BackendUnavailable):
        await backend.observe()
    assert not (await backend.describe()).available
    assert [(call.verb, call.fault) for call in engine.calls] == [
        ("submit", Fault.UNAVAILABLE),
        ("observe", Fault.NONE),
        ("submit", Fault.REPLY_LOST),
        ("submit", Fault.NONE),
        ("observe", Fault.UNAVAILABLE),
    ]


def test_random_faults_are_the_same_again_for_the_same_seed() -> None:
    def drawn() -> list[Fault]:
        plan = random_faults(Random(7), unavailable=0.3, reply_lost=0.3)
        return [plan("observe", None) for _ in range(200)]

    assert drawn() == drawn()
    assert set(drawn()) == set(Fault)


async def test_held_calls_wait_at_the_door(engine: FakeEngine, backend: FakeBackend) -> None:
    with engine.hold("submit") as door:
        submitting = asyncio.create_task(backend.submit(WORK))
        await asyncio.sleep(0)
        assert await backend.observe() == {}
        assert not submitting.done()
        door.set()
        await submitting
    assert set(await backend.observe()) == {WORK.id}


async def test_vanished_and_lost_workloads(engine: FakeEngine, backend: FakeBackend, clock: ManualClock) -> None:
    engine.script(WORK.id, Script((Run(5), End(vanish=True))))
    await backend.submit(WORK)
    clock.pass_(5)
    assert await backend.observe() == {}
    engine.script(WORK.id, runs(None))
    await backend.submit(WORK)
    engine.lose(WORK.id)
    seen = await look(backend)
    assert (seen.phase, seen.cause, seen.exit_code) == (Phase.EXITED, ExitCause.LOST, None)
    engine.vanish(WORK.id)
    assert await backend.observe() == {}


async def test_stopping_while_preparing_ends_it_without_a_run(engine: FakeEngine, backend: FakeBackend) -> None:
    engine.script(WORK.id, Script(prepare=30))
    await backend.submit(WORK)
    await backend.stop(WORK.id)
    seen = await look(backend)
    assert (seen.phase, seen.exit_code, engine.starts[WORK.id]) == (Phase.EXITED, None, 0)


async def test_steps_can_wait_for_the_test_and_act_on_it(engine: FakeEngine, backend: FakeBackend) -> None:
    done: list[WorkloadId] = []
    engine.script(WORK.id, Script((Trap(None), Await(lambda: bool(done)), Do(lambda work: done.append(work.id)))))
    await backend.submit(WORK)
    assert (await look(backend)).phase is Phase.RUNNING
    done.append(WorkloadId("gate"))
    assert (await look(backend)).exit_code == 0
    assert done == ["gate", WORK.id]


async def test_gpus_beyond_those_there_are_refused(engine: FakeEngine, backend: FakeBackend) -> None:
    with pytest.raises(WorkloadRejected):
        await backend.submit(replace(WORK, resources=Resources(gpus=1)))


async def test_hints_tell_of_every_change(engine: FakeEngine, backend: FakeBackend, clock: ManualClock) -> None:
    engine.script(WORK.id, runs(5))
    hints = backend.hints()
    waiting = asyncio.ensure_future(anext(hints))
    await asyncio.sleep(0)
    await backend.submit(WORK)
    assert await waiting == WORK.id
    clock.pass_(5)
    await look(backend)
    assert await anext(hints) == WORK.id
    await hints.aclose()  # an async generator
