"""The log copier over the fake engine and real stream files: each line exactly once, whatever dies when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sagewright.backends.fake import backend as fake
from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.engine import FakeEngine, Fault, random_faults
from sagewright.backends.fake.script import Await, End, Run, Say, Script
from sagewright.blobs.streams import LogStreams
from sagewright.controllers.log_copier import TAIL, LogCopier, LogTarget
from sagewright.core.clock import SystemClock
from sagewright.core.errors import BlobStoreFull
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import LogCursor, LogRecord
from sagewright.workloads.workload import ImageRef, Workload
from suites.virtual_time import InlineExecutor, LoopClock, run

ID = WorkloadId("training-job-job-1-algo-1-0badcafe")
TARGET = LogTarget(ID, "/aws/sagemaker/TrainingJobs", "job/algo-1-1")
WORK = Workload(ID, ImageRef("mine"), None, ("train",))
NEVER_IN_VAIN = 60.0


class Bench:
    """A started workload, its stream, and copiers that come and go."""

    def __init__(self, folder: Path, clock: Any = None, threads: Any = None) -> None:
        self.streams = LogStreams(folder / "streams")
        self.engine = FakeEngine(clock or SystemClock())
        self.backend = FakeBackend(self.engine)
        self.threads = threads or ThreadPoolExecutor(2)
        self.woken: list[WorkloadId] = []
        self.copier = self.new_copier()

    def new_copier(self, streams: Any = None) -> LogCopier:
        return LogCopier(streams or self.streams, self.threads, self.woken.append, backoff=(0.001, 0.01))

    async def start(self, *steps: Any) -> None:
        self.engine.script(ID, Script(steps))
        await self.backend.submit(WORK)

    async def drained(self, target: LogTarget = TARGET) -> None:
        self.copier.follow(target, self.backend, exited=True)
        async with asyncio.timeout(NEVER_IN_VAIN):
            while not self.copier.state(ID).drained:
                await asyncio.sleep(0.001)

    def lines(self) -> list[bytes]:
        return [event.message for event in self.streams.read_all(TARGET.group, TARGET.stream)]


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.copier.aclose()
    await made.backend.aclose()
    made.threads.shutdown()


def many(count: int) -> Say:
    return Say(b"".join(b"line %d\n" % n for n in range(count)))


async def test_every_line_is_copied_in_order_with_its_time_and_cursor(bench: Bench) -> None:
    await bench.start(Say(b"one\ntwo\n"), Say(b"\xff raw\tbytes\r"), End(0))
    await bench.drained()
    assert bench.lines() == [b"one", b"two", b"\xff raw\tbytes\r"]
    assert bench.streams.last_cursor(TARGET.group, TARGET.stream) == "3"
    assert bench.woken == [ID]


async def test_a_silent_workload_has_a_stream_all_the_same(bench: Bench) -> None:
    await bench.start(End(0))
    await bench.drained()
    assert bench.streams.names(TARGET.group) == [TARGET.stream]
    assert bench.lines() == []


async def test_lines_are_readable_while_the_workload_still_runs(bench: Bench) -> None:
    gate = asyncio.Event()
    await bench.start(Say(b"early\n"), Await(gate.is_set), Say(b"late\n"), End(0))
    bench.copier.follow(TARGET, bench.backend, exited=False)
    async with asyncio.timeout(NEVER_IN_VAIN):
        while bench.copier.state(ID).tail != ("early",):
            await asyncio.sleep(0.001)
    assert bench.lines() == [b"early"]
    assert not bench.copier.state(ID).drained
    gate.set()
    await bench.drained()
    assert bench.lines() == [b"early", b"late"]


async def test_a_flood_arrives_whole(bench: Bench) -> None:
    await bench.start(many(30_000), End(0))
    await bench.drained()
    assert bench.lines() == [b"line %d" % n for n in range(30_000)]


async def test_one_line_larger_than_every_buffer_arrives_whole(bench: Bench) -> None:
    long = b"x" * (3 << 20)
    await bench.start(Say(long + b"\nafter\n"), End(0))
    await bench.drained()
    assert bench.lines() == [long, b"after"]


async def test_the_last_lines_are_kept_also_after_a_restart(bench: Bench) -> None:
    await bench.start(many(TAIL + 30), End(1))
    await bench.drained()
    expected = tuple(f"line {n}" for n in range(30, TAIL + 30))
    assert bench.copier.state(ID).tail == expected
    await bench.copier.aclose()
    bench.copier = bench.new_copier()
    assert (await bench.copier.kept(TARGET)).tail == expected
    await bench.drained()
    assert bench.copier.state(ID).tail == expected
    assert len(bench.lines()) == TAIL + 30


async def test_metrics_are_the_same_after_a_restart_in_the_middle(bench: Bench) -> None:
    target = LogTarget(ID, TARGET.group, TARGET.stream, (("loss", "loss=(.*)"), ("first", "first=(.*)")))
    gate = asyncio.Event()
    await bench.start(Say(b"first=1\nloss=9\n"), Await(gate.is_set), Say(b"loss=0.5\n"), End(0))
    bench.copier.follow(target, bench.backend, exited=False)
    async with asyncio.timeout(NEVER_IN_VAIN):
        while len(bench.copier.state(ID).metrics) < 2:
            await asyncio.sleep(0.001)
    await bench.copier.aclose()
    bench.copier = bench.new_copier()
    gate.set()
    await bench.drained(target)
    assert {each["MetricName"]: each["Value"] for each in bench.copier.state(ID).metrics} == {"loss": 0.5, "first": 1.0}


async def test_an_engine_that_goes_away_is_read_on_when_it_is_back(bench: Bench) -> None:
    gate = asyncio.Event()
    await bench.start(Say(b"one\n"), Await(gate.is_set), Say(b"two\n"), End(0))
    bench.copier.follow(TARGET, bench.backend, exited=False)
    async with asyncio.timeout(NEVER_IN_VAIN):
        while not bench.copier.state(ID).tail:
            await asyncio.sleep(0.001)
        bench.engine.down = True
        gate.set()
        failures = len([call for call in bench.engine.calls if call.fault is not Fault.NONE])
        while len([call for call in bench.engine.calls if call.fault is not Fault.NONE]) < failures + 3:
            await asyncio.sleep(0.001)
    assert not bench.copier.state(ID).drained
    bench.engine.down = False
    await bench.drained()
    assert bench.lines() == [b"one", b"two"]


async def test_a_log_that_ends_though_its_workload_runs_is_read_on(bench: Bench) -> None:
    """A backend that ends too early must not make us lose the rest."""
    gate = asyncio.Event()
    await bench.start(Say(b"one\n"), Await(gate.is_set), Say(b"two\n"), End(0))
    early = EndsEarly(bench.backend)
    bench.copier.follow(TARGET, early, exited=False)
    async with asyncio.timeout(NEVER_IN_VAIN):
        while not bench.woken:
            await asyncio.sleep(0.001)
    gate.set()
    bench.copier.follow(TARGET, early, exited=False)
    async with asyncio.timeout(NEVER_IN_VAIN):
        while bench.copier.state(ID).tail != ("one", "two"):
            await asyncio.sleep(0.001)
    assert bench.lines() == [b"one", b"two"]


class EndsEarly:
    """Its first log ends after one line."""

    def __init__(self, inner: FakeBackend) -> None:
        self._inner = inner
        self._times = 0

    async def logs(self, workload: WorkloadId, *, after: LogCursor | None = None) -> AsyncIterator[LogRecord]:
        self._times += 1
        async for record in self._inner.logs(workload, after=after):
            yield record
            if self._times == 1:
                return


async def test_a_full_disk_delays_lines_and_loses_none(bench: Bench) -> None:
    streams = FullDisk(bench.streams)
    bench.copier = bench.new_copier(streams)
    await bench.start(many(100), End(0))
    bench.copier.follow(TARGET, bench.backend, exited=True)
    async with asyncio.timeout(NEVER_IN_VAIN):
        while streams.refused < 3:
            await asyncio.sleep(0.001)
    assert not bench.copier.state(ID).drained
    streams.full = False
    await bench.drained()
    assert bench.lines() == [b"line %d" % n for n in range(100)]


class FullDisk:
    """Streams on a disk that is full: some lines get through before the refusal, as the contract forbids."""

    def __init__(self, inner: LogStreams) -> None:
        self._inner = inner
        self.full = True
        self.refused = 0

    def append(self, group: str, stream: str, records: Any, *, durable: bool = False) -> None:
        if self.full and records:
            self.refused += 1
            self._inner.append(group, stream, records[:1])
            raise BlobStoreFull("No space is left")
        self._inner.append(group, stream, records, durable=durable)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


async def test_a_released_workload_is_not_followed_any_more(bench: Bench) -> None:
    await bench.start(Run(None))
    bench.copier.follow(TARGET, bench.backend, exited=False)
    bench.copier.release(ID)
    bench.copier.release(ID)
    assert not bench.copier.state(ID).drained
    assert bench.copier.state(ID).tail == ()


@pytest.mark.parametrize("seed", range(60))
def test_each_line_is_kept_exactly_once_under_random_kills_and_torn_files(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "_LOOK_AGAIN", 0.01)
    run(_killed_again_and_again(Random(seed), tmp_path))


async def _killed_again_and_again(random: Random, folder: Path) -> None:
    bench = Bench(folder, LoopClock(), InlineExecutor())
    steps: list[Any] = []
    for number in range(6):
        steps += [Say(b"".join(b"%d.%d\n" % (number, n) for n in range(random.choice([1, 30])))), Run(random.random())]
    await bench.start(*steps, End(0))
    bench.engine.faults = random_faults(random, unavailable=random.choice([0.0, 0.3]))
    expected: list[bytes] = [line for step in steps if isinstance(step, Say) for line in step.content.splitlines()]
    for _ in range(random.randrange(1, 30)):
        bench.copier.follow(TARGET, bench.backend, exited=False)
        await asyncio.sleep(random.choice([0.0, 0.001, 0.02, 0.3]))
        await bench.copier.aclose()
        bench.copier = bench.new_copier(LogStreams(folder / "streams"))
        _tear(random, bench.streams)
    bench.engine.faults = random_faults(random)
    await asyncio.sleep(60)
    await bench.drained()
    assert bench.lines() == expected
    await bench.copier.aclose()


def _tear(random: Random, streams: LogStreams) -> None:
    """A writer died in the middle of a line."""
    path = streams._path(TARGET.group, TARGET.stream)
    if path.exists() and random.random() < 0.5:
        with path.open("ab") as file:
            file.write(random.choice([b"7", b"7 17", b"7 17673 half a li"]))
