"""The scriptable backend: passes the same contract as the real ones, runs nothing, fails on demand.

A FakeBackend is one life of ours; the FakeEngine is the world that goes on without it. As with the real ones, what is
safe to lose is lost with the object: workloads still PREPARING, image failures, and SIGKILL timers (after a restart
the next `stop` starts a new grace). `aclose` is that end, and a crash is the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import datetime

from sagewright.backends.fake.engine import FakeEngine, Fault, Verb
from sagewright.backends.fake.program import Program
from sagewright.core.errors import BackendUnavailable, WorkloadRejected
from sagewright.core.ids import BackendName, WorkloadId
from sagewright.workloads.backend import Capabilities, LogCursor, LogRecord
from sagewright.workloads.observation import Observation
from sagewright.workloads.workload import Workload

NAME = BackendName("fake")
_LOOK_AGAIN = 0.005  # seconds of real time between a log reader's looks at a running program


class FakeBackend:
    """See `sagewright.workloads.backend.ComputeBackend`."""

    def __init__(self, engine: FakeEngine, installation: str = "test") -> None:
        self.preparing: dict[WorkloadId, Program] = {}
        self.kills: dict[WorkloadId, datetime] = {}
        self._engine = engine
        self._installation = installation
        engine.attached.append(self)

    async def describe(self) -> Capabilities:
        if self._engine.down:
            return Capabilities(NAME, available=False, problem="the fake engine is down: set `down` to False")
        return Capabilities(NAME, available=True, version="1", cpus=4, memory=16 << 30, gpus=self._engine.gpus)

    async def submit(self, workload: Workload) -> None:
        if workload.resources.gpus > self._engine.gpus:
            raise WorkloadRejected(f"{workload.resources.gpus} GPUs asked for, the fake engine has {self._engine.gpus}")
        fault = await self._engine.enter("submit", workload.id)
        if workload.id not in self._engine.programs and workload.id not in self.preparing:
            self.preparing[workload.id] = self._engine.make(workload, self._installation)
            self._engine.advance()
        _reply("submit", fault)

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]:
        fault = await self._engine.enter("observe", None)
        seen = {name: program.seen for name, program in self._mine().items() if ids is None or name in ids}
        _reply("observe", fault)
        return seen

    async def stop(self, workload: WorkloadId) -> None:
        fault = await self._engine.enter("stop", workload)
        program = self._mine().get(workload)
        if program and not program.exited:
            now = self._engine.clock.now()
            self.kills.setdefault(workload, now + program.workload.stop_grace)
            program.terminate(now)
            self._engine.hint(workload)
            self._engine.advance()
        _reply("stop", fault)

    async def remove(self, workload: WorkloadId) -> None:
        fault = await self._engine.enter("remove", workload)
        if workload in self._mine():
            self.preparing.pop(workload, None)
            self._engine.programs.pop(workload, None)
            for backend in self._engine.attached:
                backend.kills.pop(workload, None)
            self._engine.hint(workload)
        _reply("remove", fault)

    async def logs(self, workload: WorkloadId, *, after: LogCursor | None = None) -> AsyncIterator[LogRecord]:
        given = int(after) if after else 0
        await self._engine.enter("logs", workload)
        while program := self._mine().get(workload):
            ended = program.exited  # before the last look at the records: nothing comes after the end
            while given < len(program.records):
                record = program.records[given]
                given += 1
                yield record
            if ended:
                return
            await asyncio.sleep(_LOOK_AGAIN)
            if self._engine.down:
                raise BackendUnavailable("the fake engine went down under a log reader")
            self._engine.advance()

    async def hints(self) -> AsyncIterator[WorkloadId]:
        queue: asyncio.Queue[WorkloadId] = asyncio.Queue()
        self._engine.hint_queues.add(queue)
        try:
            while True:
                workload = await queue.get()
                if workload in self._mine():
                    yield workload
        finally:
            self._engine.hint_queues.discard(queue)

    async def aclose(self) -> None:
        if self in self._engine.attached:
            self._engine.advance()
            self._engine.attached.remove(self)
        self.preparing.clear()
        self.kills.clear()

    def _mine(self) -> dict[WorkloadId, Program]:
        """What this object can see: everything of its installation that was started, and what itself prepares."""
        programs = self._engine.programs.items()
        return self.preparing | {name: each for name, each in programs if each.installation == self._installation}


def _reply(verb: Verb, fault: Fault) -> None:
    if fault is Fault.REPLY_LOST:
        raise BackendUnavailable(f"the fake engine did {verb}, and its reply was lost")
