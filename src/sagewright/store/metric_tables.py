"""The tables of metrics, on the same `metadata` as the other tables.

    metrics ──< metric_points       one point per metric and minute: what was counted, not the single values

Owns: columns and indexes. Does not own: statements and meaning (`store.metric_rows`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, PrimaryKeyConstraint, Table, Text

from sagewright.store.tables import BYTEWISE, metadata

_Double: Final = Float(53)

metrics: Final = Table(
    "metrics",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("region", BYTEWISE, nullable=False),  # empty: seen from every region
    Column("namespace", BYTEWISE, nullable=False),
    Column("name", BYTEWISE, nullable=False),
    Column("dimensions", BYTEWISE, nullable=False),  # JSON [[name, value], ...], sorted
    Column("unit", BYTEWISE, nullable=False),
    Column("last_minute", BigInteger, nullable=False),
    # Since the beginning, for counters that never go back.
    Column("samples", _Double, nullable=False),
    Column("total", _Double, nullable=False),
    Column("buckets", Text, nullable=False),
    sqlite_autoincrement=True,  # an id is never given to a second metric, so that pages of a list do not shift
)
_c = metrics.c
Index("metrics_by_identity", _c.namespace, _c.name, _c.dimensions, _c.unit, _c.region, unique=True)

points: Final = Table(
    "metric_points",
    metadata,
    Column("metric_id", Integer, nullable=False),
    Column("minute", BigInteger, nullable=False),  # minutes since the epoch
    Column("samples", _Double, nullable=False),
    Column("total", _Double, nullable=False),
    Column("least", _Double, nullable=False),
    Column("most", _Double, nullable=False),
    Column("buckets", Text, nullable=False),
    PrimaryKeyConstraint("metric_id", "minute"),
    sqlite_with_rowid=False,  # a question reads one stretch of one tree
)
Index("metric_points_by_minute", points.c.minute)

ALL: Final = (metrics, points)
