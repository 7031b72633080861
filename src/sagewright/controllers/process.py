"""The controller process: the parts of the reconcile line put to work until `stop`.

Owns: the order of starting and ending, threads. Does not own: which parts there are (`app`), what they do.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagewright.blobs.streams import LogStreams
from sagewright.controllers.controller import Controller
from sagewright.controllers.draining import Announcer, DrainWatch
from sagewright.controllers.health import HealthWatch
from sagewright.controllers.log_copier import LogCopier
from sagewright.controllers.look import Observer
from sagewright.controllers.loop import Loop
from sagewright.controllers.metrics import MetricStore
from sagewright.controllers.reconciler import Reconciler
from sagewright.controllers.usage import UsageWatch
from sagewright.core.clock import Clock
from sagewright.core.ids import BackendName, Key, WorkloadId
from sagewright.settings import ControllerSettings
from sagewright.store.resources import Store
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.transfer import Transfers

_STORE_THREADS = 4
_LOG_THREADS = 4


@dataclass(frozen=True, slots=True)
class Parts:
    """What `app` composes. `changes` yields keys that were committed; it may drop some. `gateways` is the folder with
    the gateways' sockets. Who makes a part closes it."""

    store: Store
    streams: LogStreams
    backends: Mapping[BackendName, ComputeBackend]
    transfers: Transfers
    controllers: Collection[Controller[Any]]
    changes: AsyncIterator[Key]
    clock: Clock
    settings: ControllerSettings
    gateways: Path


async def run_controller(parts: Parts, stop: asyncio.Event) -> None:
    """Reconcile until `stop` is set. Looks under way end first; everything else goes on at the next start.

    Raises what nobody expected (ExceptionGroup): the supervisor starts the process again.
    """
    with (
        ThreadPoolExecutor(_STORE_THREADS, "store") as store_threads,
        ThreadPoolExecutor(_LOG_THREADS, "log") as log_threads,
    ):
        waker = _Waker()
        metrics = MetricStore(parts.store)
        copier = LogCopier(parts.streams, log_threads, waker.wake, parts.settings.backoff, metrics)
        pings = HealthWatch(parts.clock, waker.wake)
        drains = DrainWatch(parts.gateways, waker.wake_key)
        observer = Observer(parts.backends, parts.transfers, copier, store_threads, pings=pings, drains=drains)
        reconciler = Reconciler(
            store=parts.store,
            controllers=parts.controllers,
            backends=parts.backends,
            transfers=parts.transfers,
            observer=observer,
            clock=parts.clock,
            threads=store_threads,
            announce=Announcer(parts.gateways),
            wake=waker.wake_key,
        )
        loop = waker.loop = Loop(reconciler, parts.backends, parts.transfers, parts.changes, parts.settings)
        usage = asyncio.create_task(UsageWatch(parts.store, parts.backends.values(), store_threads, parts.clock).run())
        try:
            await _until(stop, loop)
        finally:
            usage.cancel()
            await pings.aclose()
            await drains.aclose()
            await copier.aclose()


class _Waker:
    """The copier, pings and drains wake the loop, which is made after them."""

    def __init__(self) -> None:
        self.loop: Loop | None = None

    def wake(self, workload: WorkloadId) -> None:
        if self.loop is not None:
            self.loop.wake(workload)

    def wake_key(self, key: Key) -> None:
        if self.loop is not None:
            self.loop.wake_key(key)


async def _until(stop: asyncio.Event, loop: Loop) -> None:
    running = asyncio.create_task(loop.run())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if running.done():
        running.result()
        return
    running.cancel()
    await asyncio.wait((running,))
