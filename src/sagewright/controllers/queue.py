"""The queue of keys to look at: each key at most once in it, one look at a time per key, delays, one taker.

    add(key, delay) ──► waiting ──(due)──► take() ──► looked at ──► done(key)
                           ▲                              │
                           └── added meanwhile: again ────┘

Owns: when a key is handed out. Does not own: what is done with it, how long a failed key pauses (`loop`).
Time is the event loop's clock: a wall clock that jumps delays nothing.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count

from sagewright.core.ids import Key


class KeyQueue:
    """Belongs to one event loop; from threads use `loop.call_soon_threadsafe(queue.add, key)`."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = count()
        self._out: set[Key] = set()
        self._changed = asyncio.Event()

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Hand out `key` no later than in `delay` seconds; an earlier time that was asked for stays."""
        due = asyncio.get_running_loop().time() + delay
        if due >= self._due.get(key, float("inf")):
            return
        self._due[key] = due
        if key not in self._out:
            self._push(due, key)

    async def take(self) -> Key:
        """The key that has been due for longest, of those that are not out."""
        while True:
            self._changed.clear()
            key, pause = self._pop()
            if key is not None:
                return key
            try:
                async with asyncio.timeout(pause):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The look is over; what was added meanwhile is handed out again."""
        self._out.discard(key)
        if key in self._due:
            self._push(self._due[key], key)

    def __len__(self) -> int:
        return len(self._due)

    def _push(self, due: float, key: Key) -> None:
        heapq.heappush(self._heap, (due, next(self._order), key))
        self._changed.set()

    def _pop(self) -> tuple[Key | None, float | None]:
        """A due key, or the seconds until one is due (None: nothing is waiting)."""
        now = asyncio.get_running_loop().time()
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) != due or key in self._out:
                heapq.heappop(self._heap)  # superseded by an earlier time, or taken already
            elif due > now:
                return None, due - now
            else:
                heapq.heappop(self._heap)
                del self._due[key]
                self._out.add(key)
                return key, None
        return None, None
