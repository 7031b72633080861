"""Metrics as rows: merged by the minute, written whole, made coarser when old."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.core.ids import Region
from sagewright.core.samples import Samples
from sagewright.store import metric_rows as rows
from sagewright.store.db import Database
from sagewright.store.metric_rows import Metric

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
MINUTE = rows.minute_of(NOW)
HERE = Region("us-east-1")
LATENCY = Metric("AWS/SageMaker", "ModelLatency", rows.dimensions_of((("b", "2"), ("a", "1"))), "Microseconds", HERE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    made = Database.open(tmp_path / "rows.db")
    yield made
    made.close()


def add(store: Database, minute: int, *values: float, metric: Metric = LATENCY) -> None:
    store.write(lambda tx: rows.add(tx, {(metric, minute): Samples.of(*values)}))


def points(store: Database, metric: Metric = LATENCY) -> dict[int, Samples]:
    def read(tx: object) -> dict[int, Samples]:
        found = rows.find(tx, metric.region, metric.namespace, metric.name, metric.dimensions)
        return dict(rows.read(tx, found[0].id, 0, MINUTE + 200)) if found else {}

    return store.read(read)


def test_values_of_one_minute_are_merged(store: Database) -> None:
    add(store, MINUTE, 5, 7)
    add(store, MINUTE, 1)
    add(store, MINUTE + 1, 9)
    found = points(store)
    assert found[MINUTE] == Samples.of(5, 7, 1)
    assert found[MINUTE + 1] == Samples.of(9)


def test_the_order_of_dimensions_does_not_matter(store: Database) -> None:
    add(store, MINUTE, 5)
    [known] = store.read(lambda tx: rows.find(tx, HERE, "AWS/SageMaker", "ModelLatency", (("a", "1"), ("b", "2"))))
    assert known.metric == LATENCY


def test_totals_go_up_and_never_back(store: Database) -> None:
    add(store, MINUTE, 5, 7)
    add(store, MINUTE + 1, 1)
    store.write(lambda tx: rows.thin(tx, NOW + timedelta(days=400)))
    [known] = store.read(lambda tx: list(rows.browse(tx)))
    assert (known.samples, known.total, known.last) == (3, 13, MINUTE + 1)
    assert known.buckets == Samples.of(5, 7, 1).buckets


def test_what_is_older_than_aws_keeps_it_is_gone(store: Database) -> None:
    add(store, MINUTE, 5, 7)
    store.write(lambda tx: rows.thin(tx, NOW + timedelta(days=456)))
    assert store.read(lambda tx: list(rows.browse(tx))) == []
    assert points(store) == {}


def test_a_minute_written_whole_again_stays_the_same(store: Database) -> None:
    for _ in range(2):
        store.write(lambda tx: rows.replace(tx, {(LATENCY, MINUTE): Samples.of(1, 2)}))
    assert points(store) == {MINUTE: Samples.of(1, 2)}


def test_one_region_does_not_see_anothers_but_all_see_what_has_none(store: Database) -> None:
    add(store, MINUTE, 1)
    add(store, MINUTE, 2, metric=Metric("job", "loss", ()))
    seen = store.read(lambda tx: [known.metric.name for known in rows.browse(tx, Region("eu-west-1"))])
    assert seen == ["loss"]


def test_a_list_goes_on_after_an_id(store: Database) -> None:
    for number in range(450):
        add(store, MINUTE, 1, metric=Metric("mine", f"m{number}", (), "None", HERE))
    first = store.read(lambda tx: list(rows.browse(tx, HERE)))
    assert [each.metric.name for each in first] == [f"m{number}" for number in range(450)]
    rest = store.read(lambda tx: list(rows.browse(tx, HERE, after=first[300].id)))
    assert rest == first[301:]
    assert store.read(lambda tx: list(rows.browse(tx, HERE, since=MINUTE + 1))) == []


def test_old_points_become_coarser_and_say_the_same(store: Database) -> None:
    start = MINUTE - MINUTE % 60
    for minute in range(start, start + 120):
        add(store, minute, minute - start)
    store.write(lambda tx: rows.thin(tx, NOW))
    assert len(points(store)) == 120
    assert store.write(lambda tx: rows.thin(tx, NOW + timedelta(days=16))) is False
    found = points(store)
    assert sorted(found) == list(range(start, start + 120, 5))
    assert found[start + 5] == Samples.of(5, 6, 7, 8, 9)
    store.write(lambda tx: rows.thin(tx, NOW + timedelta(days=70)))
    assert points(store) == {start: Samples.of(*range(60)), start + 60: Samples.of(*range(60, 120))}
