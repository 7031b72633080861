"""Time limits of many requests with one timer: all of one kind have the same length, so the oldest ends first.

Owns: who is late. Does not own: what lateness means. A request pays for a dictionary entry, not for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_GRAIN: Final = 0.02  # seconds; limits are kept to within this


class Deadlines(Generic[T]):
    """Calls `expired(item)` once, `limit` seconds after `add(item)`, unless `discard(item)` came first.

    `begun` has the items, oldest first, with the time of `perf_counter` at which each began; who puts one in there by
    hand must see to it that there is a timer (`arm`)."""

    __slots__ = ("_expired", "_limit", "_loop", "begun", "timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float, expired: Callable[[T], None]) -> None:
        self._loop = loop
        self._limit = limit
        self._expired = expired
        self.begun: dict[T, float] = {}
        self.timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self.begun)

    def add(self, item: T) -> None:
        """Adding again starts anew."""
        self.begun.pop(item, None)
        self.begun[item] = perf_counter()
        if self.timer is None:
            self.arm()

    def arm(self) -> None:
        self.timer = self._loop.call_later(self._limit, self._look)

    def discard(self, item: T) -> None:
        self.begun.pop(item, None)

    def close(self) -> None:
        self.begun.clear()
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _look(self) -> None:
        self.timer = None
        oldest = perf_counter() - self._limit
        late = []
        for item, begun in self.begun.items():
            if begun > oldest:
                self.timer = self._loop.call_later(max(begun - oldest, _GRAIN), self._look)
                break
            late.append(item)
        for item in late:
            if self.begun.pop(item, None) is not None:
                self._expired(item)
