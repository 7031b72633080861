"""What all invocations of a gateway process share. Made by `router.hot.Router`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from itertools import count
from typing import Protocol

from sagewright.core.ids import Account
from sagewright.router.access import Access
from sagewright.router.counters import Counters
from sagewright.router.deadlines import Deadlines
from sagewright.router.heads import Heads
from sagewright.router.live import Live
from sagewright.router.request import Recogniser
from sagewright.router.sessions import Sessions
from sagewright.settings import RouterSettings


class Late(Protocol):
    """Whoever has a time limit."""

    def late(self) -> None: ...


class RequestIds:
    """Unique like UUIDs and shaped like them, for a tenth of the price: `prefix` and twelve digits of a number."""

    def __init__(self) -> None:
        text = secrets.token_hex(10)
        self.prefix = f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-"
        self.numbers = count(secrets.randbits(40))

    def next(self) -> str:
        return self.of(next(self.numbers))

    def of(self, number: int) -> str:
        return f"{self.prefix}{number:012x}"


class Tasks:
    """The few things that cannot be done in a callback."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@dataclass(slots=True)
class Shared:
    """`look(then)`: derive the table from what the rows say now, then call `then`."""

    settings: RouterSettings
    account: Account
    loop: asyncio.AbstractEventLoop
    live: Live
    access: Access
    counters: Counters
    look: Callable[[Callable[[], None]], None]
    model: Deadlines[Late]
    stream: Deadlines[Late]
    queue: Deadlines[Late]
    heads: Heads = field(default_factory=Heads)
    recogniser: Recogniser = field(default_factory=Recogniser)
    sessions: Sessions = field(default_factory=Sessions)
    ids: RequestIds = field(default_factory=RequestIds)
    tasks: Tasks = field(default_factory=Tasks)
    in_flight: int = 0
