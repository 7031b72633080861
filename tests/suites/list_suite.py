"""Lists as every store gives them: filters, order and pages of `store.resources.Query` as tests."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sagewright.core.ids import Account, Region
from sagewright.store.db import Database
from sagewright.store.resources import Query, Resource, SortBy, Tx
from suites.store_suite import ACCOUNT, KIND, OTHER_KIND, REGION, OpenStore, add, at, key


class ListSuite:
    @pytest.fixture
    def store(self, open_store: OpenStore) -> Database:
        return open_store()

    @pytest.fixture
    def rows(self, store: Database) -> list[Resource]:
        return list(_rows(store))

    @pytest.mark.parametrize("sort_by", list(SortBy))
    @pytest.mark.parametrize("descending", [False, True])
    def test_every_list_is_what_filtering_and_sorting_in_memory_gives(
        self, store: Database, rows: list[Resource], sort_by: SortBy, descending: bool
    ) -> None:
        for filters in _filters():
            query = Query(KIND, ACCOUNT, REGION, sort_by=sort_by, descending=descending, limit=7, **filters)
            assert list(_walk(store, query)) == _expected(rows, query), filters

    def test_a_page_of_one_walks_over_ties(self, store: Database, rows: list[Resource]) -> None:
        query = Query(KIND, ACCOUNT, REGION, sort_by=SortBy.STATE, descending=True, limit=1)
        assert list(_walk(store, query)) == _expected(rows, query)

    def test_the_last_page_has_no_next(self, store: Database) -> None:
        for name in "abc":
            add(store, name)
        query = Query(KIND, ACCOUNT, REGION, sort_by=SortBy.NAME, descending=False, limit=3)
        assert store.read(lambda tx: tx.page(query)).next is None
        assert store.read(lambda tx: tx.page(replace(query, limit=2))).next == ("b",)

    def test_walking_goes_on_when_the_row_it_stopped_at_is_removed(self, store: Database) -> None:
        made = {name: add(store, name, second=number) for number, name in enumerate("abcd")}
        query = Query(KIND, ACCOUNT, REGION, descending=False, limit=2)
        first = store.read(lambda tx: tx.page(query))
        store.write(lambda tx: tx.remove(made["b"]))
        rest = store.read(lambda tx: tx.page(replace(query, after=first.next)))
        assert [each.key.name for each in rest.items] == ["c", "d"]

    @pytest.mark.parametrize(
        ("contains", "found"),
        [
            ("%", ["a%b"]),
            ("_", ["a_b"]),
            ("A", ["A-b"]),
            ("a", ["a%b", "a_b"]),
            ("", ["A-b", "a%b", "a_b"]),
            ("ab", []),
        ],
    )
    def test_name_contains_is_literal_and_case_sensitive(
        self, store: Database, contains: str, found: list[str]
    ) -> None:
        for name in ("a%b", "a_b", "A-b"):
            add(store, name)
        query = Query(KIND, ACCOUNT, REGION, name_contains=contains, sort_by=SortBy.NAME, descending=False)
        assert [each.key.name for each in store.read(lambda tx: tx.page(query)).items] == found

    def test_bounds_may_lie_anywhere_in_time(self, store: Database) -> None:
        add(store, "a")
        far = {"created_after": datetime(1, 1, 1, tzinfo=UTC), "changed_before": datetime(9999, 12, 31, tzinfo=UTC)}
        assert store.read(lambda tx: tx.page(Query(KIND, ACCOUNT, REGION, **far))).items

    @pytest.mark.parametrize(("limit", "after"), [(0, None), (-1, None), (1, ("a",)), (1, ("a", "b", "c"))])
    def test_a_senseless_question_is_an_error(self, store: Database, limit: int, after: tuple[str, ...] | None) -> None:
        with pytest.raises(ValueError):
            store.read(lambda tx: tx.page(Query(KIND, ACCOUNT, REGION, limit=limit, after=after)))


def _rows(store: Database) -> Iterator[Resource]:
    """Sixty rows with many ties, in an order that is no list's, and some that no list may show."""
    chance = random.Random(7)

    def fill(tx: Tx) -> Iterator[Resource]:
        for number in range(60):
            name = f"{chance.choice('aAbé')}-{number}"
            made = tx.insert(key(name), {}, {}, "New", now=at(chance.randrange(6)), wake=False)
            state, later = chance.choice(["Done", "Failed", "InProgress"]), chance.randrange(5)
            moment = made.created_at + timedelta(seconds=later)
            yield tx.update_status(made, {}, state, now=moment, wake_at=None)
        for hidden in (
            key("a-1", OTHER_KIND),
            key("a-1", account=Account("1" * 12)),
            key("a-1", region=Region("eu-west-1")),
        ):
            tx.insert(hidden, {}, {}, "Done", now=at(2), wake=False)

    return iter(store.write(lambda tx: list(fill(tx))))


def _filters() -> Iterator[dict[str, Any]]:
    """No filter, each alone, and each with each."""
    single: list[dict[str, Any]] = [{"state": "Done"}, {"state": "None"}, {"name_contains": "-1"}]
    bounds = ("created_after", "created_before", "changed_after", "changed_before")
    single += [{name: at(second)} for name in bounds for second in (-1, 2, 4)]
    yield {}
    yield from single
    for one, other in itertools.combinations(single, 2):
        if one.keys() != other.keys():
            yield one | other


def _expected(rows: list[Resource], query: Query) -> list[Resource]:
    def wanted(row: Resource) -> bool:
        return (
            (query.state is None or row.state == query.state)
            and (query.name_contains or "") in row.key.name
            and (query.created_after is None or row.created_at > query.created_after)
            and (query.created_before is None or row.created_at < query.created_before)
            and (query.changed_after is None or row.changed_at > query.changed_after)
            and (query.changed_before is None or row.changed_at < query.changed_before)
        )

    def place(row: Resource) -> tuple[Any, bytes]:
        name = row.key.name.encode()
        return (name if query.sort_by is SortBy.NAME else getattr(row, query.sort_by.value)), name

    return sorted(filter(wanted, rows), key=place, reverse=query.descending)


def _walk(store: Database, query: Query) -> Iterator[Resource]:
    while True:
        page = store.read(lambda tx: tx.page(query))  # noqa: B023 - runs at once
        assert len(page.items) <= query.limit
        yield from page.items
        if page.next is None:
            return
        query = replace(query, after=page.next)
