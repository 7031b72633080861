"""Usage of instances, progress of transform jobs, and training metrics, as CloudWatch metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.blobs.streams import LogStreams
from sagewright.controllers.log_copier import LogCopier, LogTarget
from sagewright.controllers.metrics import Metrics, MetricStore
from sagewright.controllers.usage import UsageWatch
from sagewright.core.clock import to_text
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import DEFAULT_ACCOUNT, Region, WorkloadId
from sagewright.core.samples import Samples
from sagewright.store import metric_rows as rows
from sagewright.store.db import Database
from sagewright.store.kinds import endpoint, training_job, transform_job
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Fleet, Instance, Plan
from sagewright.store.kinds.training_job import TrainingSpec, TrainingStatus
from sagewright.store.kinds.transform_job import TransformStatus
from sagewright.workloads.backend import LogCursor, LogRecord, Usage

NOW = datetime(2026, 3, 4, 5, 6, 0, 20_000, tzinfo=UTC)
MINUTE = rows.minute_of(NOW) - 1
GROUP = "/aws/sagemaker/TrainingJobs"


class Clock:
    def now(self) -> datetime:
        return NOW


class Backend:
    """Only what is asked of it here."""

    def __init__(self, **used: Usage) -> None:
        self.used = used
        self.down = False

    async def usage(self, ids: Collection[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        if self.down:
            raise BackendUnavailable("away")
        return {WorkloadId(name): used for name, used in self.used.items() if name in ids}

    async def logs(self, workload: WorkloadId, *, after: LogCursor | None = None):
        for number, line in enumerate([b"loss=0.5", b"loss=0.25", b"other", b"loss=1.5"], 1):
            if after is None or number > int(after):
                yield LogRecord(LogCursor(str(number)), 60_000 * (MINUTE + number // 4), line)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(tmp_path / "rows.db")
    yield made
    made.close()


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as made:
        yield made


def deploy(store: Database, *workloads: Mapping[str, str]) -> None:
    """An endpoint with one instance for each of `workloads` (container → workload)."""
    moment = to_text(NOW)
    instances = tuple(
        Instance(f"i{number}", "v", each, {}, endpoint.READY, moment) for number, each in enumerate(workloads)
    )
    plan = Plan("config", ())
    status = EndpointStatus(fleets=(Fleet("r1-x", 1, plan, instances, moment),), serving="r1-x")
    at = endpoint.key(DEFAULT_ACCOUNT, Region("eu-west-1"), "e")
    spec = EndpointSpec("config", plan)
    store.write(lambda tx: tx.insert(at, spec.to_row(), status.to_row(), "InService", now=NOW, wake=False))


def stored(store: Database) -> dict[tuple[str, int], Samples]:
    def read(tx):  # a transaction
        return {
            (known.metric.name, minute): samples
            for known in rows.browse(tx)
            for minute, samples in rows.read(tx, known.id, 0, 1 << 40)
        }

    return store.read(read)


async def test_each_instance_is_one_sample_of_its_variant(store: Database, threads: ThreadPoolExecutor) -> None:
    deploy(store, {"primary": "a"}, {"first": "b", "second": "c"}, {"primary": "gone"})
    backend = Backend(a=Usage(150, 10), b=Usage(20, 30), c=Usage(10, 5))
    await UsageWatch(store, [backend], threads, Clock()).look()  # all that it needs
    assert stored(store) == {
        ("CPUUtilization", MINUTE): Samples.of(150, 30),
        ("MemoryUtilization", MINUTE): Samples.of(10, 35),
    }
    [cpu, _] = store.read(lambda tx: [known.metric for known in rows.browse(tx)])
    assert (cpu.namespace, cpu.unit, cpu.region) == ("/aws/sagemaker/Endpoints", "Percent", "eu-west-1")
    assert cpu.dimensions == (("EndpointName", "e"), ("VariantName", "v"))


async def test_an_instance_of_which_a_part_is_unknown_gives_no_sample(
    store: Database, threads: ThreadPoolExecutor
) -> None:
    deploy(store, {"first": "b", "second": "c"})
    down = Backend(c=Usage(1, 1))
    down.down = True
    watch = UsageWatch(store, [Backend(b=Usage(1, 1)), down, object()], threads, Clock())
    await watch.look()
    assert stored(store) == {}


def test_values_are_taken_once_and_by_their_whole_minute() -> None:
    metrics = Metrics([("loss", "loss=(.*)")])
    metrics.read(b"loss=1", 60_000)
    assert metrics.changed
    assert metrics.take() == {("loss", 1): Samples.of(1)}
    assert not metrics.changed
    metrics.read(b"loss=2", 60_001)
    metrics.read(b"nothing", 60_002)
    assert metrics.take() == {("loss", 1): Samples.of(1, 2)}


def test_only_training_jobs_have_such_metrics(store: Database) -> None:
    MetricStore(store).save("/aws/sagemaker/Endpoints/e", "v/i", {("loss", 1): Samples.of(1)})
    assert stored(store) == {}


async def test_a_jobs_metrics_are_stored_by_the_time_its_log_is_and_once_however_often_it_is_read(
    tmp_path: Path, store: Database, threads: ThreadPoolExecutor
) -> None:
    target = LogTarget(WorkloadId("w"), GROUP, "job/algo-1-1", (("train:loss", "loss=(.*)"),))
    expected = {("train:loss", MINUTE): Samples.of(0.5, 0.25), ("train:loss", MINUTE + 1): Samples.of(1.5)}
    for _ in range(2):  # the second is after a restart: the lines are in the stream, and are read again
        over = asyncio.Event()
        copier = LogCopier(
            LogStreams(tmp_path / "streams"), threads, lambda _, over=over: over.set(), metrics=MetricStore(store)
        )
        copier.follow(target, Backend(), exited=True)  # all that it needs
        await asyncio.wait_for(over.wait(), 20)
        assert copier.state(target.workload).drained
        await copier.aclose()
        assert stored(store) == expected
    [known] = store.read(lambda tx: list(rows.browse(tx, Region("anywhere"))))
    assert known.metric.dimensions == (("TrainingJobName", "job"),)


def transform(store: Database, name: str, state: str, at: datetime, *workloads: str, **progress: float) -> None:
    instances = tuple({"id": f"i-{number}", "workloads": {"primary": each}} for number, each in enumerate(workloads))
    status = TransformStatus(instances=instances, progress=progress)
    key = transform_job.key(DEFAULT_ACCOUNT, Region("eu-west-1"), name)
    store.write(lambda tx: tx.insert(key, {}, status.to_row(), state, now=at, wake=False))


async def test_a_transform_jobs_instances_are_hosts_and_its_progress_is_ours(
    store: Database, threads: ThreadPoolExecutor
) -> None:
    transform(store, "runs", "InProgress", NOW - timedelta(hours=1), "a", "b", records=7, records_per_second=0.5)
    transform(store, "just-ended", "Completed", NOW - timedelta(seconds=30), "c", records=9, seconds_left=0)
    transform(store, "ended", "Completed", NOW - timedelta(hours=1), "d", records=9)
    backend = Backend(a=Usage(150, 10), b=Usage(20, 30), c=Usage(1, 1), d=Usage(1, 1))
    await UsageWatch(store, [backend], threads, Clock()).look()  # all that it needs
    known = store.read(lambda tx: [each.metric for each in rows.browse(tx)])
    hosts = {each.dimensions for each in known if each.namespace == "/aws/sagemaker/TransformJobs"}
    assert hosts == {(("Host", "runs/i-0"),), (("Host", "runs/i-1"),)}
    progress = {(each.dimensions[0][1], each.name, each.unit) for each in known if each.namespace == "Sagewright"}
    assert progress == {
        ("runs", "TransformRecords", "Count"),
        ("runs", "TransformRecordsPerSecond", "Count/Second"),
        ("just-ended", "TransformRecords", "Count"),
    }
    [minute] = {minute for _, minute in stored(store)}
    assert minute == MINUTE


async def test_each_host_of_a_training_job_is_a_sample_of_its_own(store: Database, threads: ThreadPoolExecutor) -> None:
    asked = {"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 3}}
    for name, state, workloads in (("t", "InProgress", ("a", "b", "c")), ("over", "Completed", ("d",))):
        at = training_job.key(DEFAULT_ACCOUNT, Region("eu-west-1"), name)
        spec, status = TrainingSpec(asked, {"name": "x"}), TrainingStatus(workloads=workloads)
        store.write(lambda tx: tx.insert(at, spec.to_row(), status.to_row(), state, now=NOW, wake=False))  # noqa: B023
    backend = Backend(a=Usage(150, 10), b=Usage(20, 30), d=Usage(1, 1))
    await UsageWatch(store, [backend], threads, Clock()).look()  # type: ignore[list-item]  # all that it needs
    metrics = store.read(lambda tx: [known.metric for known in rows.browse(tx)])
    assert {each.namespace for each in metrics} == {GROUP}
    assert sorted((each.name, each.dimensions) for each in metrics) == [
        (name, (("Host", f"t/{host}"),))
        for name in ("CPUUtilization", "MemoryUtilization")
        for host in ("algo-1", "algo-2")
    ]
