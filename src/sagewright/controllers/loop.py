"""When to look: wake sources feed one queue, looks run in parallel, one per key, with a pause after each failure.

    commits ───┐
    backends ──┤
    log copier ┼──► KeyQueue ──► look (at most `parallel` at a time) ──► again in wake_in | pause | settled
    transfers ─┤
    full pass ─┘    every `full_pass` seconds: all that is due. Hints may be lost, this may not.

Owns: scheduling and pauses. Does not own: what a look does (`reconciler`).
A restart needs nothing special: each unfinished row is due, so the first full pass finds all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import timedelta
from typing import Final, TypeVar

from sagewright.controllers.queue import KeyQueue
from sagewright.controllers.reconciler import Reconciler
from sagewright.core.errors import BackendUnavailable, Stale, StoreUnavailable
from sagewright.core.ids import BackendName, Key, TransferId, WorkloadId
from sagewright.settings import ControllerSettings
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.transfer import Transfers

T = TypeVar("T")

SWEEP: Final = 60.0
"""Seconds between passes over everything, and searches for workloads that belong to none of it: those are very rare."""

EVERYTHING: Final = timedelta(days=36_500)
"""The horizon of such a pass: a clock that was set back must not make what is unfinished seem to be far away."""

HINT_GAP: Final = 0.02
"""Seconds between two looks at one resource because of its backend's hints."""

LAST_LOOKS: Final = 3.0
"""Seconds that looks may still take when the loop ends."""

_log: Final = logging.getLogger(__name__)


class Loop:
    """Runs until its task is cancelled; looks that are under way are brought to their end first."""

    def __init__(
        self,
        reconciler: Reconciler,
        backends: Mapping[BackendName, ComputeBackend],
        transfers: Transfers,
        changes: AsyncIterator[Key],
        settings: ControllerSettings,
    ) -> None:
        self._reconciler = reconciler
        self._backends = backends
        self._transfers = transfers
        self._changes = changes
        self._settings = settings
        self._queue = KeyQueue()
        self._failures: dict[Key, int] = {}
        self._looked: dict[Key, float] = {}
        self._looks: set[asyncio.Task[None]] = set()

    def wake(self, workload: WorkloadId) -> None:
        """Something about this workload is new (the log copier calls this)."""
        if key := self._reconciler.owner(workload):
            self._queue.add(key)

    def wake_key(self, key: Key) -> None:
        """Something about this resource is new."""
        self._queue.add(key)

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._passes())
                group.create_task(self._follow(lambda: self._changes, self._changed))
                group.create_task(self._follow(self._transfers.hints, self._moved))
                for backend in self._backends.values():
                    group.create_task(self._follow(backend.hints, self._hinted))
                group.create_task(self._dispatch())
        finally:
            await self._finish_looks()

    async def _finish_looks(self) -> None:
        """What is under way may end by itself; a backend that hangs is left to the next start."""
        if self._looks:
            _, hanging = await asyncio.wait(tuple(self._looks), timeout=LAST_LOOKS)
            for look in hanging:
                look.cancel()

    # -- wake sources --------------------------------------------------------

    async def _passes(self) -> None:
        """Look at what is due, again and again; and at everything that is unfinished at the start and each minute."""
        clock = asyncio.get_running_loop()
        soon = timedelta(seconds=self._settings.full_pass)
        began = everything_at = clock.time()
        while True:
            try:
                is_whole = clock.time() >= everything_at
                unfinished = await self._reconciler.due(EVERYTHING if is_whole else soon)
                for key in unfinished:
                    if key not in self._failures:  # a key that pauses is in the queue with its pause
                        self._queue.add(key)
                if is_whole:
                    everything_at = clock.time() + SWEEP
                    if clock.time() - began >= SWEEP:
                        await self._reconciler.sweep(unfinished)
            except StoreUnavailable as error:
                _log.warning("cannot look for work now: %s", error)
            await asyncio.sleep(self._settings.full_pass)

    async def _follow(self, source: Callable[[], AsyncIterator[T]], react: Callable[[T], None]) -> None:
        """Hints are a help, not a need: a source that ends or fails is asked again after a pause."""
        while True:
            try:
                async for hint in source():
                    react(hint)
            except BackendUnavailable:
                pass  # it is asked again below
            except Exception:
                _log.exception("a source of hints failed; full passes find what it would have told")
            await asyncio.sleep(self._settings.full_pass)

    def _changed(self, key: Key) -> None:
        if key.kind in self._reconciler.kinds:
            self._failures.pop(key, None)  # the user spoke: no reason to let them wait out a pause
            self._queue.add(key)

    def _hinted(self, workload: WorkloadId) -> None:
        """A backend may have much to say about one workload: it is listened to, but not without end."""
        if key := self._reconciler.owner(workload):
            rested = asyncio.get_running_loop().time() - self._looked.get(key, 0.0)
            self._queue.add(key, max(0.0, HINT_GAP - rested))

    def _moved(self, transfer: TransferId) -> None:
        if key := self._reconciler.mover(transfer):
            self._queue.add(key)

    # -- looks ---------------------------------------------------------------

    async def _dispatch(self) -> None:
        free = asyncio.Semaphore(self._settings.parallel)
        while True:
            await free.acquire()
            key = await self._queue.take()
            task = asyncio.create_task(self._look(key))
            self._looks.add(task)
            task.add_done_callback(self._looks.discard)
            task.add_done_callback(lambda _: free.release())

    async def _look(self, key: Key) -> None:
        try:
            again = await self._reconciler.look(key)
        except Stale:
            self._queue.add(key)
        except (BackendUnavailable, StoreUnavailable) as error:
            if key not in self._failures:
                _log.warning("%s has to wait: %s", key, error)
            self._pause(key)
        except Exception:
            _log.exception("%s: looking at it failed; nothing about it was marked, it is tried again", key)
            self._pause(key)
        else:
            self._failures.pop(key, None)
            if again is None:
                self._looked.pop(key, None)
            else:
                self._looked[key] = asyncio.get_running_loop().time()
                self._queue.add(key, again.total_seconds())
        finally:
            self._queue.done(key)

    def _pause(self, key: Key) -> None:
        first, longest = self._settings.backoff
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._queue.add(key, min(longest, first * 2 ** min(failures, 16)))
