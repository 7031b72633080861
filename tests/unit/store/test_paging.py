"""Every list is found on an index that holds all it filters by: no list reads rows that it does not return."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.dialects import sqlite

from sagewright.store import paging
from sagewright.store.db import Database
from sagewright.store.resources import Query, SortBy
from sagewright.store.rows import Prepared
from sagewright.store.tables import resources
from suites.store_suite import ACCOUNT, KIND, REGION, at


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "rows.db")
    yield opened
    opened.close()


def plan(store: Database, query: Query, driver: SortBy | None = None) -> list[str]:
    values = paging.values(query)
    shape = paging.shape(query, values)
    if driver is not None:
        shape = shape.driven_by(driver)
    statement = Prepared(paging.page(shape, sqlite.dialect(), list(resources.c)), sqlite.dialect())
    order = statement._order or ()
    parameters = [(statement._constants | values)[name] for name in order]
    sql = f"EXPLAIN QUERY PLAN {statement.sql}"
    found = store.read(lambda tx: tx.connection.exec_driver_sql(sql, tuple(parameters)).all())
    return [row[3] for row in found]


BOUNDS = ({}, {"created_after": at(1)}, {"changed_before": at(9)}, {"created_after": at(1), "changed_before": at(9)})


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort_by", list(SortBy))
@pytest.mark.parametrize("state", [None, "Failed"])
@pytest.mark.parametrize("bounds", BOUNDS)
def test_a_list_in_its_own_order_walks_one_covering_index_and_sorts_nothing(
    store: Database, sort_by: SortBy, descending: bool, state: str | None, bounds: dict[str, object]
) -> None:
    for more in ({}, {"name_contains": "x"}, {"after": ("x",) if sort_by is SortBy.NAME else ("x", "y")}):
        query = Query(KIND, ACCOUNT, REGION, sort_by=sort_by, descending=descending, state=state, **bounds, **more)
        steps = plan(store, query)
        inner = steps[steps.index("MATERIALIZE page") + 1 : steps.index("SCAN page")]
        assert len(inner) == 1, steps
        assert "USING COVERING INDEX" in inner[0]
        assert ("state=?" in inner[0]) == (state is not None)


@pytest.mark.parametrize("driver", [SortBy.CREATED, SortBy.CHANGED])
@pytest.mark.parametrize("state", [None, "Failed"])
def test_a_list_driven_by_a_moment_seeks_to_it(store: Database, driver: SortBy, state: str | None) -> None:
    bounds = {"created_after": at(1), "changed_after": at(2)}
    query = Query(KIND, ACCOUNT, REGION, sort_by=SortBy.NAME, state=state, **bounds)
    inner = plan(store, query, driver)[1]
    assert "USING COVERING INDEX" in inner
    assert f"{driver.value}>?" in inner


def test_waking_reads_only_what_is_awake(store: Database) -> None:
    for statement in (paging.due(2, sqlite.dialect()), paging.next_wake(2, sqlite.dialect())):
        prepared = Prepared(statement, sqlite.dialect())
        sql, order = f"EXPLAIN QUERY PLAN {prepared.sql}", prepared._order or ()
        parameters = tuple(prepared._constants.get(name, 1) for name in order)
        steps = [row[3] for row in store.read(lambda tx: tx.connection.exec_driver_sql(sql, parameters).all())]  # noqa: B023 - runs at once
        assert len(steps) == 1, steps
        assert "COVERING INDEX resources_by_wake (wake_at" in steps[0]
