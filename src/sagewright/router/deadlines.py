"""Time limits of many requests with one timer: all of one kind have the same length, so the oldest ends first.

Owns: who is late. Does not own: what lateness means. A request pays for a dictionary entry, not for a timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
_GRAIN: Final = 0.02  # seconds; limits are kept to within this


class Deadlines(Generic[T]):
    """Calls `expired(item)` once, `limit` seconds after `add(item)`, unless `discard(item)` came first."""

    __slots__ = ("_expired", "_items", "_limit", "_loop", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float, expired: Callable[[T], None]) -> None:
        self._loop = loop
        self._limit = limit
        self._expired = expired
        self._items: dict[T, float] = {}  # in the order of their ends
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T) -> None:
        """Adding again starts anew."""
        self._items.pop(item, None)
        self._items[item] = self._loop.time() + self._limit
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit, self._look)

    def discard(self, item: T) -> None:
        self._items.pop(item, None)

    def close(self) -> None:
        self._items.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        late = []
        for item, end in self._items.items():
            if end > now:
                self._timer = self._loop.call_later(max(end - now, _GRAIN), self._look)
                break
            late.append(item)
        for item in late:
            if self._items.pop(item, None) is not None:
                self._expired(item)
