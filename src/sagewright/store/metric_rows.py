"""Metrics as rows: what was counted, per metric and minute. For gateways, controllers and the CloudWatch service.

Owns: merging into a minute, reading stretches of minutes, listing, making old points coarser. Does not own: what is
measured, AWS's rules (`services.cloudwatch`).

Writers never overlap, because write transactions are serialised; so reading, adding and writing back is a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

import orjson
from sqlalchemy import delete, func, insert, select, update

from sagewright.core.ids import Region
from sagewright.core.samples import Samples
from sagewright.store.metric_tables import metrics, points
from sagewright.store.resources import Tx

Dimensions: TypeAlias = tuple[tuple[str, str], ...]

EVERYWHERE: Final = Region("")
"""The region of what is not tied to one (the metrics of training jobs, as their log streams)."""

KEPT: Final = ((timedelta(days=15), 5), (timedelta(days=63), 60))
"""As on AWS: points older than this become one per so many minutes."""
OLDEST: Final = timedelta(days=455)
_AT_ONCE: Final = 1000  # points made coarser in one transaction
_BATCH: Final = 200


@dataclass(frozen=True, slots=True)
class Metric:
    """`dimensions` are sorted (`dimensions_of`). `unit` is CloudWatch's word; "None" is one of them."""

    namespace: str
    name: str
    dimensions: Dimensions
    unit: str = "None"
    region: Region = EVERYWHERE


@dataclass(frozen=True, slots=True)
class Known:
    """A metric with its row: `last` is the minute of its newest point, `samples` and so on are since the beginning."""

    id: int
    metric: Metric
    last: int
    samples: float
    total: float
    buckets: Mapping[float, float]


Points: TypeAlias = Mapping[tuple[Metric, int], Samples]  # (metric, minute) → what was counted


def dimensions_of(pairs: Iterable[tuple[str, str]]) -> Dimensions:
    return tuple(sorted(pairs))


def minute_of(moment: datetime) -> int:
    return int(moment.timestamp() // 60)


def add(tx: Tx, new: Points) -> None:
    """Count on."""
    for (metric, minute), samples in new.items():
        if not samples.count:
            continue
        known = _ensure(tx, metric)
        merged = _point(tx, known.id, minute)
        is_new = merged is None
        merged = merged or Samples()
        merged.merge(samples)
        _put(tx, known.id, minute, merged, is_new=is_new)
        _touch(tx, known, minute, samples)


def replace(tx: Tx, whole: Points) -> None:
    """These are all there is of these minutes: writing them again changes nothing. Does not count for totals."""
    for (metric, minute), samples in whole.items():
        known = _ensure(tx, metric)
        _put(tx, known.id, minute, samples, is_new=_point(tx, known.id, minute) is None)
        _touch(tx, known, minute, Samples())


def find(tx: Tx, region: Region, namespace: str, name: str, dimensions: Dimensions) -> Sequence[Known]:
    """One per unit."""
    statement = _known(region).where(
        metrics.c.namespace == namespace, metrics.c.name == name, metrics.c.dimensions == _text(dimensions)
    )
    return [_to_known(row) for row in tx.connection.execute(statement)]


def read(tx: Tx, metric: int, start: int, end: int) -> Iterator[tuple[int, Samples]]:
    """Points of the minutes from `start` up to `end`, in order."""
    statement = select(points).where(points.c.metric_id == metric, points.c.minute >= start, points.c.minute < end)
    for row in tx.connection.execute(statement.order_by(points.c.minute)):
        yield row.minute, _to_samples(row)


def browse(
    tx: Tx,
    region: Region | None = None,
    *,
    namespace: str | None = None,
    name: str | None = None,
    since: int = 0,
    after: int = 0,
) -> Iterator[Known]:
    """Metrics with points since that minute, in the order in which they came up, after the one with id `after`.
    `region` None: of all regions."""
    wanted = _known(region).where(metrics.c.last_minute >= since).order_by(metrics.c.id).limit(_BATCH)
    if namespace is not None:
        wanted = wanted.where(metrics.c.namespace == namespace)
    if name is not None:
        wanted = wanted.where(metrics.c.name == name)
    while rows := tx.connection.execute(wanted.where(metrics.c.id > after)).fetchall():
        yield from map(_to_known, rows)
        after = rows[-1].id


def thin(tx: Tx, now: datetime) -> bool:
    """Make some old points coarser and drop the oldest. True when there is more to do."""
    for table, last in ((points, points.c.minute), (metrics, metrics.c.last_minute)):
        tx.connection.execute(delete(table).where(last < minute_of(now - OLDEST)))
    more = [_thin(tx, minute_of(now - age), step) for age, step in KEPT]
    return any(more)


def _thin(tx: Tx, before: int, step: int) -> bool:
    fine = select(points).where(points.c.minute < before, points.c.minute % step != 0).limit(_AT_ONCE)
    rows = tx.connection.execute(fine).fetchall()
    coarse: dict[tuple[int, int], Samples] = {}
    for row in rows:
        coarse.setdefault((row.metric_id, row.minute - row.minute % step), Samples()).merge(_to_samples(row))
        at = (points.c.metric_id == row.metric_id, points.c.minute == row.minute)
        tx.connection.execute(delete(points).where(*at))
    for (metric, minute), samples in coarse.items():
        there = _point(tx, metric, minute)
        if there is not None:
            samples.merge(there)
        _put(tx, metric, minute, samples, is_new=there is None)
    return len(rows) == _AT_ONCE


def _ensure(tx: Tx, metric: Metric) -> Known:
    identity = {
        "region": metric.region,
        "namespace": metric.namespace,
        "name": metric.name,
        "dimensions": _text(metric.dimensions),
        "unit": metric.unit,
    }
    statement = select(metrics).where(*(metrics.c[name] == value for name, value in identity.items()))
    row = tx.connection.execute(statement).fetchone()
    if row is not None:
        return _to_known(row)
    fresh = identity | {"last_minute": 0, "samples": 0.0, "total": 0.0, "buckets": "{}"}
    tx.connection.execute(insert(metrics).values(fresh))
    made = tx.connection.execute(select(func.max(metrics.c.id))).scalar_one()
    return Known(made, metric, 0, 0.0, 0.0, {})


def _touch(tx: Tx, known: Known, minute: int, samples: Samples) -> None:
    buckets = dict(known.buckets)
    for each, count in samples.buckets.items():
        buckets[each] = buckets.get(each, 0.0) + count
    changed = {
        "last_minute": max(known.last, minute),
        "samples": known.samples + samples.count,
        "total": known.total + samples.total,
        "buckets": _buckets_text(buckets),
    }
    tx.connection.execute(update(metrics).where(metrics.c.id == known.id).values(changed))


def _point(tx: Tx, metric: int, minute: int) -> Samples | None:
    at = (points.c.metric_id == metric, points.c.minute == minute)
    row = tx.connection.execute(select(points).where(*at)).fetchone()
    return None if row is None else _to_samples(row)


def _put(tx: Tx, metric: int, minute: int, samples: Samples, *, is_new: bool) -> None:
    values = {
        "samples": samples.count,
        "total": samples.total,
        "least": samples.least,
        "most": samples.most,
        "buckets": _buckets_text(samples.buckets),
    }
    if is_new:
        tx.connection.execute(insert(points).values(metric_id=metric, minute=minute, **values))
    else:
        at = (points.c.metric_id == metric, points.c.minute == minute)
        tx.connection.execute(update(points).where(*at).values(values))


def _known(region: Region | None) -> Any:
    statement = select(metrics)
    return statement if region is None else statement.where(metrics.c.region.in_((region, EVERYWHERE)))


def _to_known(row: Any) -> Known:
    dimensions = tuple((name, value) for name, value in orjson.loads(row.dimensions))
    metric = Metric(row.namespace, row.name, dimensions, row.unit, Region(row.region))
    return Known(row.id, metric, row.last_minute, row.samples, row.total, _buckets(row.buckets))


def _to_samples(row: Any) -> Samples:
    return Samples(row.samples, row.total, row.least, row.most, _buckets(row.buckets))


def _text(dimensions: Dimensions) -> str:
    return orjson.dumps(dimensions).decode()


def _buckets(text: str) -> dict[float, float]:
    return {float(each): count for each, count in orjson.loads(text).items()}


def _buckets_text(buckets: Mapping[float, float]) -> str:
    return orjson.dumps({repr(each): count for each, count in buckets.items()}).decode()
