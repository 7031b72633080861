"""What gateways count of invocations, into the store; and GET /metrics in Prometheus' text format out of it.

    counters.take() ── every 5 s, one transaction ──▶ metrics by the minute ──▶ CloudWatch, and /metrics

All gateways add to the same rows, so /metrics of any of them has the sums, and they survive restarts: a counter
never goes back. Owns: names, units and dimensions (contract B.14), the flush, the text.
Does not own: counting (`router.counters`), the rows (`store.metric_rows`), who may ask (`gateway.application`).
https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final, Protocol

from sagewright.core.clock import Clock
from sagewright.core.errors import StoreError
from sagewright.core.ids import Region
from sagewright.core.samples import Samples, edge
from sagewright.store import metric_rows as rows
from sagewright.store import transform_rows
from sagewright.store.kinds import transform_job
from sagewright.store.metric_rows import Dimensions, Known, Metric
from sagewright.store.resources import Store, Tx
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

EVERY: Final = 5.0  # seconds between flushes: a divisor of a minute, so that none reaches over its end
PATH: Final = "/metrics"
NAMESPACE: Final = "AWS/SageMaker"
OURS: Final = "Sagewright"  # what AWS does not count
UTILIZATION: Final = ("/aws/sagemaker/Endpoints", transform_job.LOG_GROUP)
_FRESH: Final = timedelta(minutes=3)  # a gauge older than this is of an instance that is gone
_SECONDS: Final = 1e-6  # a microsecond
_BOUNDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)

_log: Final = logging.getLogger("sagewright.gateway")


class Histogram(Protocol):
    """`router.counters.Histogram`: whole microseconds. `buckets` are keyed by a number that `floor` understands."""

    count: int
    total: int
    least: int
    most: int
    buckets: dict[int, int]


class Tally(Protocol):
    """`router.counters.Tally`: the counts of one variant, or of one container of it."""

    invocations: int
    per_instance: float
    errors_4xx: int
    errors_5xx: int
    model_errors: int
    throttled: int
    unavailable: int

    @property
    def model_latency(self) -> Histogram: ...

    @property
    def overhead_latency(self) -> Histogram: ...


class Of(Protocol):
    """`router.counters.Of`: whose tally. `container` is empty for the variant as a whole."""

    @property
    def region(self) -> str: ...

    @property
    def endpoint(self) -> str: ...

    @property
    def variant(self) -> str: ...

    @property
    def container(self) -> str: ...


class Counts(Protocol):
    """A mapping from `Of` to `Tally`, of which no more is needed."""

    def items(self) -> Iterable[tuple[Of, Tally]]: ...


class Flush:
    """Brings one gateway's counts into the store. What cannot be written now is kept, and written with the next."""

    def __init__(
        self,
        take: Callable[[], Counts],
        floor: Callable[[int], int],
        store: Store,
        clock: Clock,
        every: float = EVERY,
    ) -> None:
        """`take` gives what was counted since it was last called; `floor` is the smallest number in a bucket."""
        self._take = take
        self._floor = floor
        self._store = store
        self._clock = clock
        self._every = every
        self._refused: list[rows.Points] = []  # by the store; the writing thread puts them here
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """In the event loop that counts: nothing is counted while `take` runs."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def finish(self) -> None:
        """The last counts, once the event loop is over. Blocks for one transaction."""
        self._write(self._collect(self._clock.now()))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            began = self._clock.now()
            await asyncio.sleep(self._every - began.timestamp() % self._every)
            try:
                if points := self._collect(began):
                    await loop.run_in_executor(None, self._write, points)
            except Exception:
                _log.exception("metrics of the last seconds are lost")

    def _collect(self, began: datetime) -> rows.Points:
        """All that is to be written: whoever calls this has it, and gives back what was refused."""
        minute = rows.minute_of(began)
        points: dict[tuple[Metric, int], Samples] = {}
        while self._refused:
            for key, samples in self._refused.pop().items():
                points.setdefault(key, Samples()).merge(samples)
        for of, tally in self._take().items():
            for metric, samples in measured(of, tally, self._floor):
                if samples.count:
                    points.setdefault((metric, minute), Samples()).merge(samples)
        return points

    def _write(self, points: rows.Points) -> None:
        try:
            self._store.write(lambda tx: rows.add(tx, points))
        except StoreError as error:
            self._refused.append(points)
            _log.warning("metrics could not be written and are kept for the next time: %s", error)


def measured(of: Of, tally: Tally, floor: Callable[[int], int]) -> Iterator[tuple[Metric, Samples]]:
    """One tally as CloudWatch's metrics."""
    region = Region(of.region)
    variant = (("EndpointName", of.endpoint), ("VariantName", of.variant))

    def metric(name: str, unit: str = "None", namespace: str = NAMESPACE, more: Dimensions = ()) -> Metric:
        return Metric(namespace, name, rows.dimensions_of((*variant, *more)), unit, region)

    if of.container:
        container = (("ContainerName", of.container),)
        yield metric("ContainerLatency", "Microseconds", more=container), _latency(tally.model_latency, floor)
        return
    number = tally.invocations
    yield metric("Invocations"), _ones(number, number)
    yield metric("InvocationsPerInstance"), _even(number, tally.per_instance)
    yield metric("Invocation4XXErrors"), _ones(number, tally.errors_4xx)
    yield metric("Invocation5XXErrors"), _ones(number, tally.errors_5xx)
    yield metric("InvocationModelErrors"), _ones(number, tally.model_errors)
    yield metric("ModelLatency", "Microseconds"), _latency(tally.model_latency, floor)
    yield metric("OverheadLatency", "Microseconds"), _latency(tally.overhead_latency, floor)
    yield metric("Throttled", "Count", OURS), _ones(tally.throttled, tally.throttled)
    yield metric("Unavailable", "Count", OURS), _ones(tally.unavailable, tally.unavailable)


def _ones(of: int, ones: int) -> Samples:
    """So many requests, each counted as 1 or as 0."""
    made = Samples()
    for value, count in ((0.0, of - ones), (1.0, ones)):
        if count > 0:
            made.add(value, count)
    return made


def _even(number: int, total: float) -> Samples:
    made = Samples()
    if number:
        made.add(total / number, number)
    return made


def _latency(histogram: Histogram, floor: Callable[[int], int]) -> Samples:
    made = Samples()
    if histogram.count:
        made.summarize(histogram.count, histogram.total, histogram.least, histogram.most)
        for index, count in histogram.buckets.items():
            at = edge(float(floor(index)))
            made.buckets[at] = made.buckets.get(at, 0.0) + count
    return made


# -- GET /metrics


def is_asked(request: HttpRequest) -> bool:
    """Whether this is for /metrics and not for a bucket of that name: S3 requests are signed as such."""
    if request.raw_path != PATH or request.method not in ("GET", "HEAD"):
        return False
    signed = request.headers.get("authorization") or request.raw_query
    return "/s3/" not in signed and "%2Fs3%2F" not in signed and not signed.startswith("AWS ")


def respond(text: str) -> HttpResponse:
    kind = ("content-type", "text/plain; version=0.0.4; charset=utf-8")
    return HttpResponse(200, Headers([kind, ("cache-control", "no-store")]), text.encode())


_COUNTERS: Final = {
    (NAMESPACE, "Invocations"): ("invocations", "Requests that a container answered or failed to answer."),
    (NAMESPACE, "Invocation4XXErrors"): ("invocation_4xx_errors", "Answers of the model with a 4xx status."),
    (NAMESPACE, "Invocation5XXErrors"): ("invocation_5xx_errors", "Answers of the model with a 5xx status."),
    (NAMESPACE, "InvocationModelErrors"): ("invocation_model_errors", "Requests answered with ModelError."),
    (OURS, "Throttled"): ("invocations_throttled", "Requests refused with 429: the queue was full."),
    (OURS, "Unavailable"): ("invocations_unavailable", "Requests refused with 503: no instance could take them."),
}
_HISTOGRAMS: Final = {
    "ModelLatency": ("model_latency_seconds", "Time from the request sent to the container's answer."),
    "ContainerLatency": ("container_latency_seconds", "The same, for each container of a pipeline."),
    "OverheadLatency": ("overhead_latency_seconds", "Time that a request took besides the model's."),
}
_GAUGES: Final = {
    "CPUUtilization": ("cpu_utilization_percent", "Mean of the instances in the last minute; 100 is one core."),
    "MemoryUtilization": ("memory_utilization_percent", "Mean of the instances in the last minute, of their limit."),
}


def exposition(tx: Tx, now: datetime) -> str:
    """The text: counters and histograms since the beginning, gauges of the last minute that was measured."""
    known = list(rows.browse(tx))
    lines: list[str] = []
    for (namespace, name), (word, told) in _COUNTERS.items():
        lines += _counter(f"sagewright_{word}_total", told, _of(known, namespace, name))
    for name, (word, told) in _HISTOGRAMS.items():
        lines += _histogram(f"sagewright_{word}", told, _of(known, NAMESPACE, name))
    for name, (word, told) in _GAUGES.items():
        found = [each for namespace in UTILIZATION for each in _of(known, namespace, name)]
        lines += _gauge(tx, now, f"sagewright_{word}", told, found)
    lines += _transforms(list(transform_rows.measured(tx, now - _FRESH)))
    return "\n".join(lines) + "\n" if lines else ""


def _of(known: Iterable[Known], namespace: str, name: str) -> list[Known]:
    return [each for each in known if (each.metric.namespace, each.metric.name) == (namespace, name)]


def _counter(word: str, told: str, found: list[Known]) -> Iterator[str]:
    if found:
        yield from _head(word, told, "counter")
    for each in found:
        yield f"{word}{_labels(each.metric)} {each.total:.17g}"


def _histogram(word: str, told: str, found: list[Known]) -> Iterator[str]:
    """A bucket counts for the bound that its lower end is below: it is known to within 1/16."""
    if found:
        yield from _head(word, told, "histogram")
    for each in found:
        for bound in _BOUNDS:
            below = sum(count for at, count in each.buckets.items() if at * _SECONDS < bound)
            yield f"{word}_bucket{_labels(each.metric, le=f'{bound:g}')} {below:.17g}"
        yield f"{word}_bucket{_labels(each.metric, le='+Inf')} {each.samples:.17g}"
        yield f"{word}_sum{_labels(each.metric)} {each.total * _SECONDS:.17g}"
        yield f"{word}_count{_labels(each.metric)} {each.samples:.17g}"


def _gauge(tx: Tx, now: datetime, word: str, told: str, found: list[Known]) -> Iterator[str]:
    fresh = [each for each in found if each.last >= rows.minute_of(now - _FRESH)]
    if fresh:
        yield from _head(word, told, "gauge")
    for each in fresh:
        for _, samples in rows.read(tx, each.id, each.last, each.last + 1):
            yield f"{word}{_labels(each.metric)} {samples.average:.6g}"


_TRANSFORMS: Final = {
    "objects": ("objects_done", "Objects that a transform job is done with."),
    "objects_total": ("objects", "Objects that a transform job has."),
    "records": ("records_done", "Records whose answers a transform job has written."),
    "bytes": ("bytes_done", "Bytes of its input that a transform job has read."),
    "bytes_total": ("bytes", "Bytes of input that a transform job has."),
    "failed": ("objects_failed", "Objects of a transform job that have no output."),
    "skipped": ("records_skipped", "Bad records that a transform job left out."),
    "records_per_second": ("records_per_second", "How fast a transform job goes."),
    "seconds_left": ("seconds_left", "How long a transform job will take, at this rate."),
}


def _transforms(jobs: list[transform_rows.Measured]) -> Iterator[str]:
    """As the rows have it now: jobs that run, and the last word of those that have just ended."""
    for member, (word, told) in _TRANSFORMS.items():
        found = [job for job in jobs if job.status.progress.get(member) is not None]
        if found:
            yield from _head(f"sagewright_transform_{word}", told, "gauge")
        for job in found:
            labels = f'{{region="{job.region}",job="{_escaped(job.name)}"}}'
            yield f"sagewright_transform_{word}{labels} {job.status.progress[member]:.10g}"


def _head(word: str, told: str, kind: str) -> Iterator[str]:
    yield f"# HELP {word} {told}"
    yield f"# TYPE {word} {kind}"


_LABELS: Final = {"EndpointName": "endpoint", "VariantName": "variant", "ContainerName": "container", "Host": "host"}


def _labels(metric: Metric, **more: str) -> str:
    pairs = (
        {"region": str(metric.region)} | {_LABELS.get(name, name): value for name, value in metric.dimensions} | more
    )
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
