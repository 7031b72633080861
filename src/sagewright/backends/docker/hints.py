"""Hints: the engine's events about our containers, and what the backend itself knows to be worth a look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Final

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.spec import WORKLOAD
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import WorkloadId

_PAUSES: Final = (0.2, 5.0)  # first and longest, in seconds, after a cut
_EVENTS: Final = ["start", "die", "oom", "destroy"]


class Hints:
    """Any number of followers; each gets every hint that comes while it follows."""

    def __init__(self, engine: Engine, label: str) -> None:
        self._engine = engine
        self._filters = {"type": ["container"], "label": [label], "event": _EVENTS}
        self._queues: set[asyncio.Queue[WorkloadId]] = set()

    def give(self, workload: WorkloadId) -> None:
        for queue in self._queues:
            queue.put_nowait(workload)

    async def follow(self) -> AsyncGenerator[WorkloadId, None]:
        queue: asyncio.Queue[WorkloadId] = asyncio.Queue()
        self._queues.add(queue)
        listening = asyncio.create_task(self._listen(queue))
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)
            listening.cancel()
            with suppress(asyncio.CancelledError):
                await listening

    async def _listen(self, queue: asyncio.Queue[WorkloadId]) -> None:
        pause = _PAUSES[0]
        while True:
            with suppress(BackendUnavailable, EngineRefused):
                async with aclosing(self._engine.events(self._filters)) as events:
                    async for event in events:
                        queue.put_nowait(WorkloadId(event["Actor"]["Attributes"][WORKLOAD]))
                        pause = _PAUSES[0]
            await asyncio.sleep(pause)
            pause = min(pause * 2, _PAUSES[1])
