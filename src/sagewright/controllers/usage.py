"""CPU and memory of instances, once a minute, as metrics; and old metrics made coarser, once an hour.

    endpoint rows ──┬─► workloads ─► backends that can tell ─► one sample per instance in /aws/sagemaker/Endpoints,
    training jobs ──┤                                                        /aws/sagemaker/TrainingJobs
    transform jobs ─┘                                                        or /aws/sagemaker/TransformJobs

Source: contract A.14, B.14 and C.9; CPUUtilization is summed over cores, 100 for each. A backend that cannot tell
(`MeasuresUsage`), or cannot be reached, gives no sample: nothing is ever made up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Executor
from datetime import timedelta
from typing import Final, TypeVar

import orjson
from sqlalchemy import select

from sagewright.controllers import training_usage, transform_metrics
from sagewright.controllers.measured import Measured
from sagewright.core.clock import Clock
from sagewright.core.errors import BackendUnavailable, StoreError
from sagewright.core.ids import Region, WorkloadId
from sagewright.core.samples import Samples
from sagewright.store import metric_rows as rows
from sagewright.store import transform_rows
from sagewright.store.kinds.endpoint import KIND, EndpointStatus
from sagewright.store.metric_rows import Metric
from sagewright.store.resources import Store, Tx
from sagewright.store.tables import resources
from sagewright.workloads.backend import ComputeBackend, MeasuresUsage, Usage

T = TypeVar("T")

EVERY: Final = 60.0  # seconds
NAMESPACE: Final = "/aws/sagemaker/Endpoints"
_THIN: Final = 60  # looks between rounds of making old metrics coarser
_REST: Final = 0.1  # seconds in which others write
_log: Final = logging.getLogger(__name__)


class UsageWatch:
    def __init__(
        self, store: Store, backends: Collection[ComputeBackend], threads: Executor, clock: Clock, every: float = EVERY
    ) -> None:
        self._store = store
        self._backends = [each for each in backends if isinstance(each, MeasuresUsage)]
        self._threads = threads
        self._clock = clock
        self._every = every

    async def run(self) -> None:
        """Until cancelled."""
        number = 0
        while True:
            await asyncio.sleep(self._every - self._clock.now().timestamp() % self._every)
            try:
                await self.look()
                if number % _THIN == 0:
                    await self._thin()
            except StoreError as error:
                _log.warning("usage of instances is not known for this minute: %s", error)
            except Exception:
                _log.exception("measuring the usage of instances failed; it is tried again in the next minute")
            number += 1

    async def look(self) -> None:
        """One sample of each instance, into the minute that ends now."""
        now = self._clock.now()
        minute = rows.minute_of(now) - (1 if now.timestamp() % 60 < EVERY / 2 else 0)  # looks come just after it
        since = now - timedelta(seconds=self._every)
        jobs = await self._in_thread(lambda: self._store.read(lambda tx: list(transform_rows.measured(tx, since))))
        endpoints = await self._in_thread(lambda: self._store.read(lambda tx: list(_endpoints(tx))))
        hosts = await self._in_thread(lambda: self._store.read(lambda tx: list(training_usage.instances(tx))))
        instances = [*endpoints, *hosts, *transform_metrics.instances(jobs)]
        used = await self._used([each for instance in instances for each in instance.workloads])
        points = {**_points(instances, used, minute), **transform_metrics.progress(jobs, minute)}
        if points:
            await self._in_thread(lambda: self._store.write(lambda tx: rows.add(tx, points)))

    async def _used(self, wanted: Collection[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        used: dict[WorkloadId, Usage] = {}
        for backend in self._backends if wanted else ():
            try:
                used |= await backend.usage(wanted)
            except BackendUnavailable as error:
                _log.info("usage of instances: %s", error)
        return used

    async def _thin(self) -> None:
        """In small transactions, as others want to write too."""
        now = self._clock.now()
        more = True
        while more:
            more = await self._in_thread(lambda: self._store.write(lambda tx: rows.thin(tx, now)))
            await asyncio.sleep(_REST)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _endpoints(tx: Tx) -> Iterator[Measured]:
    """Every instance of every endpoint."""
    columns = resources.c
    found = tx.connection.execute(select(columns.region, columns.name, columns.status).where(columns.kind == KIND))
    for row in found:
        for fleet in EndpointStatus.from_row(orjson.loads(row.status)).fleets:
            for instance in fleet.instances:
                variant = rows.dimensions_of((("EndpointName", row.name), ("VariantName", instance.variant)))
                workloads = tuple(WorkloadId(each) for each in instance.workloads.values())
                yield Measured(Region(row.region), NAMESPACE, variant, workloads)


def _points(instances: Collection[Measured], used: Mapping[WorkloadId, Usage], minute: int) -> rows.Points:
    points: dict[tuple[Metric, int], Samples] = {}
    for instance in instances:
        whole = [used[each] for each in instance.workloads if each in used]
        if not whole or len(whole) < len(instance.workloads):
            continue
        for name, value in (
            ("CPUUtilization", sum(each.cpu_percent for each in whole)),
            ("MemoryUtilization", sum(each.memory_percent for each in whole)),
        ):
            metric = Metric(instance.namespace, name, instance.dimensions, "Percent", instance.region)
            points.setdefault((metric, minute), Samples()).add(value)
    return points
