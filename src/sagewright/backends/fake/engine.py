"""The substrate of the fake: what exists, what fails, and what was asked. It outlives every FakeBackend.

    engine = FakeEngine(clock, choose=lambda workload: runs(30, b"hello"))
    backend = FakeBackend(engine)            a restart of ours: await backend.aclose(); backend = FakeBackend(engine)

Time is the given clock and nothing else: a test moves it and looks again. Nothing happens between two looks
that would not have happened at its own time.

Faults, all decided by the test:

    engine.down = True                                  every verb raises BackendUnavailable
    engine.faults = random_faults(Random(seed), unavailable=0.15, reply_lost=0.05)
    engine.fail_next("submit", Fault.REPLY_LOST)        done, and then BackendUnavailable is raised
    with engine.hold("submit") as gate: ...             calls wait at the door until `gate.set()` or the end
    engine.vanish(id) · engine.lose(id)                 removed by a stranger · seen as LOST

What it keeps for assertions: `calls`, `starts` (how often each id was started), `live()`.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from random import Random
from typing import Literal, Protocol, TypeAlias

from sagewright.backends.fake.program import Program
from sagewright.backends.fake.script import Script
from sagewright.core.clock import Clock
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import WorkloadId
from sagewright.workloads.workload import Workload

Verb: TypeAlias = Literal["submit", "observe", "stop", "remove", "logs"]


class Fault(StrEnum):
    NONE = "none"
    UNAVAILABLE = "unavailable"  # nothing was done
    REPLY_LOST = "reply-lost"  # it was done, but the caller is told BackendUnavailable


@dataclass(frozen=True, slots=True)
class Call:
    verb: Verb
    workload: WorkloadId | None
    at: datetime
    fault: Fault


Faults: TypeAlias = Callable[[Verb, WorkloadId | None], Fault]
ScriptChoice: TypeAlias = Callable[[Workload], Script]


def no_faults(verb: Verb, workload: WorkloadId | None) -> Fault:
    return Fault.NONE


def random_faults(random: Random, *, unavailable: float = 0.0, reply_lost: float = 0.0) -> Faults:
    """Each call fails with these probabilities, the same way again for the same seed."""

    def decide(verb: Verb, workload: WorkloadId | None) -> Fault:
        drawn = random.random()
        if drawn < unavailable:
            return Fault.UNAVAILABLE
        return Fault.REPLY_LOST if drawn < unavailable + reply_lost else Fault.NONE

    return decide


class Attached(Protocol):
    """A backend object as the engine knows it: what it has accepted and not started, and its SIGKILL timers."""

    preparing: dict[WorkloadId, Program]
    kills: dict[WorkloadId, datetime]


class FakeEngine:
    """`choose` says what a workload will do; `script(id, ...)` overrides it for one id that is known beforehand."""

    def __init__(self, clock: Clock, choose: ScriptChoice | None = None, *, gpus: int = 0) -> None:
        self.clock = clock
        self.gpus = gpus
        self.down = False
        self.faults: Faults = no_faults
        self.calls: list[Call] = []
        self.starts: Counter[WorkloadId] = Counter()
        self.programs: dict[WorkloadId, Program] = {}
        self.attached: list[Attached] = []
        self.hint_queues: set[asyncio.Queue[WorkloadId]] = set()
        self._choose: ScriptChoice = choose or (lambda workload: Script())
        self._scripts: dict[WorkloadId, Script] = {}
        self._next_faults: dict[Verb, deque[Fault]] = {}
        self._doors: dict[Verb, asyncio.Event] = {}

    # -- for tests -----------------------------------------------------------

    def script(self, workload: WorkloadId, script: Script) -> None:
        """What this id will do when it is submitted."""
        self._scripts[workload] = script

    def fail_next(self, verb: Verb, fault: Fault = Fault.UNAVAILABLE, times: int = 1) -> None:
        """The next calls of this verb fail so; they come before what `faults` decides."""
        self._next_faults.setdefault(verb, deque()).extend([fault] * times)

    @contextmanager
    def hold(self, verb: Verb) -> Iterator[asyncio.Event]:
        """Inside, calls of this verb wait, before they have any effect, until the event is set."""
        door = self._doors[verb] = asyncio.Event()
        try:
            yield door
        finally:
            door.set()
            del self._doors[verb]

    def vanish(self, workload: WorkloadId) -> None:
        """Gone without a trace, as after `docker rm -f` by a stranger."""
        self.programs.pop(workload, None)
        self.hint(workload)

    def lose(self, workload: WorkloadId) -> None:
        """Seen as EXITED with the cause LOST, as after a restart of the machine."""
        self.advance()
        self.programs[workload].lose(self.clock.now())
        self.hint(workload)

    def live(self) -> set[WorkloadId]:
        """What runs at this moment."""
        self.advance()
        return {workload for workload, program in self.programs.items() if program.running}

    # -- for FakeBackend -----------------------------------------------------

    async def enter(self, verb: Verb, workload: WorkloadId | None) -> Fault:
        """One call at the door: may wait there, may be refused; answers with the fault to raise afterwards."""
        if door := self._doors.get(verb):
            await door.wait()
        planned = self._next_faults.get(verb)
        fault = planned.popleft() if planned else self.faults(verb, workload)
        if self.down:
            fault = Fault.UNAVAILABLE
        self.calls.append(Call(verb, workload, self.clock.now(), fault))
        if fault is Fault.UNAVAILABLE:
            raise BackendUnavailable(f"the fake engine refuses {verb}")
        self.advance()
        return fault

    def make(self, workload: Workload, installation: str) -> Program:
        script = self._scripts.get(workload.id) or self._choose(workload)
        return Program(workload, script, installation, self.clock.now())

    def advance(self) -> None:
        """Bring everything to the clock's time: start what is prepared, carry on what runs."""
        now = self.clock.now()
        for backend in self.attached:
            self._start_prepared(backend, now)
        for workload, program in list(self.programs.items()):
            before = program.seen
            program.advance(now, self._killed_at(workload))
            if program.vanished:
                del self.programs[workload]
            if program.seen is not before:
                self.hint(workload)

    def hint(self, workload: WorkloadId) -> None:
        for queue in self.hint_queues:
            queue.put_nowait(workload)

    def _start_prepared(self, backend: Attached, now: datetime) -> None:
        for workload, program in list(backend.preparing.items()):
            if program.exited or program.starts_at > now:
                continue
            program.advance(program.starts_at)
            if not program.kept:
                continue  # an image failure leaves nothing behind: known to the one that tried, and only to it
            del backend.preparing[workload]
            if workload not in self.programs:
                self.programs[workload] = program
                self.starts[workload] += program.seen.started_at is not None

    def _killed_at(self, workload: WorkloadId) -> datetime | None:
        return min((backend.kills[workload] for backend in self.attached if workload in backend.kills), default=None)
