"""From a gateway's counters to CloudWatch's metrics and to Prometheus' text."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.core.errors import StoreUnavailable
from sagewright.core.ids import DEFAULT_ACCOUNT, Region
from sagewright.core.samples import Samples
from sagewright.gateway import metrics
from sagewright.gateway.metrics import Flush
from sagewright.router.counters import Counters, floor
from sagewright.store import metric_rows as rows
from sagewright.store.db import Database
from sagewright.store.kinds import transform_job
from sagewright.store.kinds.transform_job import TransformStatus
from sagewright.store.metric_rows import Metric
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from support.front_bench import Bench

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
MINUTE = rows.minute_of(NOW)
VARIANT = (("EndpointName", "e"), ("VariantName", "v"))


class Clock:
    def now(self) -> datetime:
        return NOW


class Failing(Database):
    """A store whose disk can be full."""

    full = False

    def write(self, work):  # as the base class
        if self.full:
            raise StoreUnavailable("The disk is full.")
        return super().write(work)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Failing]:
    made = Failing.open(tmp_path / "rows.db")
    yield made
    made.close()


def count(counters: Counters, *latencies: int, errors: int = 0, instances: int = 2) -> None:
    tally = counters.of("us-east-1", "e", "v")
    for latency in latencies:
        tally.invocations += 1
        tally.per_instance += 1 / instances
        tally.model_latency.add(latency)
        tally.overhead_latency.add(100)
    tally.errors_5xx += errors
    tally.model_errors += errors


def flush(counters: Counters, store: Database) -> Flush:
    return Flush(counters.take, floor, store, Clock())


def stored(store: Database) -> dict[str, Samples]:
    def read(tx):  # a transaction
        return {
            each.metric.name: samples
            for each in rows.browse(tx)
            for _, samples in rows.read(tx, each.id, MINUTE, MINUTE + 1)
        }

    return store.read(read)


def text(store: Database, now: datetime = NOW) -> str:
    return store.read(lambda tx: metrics.exposition(tx, now))


def value(exposed: str, line: str) -> float:
    [found] = [each for each in exposed.splitlines() if each.startswith(f"{line} ")]
    return float(found.rpartition(" ")[2])


def test_every_metric_of_an_endpoint_has_awss_name_unit_and_dimensions(store: Failing) -> None:
    counters = Counters()
    count(counters, 1000, 3000, errors=1)
    flush(counters, store).finish()
    known = store.read(lambda tx: {each.metric.name: each.metric for each in rows.browse(tx)})
    assert set(known) == {
        "Invocations",
        "InvocationsPerInstance",
        "Invocation4XXErrors",
        "Invocation5XXErrors",
        "InvocationModelErrors",
        "ModelLatency",
        "OverheadLatency",
    }
    assert {each.namespace for each in known.values()} == {"AWS/SageMaker"}
    assert {each.dimensions for each in known.values()} == {VARIANT}
    assert {each.unit for name, each in known.items() if "Latency" in name} == {"Microseconds"}
    assert {each.unit for name, each in known.items() if "Latency" not in name} == {"None"}
    assert {each.region for each in known.values()} == {"us-east-1"}


def test_each_request_is_one_sample(store: Failing) -> None:
    counters = Counters()
    count(counters, 1000, 3000, errors=1)
    flush(counters, store).finish()
    found = stored(store)
    assert (found["Invocations"].total, found["Invocations"].count) == (2, 2)
    assert (found["InvocationsPerInstance"].total, found["InvocationsPerInstance"].count) == (1, 2)
    assert found["Invocation4XXErrors"].average == 0
    assert found["Invocation5XXErrors"].average == 0.5
    assert (found["Invocation5XXErrors"].least, found["Invocation5XXErrors"].most) == (0, 1)
    latency = found["ModelLatency"]
    assert (latency.total, latency.least, latency.most) == (4000, 1000, 3000)
    assert latency.percentile(100) == 3000


def test_containers_of_a_pipeline_have_their_own_latency(store: Failing) -> None:
    counters = Counters()
    counters.of("us-east-1", "e", "v", "first").model_latency.add(7)
    flush(counters, store).finish()
    [known] = store.read(lambda tx: list(rows.browse(tx)))
    assert known.metric == Metric(
        "AWS/SageMaker",
        "ContainerLatency",
        (("ContainerName", "first"), *VARIANT),
        "Microseconds",
        Region("us-east-1"),
    )


def test_gateways_add_up_in_one_minute(store: Failing) -> None:
    for _ in range(3):
        counters = Counters()
        count(counters, 10)
        flush(counters, store).finish()
    assert stored(store)["Invocations"].total == 3


async def test_nothing_is_lost_nor_counted_twice_while_the_disk_is_full(store: Failing) -> None:
    counters = Counters()
    running = Flush(counters.take, floor, store, Clock(), every=0.01)
    running._every = 0.01
    store.full = True
    count(counters, 10)
    running.start()
    deadline = asyncio.get_running_loop().time() + 20
    while not running._refused:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
    count(counters, 10, 10)
    store.full = False
    while not stored(store) or stored(store)["Invocations"].total < 3:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)
    assert running._task is not None
    running._task.cancel()
    await asyncio.gather(running._task, return_exceptions=True)
    count(counters, 10)
    running.finish()
    assert stored(store)["Invocations"].total == 4


def test_prometheus_reads_sums_since_the_beginning(store: Failing) -> None:
    for moment in (1000, 3000):
        counters = Counters()
        count(counters, moment, errors=1)
        counters.of("us-east-1", "e", "v").throttled += 2
        flush(counters, store).finish()
    found = text(store)
    labels = 'region="us-east-1",endpoint="e",variant="v"'
    assert value(found, f"sagewright_invocations_total{{{labels}}}") == 2
    assert value(found, f"sagewright_invocation_5xx_errors_total{{{labels}}}") == 2
    assert value(found, f"sagewright_invocations_throttled_total{{{labels}}}") == 4
    assert value(found, f"sagewright_model_latency_seconds_sum{{{labels}}}") == pytest.approx(0.004)
    assert value(found, f"sagewright_model_latency_seconds_count{{{labels}}}") == 2
    assert value(found, f'sagewright_model_latency_seconds_bucket{{{labels},le="0.0025"}}') == 1
    assert value(found, f'sagewright_model_latency_seconds_bucket{{{labels},le="+Inf"}}') == 2


def test_the_text_is_what_prometheus_parses(store: Failing) -> None:
    counters = Counters()
    counters.of("us-east-1", 'a"b\\c\nd', "v").invocations += 1
    count(counters, 5)
    flush(counters, store).finish()
    found = text(store)
    sample = re.compile(r'[a-z_][a-z0-9_]*\{([a-z]+="([^"\\\n]|\\["\\n])*",?)+\} [0-9.e+-]+')
    typed = set()
    for line in found.splitlines():
        if line.startswith("# TYPE"):
            assert line not in typed, "each family once"
            typed.add(line)
        assert line.startswith("# ") or sample.fullmatch(line), line
    assert found.endswith("\n")


def test_a_gauge_is_of_the_last_minute_and_gone_when_it_is_old(store: Failing) -> None:
    metric = Metric("/aws/sagemaker/Endpoints", "CPUUtilization", VARIANT, "Percent", Region("us-east-1"))
    store.write(
        lambda tx: rows.add(tx, {(metric, MINUTE - 1): Samples.of(150, 50), (metric, MINUTE - 2): Samples.of(9)})
    )
    assert " 100\n" in text(store)
    assert text(store, NOW + timedelta(minutes=10)) == ""


# who may ask


def request(path: str = "/metrics", query: str = "", client: str = "127.0.0.1", **headers: str) -> HttpRequest:
    return HttpRequest("GET", path, query, Headers([("host", "here"), *headers.items()]), b"", client=client)


@pytest.mark.parametrize(
    ("asked", "is_ours"),
    [
        (request(), True),
        (request("/metrics/key"), False),
        (request(authorization="AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, x"), False),
        (request(authorization="AWS AKIA:signature"), False),
        (request(query="X-Amz-Credential=A%2F20260101%2Fus-east-1%2Fs3%2Faws4_request"), False),
        (request(authorization="AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/monitoring/aws4_request, x"), True),
        (replace(request(), method="PUT"), False),
    ],
)
def test_a_bucket_named_metrics_stays_a_bucket(asked: HttpRequest, is_ours: bool) -> None:
    assert metrics.is_asked(asked) is is_ours


async def test_this_machine_asks_without_a_signature_and_nobody_else_does(
    tmp_path: Path, store: Failing, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = Counters()
    count(counters, 5)
    flush(counters, store).finish()
    bench = Bench(tmp_path / "bench", max_body=10_000)
    monkeypatch.setattr(bench.gateway, "_store", store)
    try:
        here = await bench.gateway.handle(request())
        there = await bench.gateway.handle(request(client="192.0.2.9"))
    finally:
        bench.listener.close()
        bench.gateway.close()
    assert (here.status, there.status) == (200, 403)
    assert (here.headers.get("content-type") or "").startswith("text/plain; version=0.0.4")
    assert _body(here).startswith(b"# HELP sagewright_invocations_total")


def _body(response: HttpResponse) -> bytes:
    assert isinstance(response.body, bytes)
    return response.body


def test_transform_jobs_that_run_and_that_have_just_ended_tell_how_far_they_are(store: Failing) -> None:
    def job(name: str, state: str, at: datetime, **progress: float) -> None:
        key = transform_job.key(DEFAULT_ACCOUNT, Region("us-east-1"), name)
        status = TransformStatus(progress=progress).to_row()
        store.write(lambda tx: tx.insert(key, {}, status, state, now=at, wake=False))

    job("runs", "InProgress", NOW - timedelta(days=2), objects=2, objects_total=3, records=1_000_000, seconds_left=None)
    job("ended", "Completed", NOW - timedelta(days=1), records=5)
    job("new", "InProgress", NOW)
    exposed = text(store)
    labels = '{region="us-east-1",job="runs"}'
    assert value(exposed, f"sagewright_transform_objects_done{labels}") == 2
    assert value(exposed, f"sagewright_transform_objects{labels}") == 3
    assert value(exposed, f"sagewright_transform_records_done{labels}") == 1_000_000
    assert "seconds_left" not in exposed
    assert "ended" not in exposed
    assert exposed.count("# TYPE sagewright_transform_records_done gauge") == 1
