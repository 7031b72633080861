"""Lists: one page of a Query, found on an index, from where the previous page ended (keyset, never OFFSET).

Owns: the statements of lists and of waking, and the choice of the index that drives a list.
Does not own: running them (`store.rows`), sealing a position into a token that clients hold (operations).

A list that filters by one moment and sorts by something else can be driven by either index:

    by the sort column    already in order, stops when the page is full; slow when hardly any row matches
    by a moment           reads only what matches, then sorts; slow when nearly every row matches

SQLite keeps no statistics of ours and always takes the second, which costs half a second when 100,000 rows match. So
the matches are counted first, up to FEW; a unary plus then hides the other columns from SQLite's planner.
PostgreSQL has statistics and is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Dialect, Select, bindparam, func, literal_column, or_, select, tuple_
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import custom_op

from sagewright.core.clock import to_text
from sagewright.core.ids import Kind
from sagewright.store.resources import Query, Resource, SortBy
from sagewright.store.tables import resources

FEW: Final = 4000
"""Rows. Below this, reading all matches and sorting them is fast enough (a few ms) whatever the order asked for."""

_COLUMNS: Final = {sort_by: resources.c[sort_by.value] for sort_by in SortBy}
_BOUNDS: Final = {
    SortBy.CREATED: ("created_after", "created_before"),
    SortBy.CHANGED: ("changed_after", "changed_before"),
}
_plus: Final = custom_op[Any]("+")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a list's statement depends on. `given` names the filters that are set; `driver` is the column whose index
    is walked."""

    sort_by: SortBy
    descending: bool
    given: frozenset[str]
    driver: SortBy

    def driven_by(self, column: SortBy) -> Shape:
        return replace(self, driver=column)

    @property
    def rivals(self) -> tuple[SortBy, ...]:
        """Columns that have a bound and could drive instead of the sort column."""
        return tuple(
            column for column, bounds in _BOUNDS.items() if column is not self.sort_by and self.given & set(bounds)
        )


def values(query: Query) -> dict[str, Any]:
    """The bind parameters of a list; those that are not None are the filters that are given."""
    if query.limit < 1:
        raise ValueError(f"limit must be at least 1, not {query.limit}")
    bounds = {
        "created_after": query.created_after,
        "created_before": query.created_before,
        "changed_after": query.changed_after,
        "changed_before": query.changed_before,
    }
    # created_at <= changed_at always (see `rows`), so a bound on one of them can shorten the walk along the other.
    match query.sort_by:
        case SortBy.CREATED:
            bounds["created_before"] = _earliest(query.created_before, query.changed_before)
        case SortBy.CHANGED:
            bounds["changed_after"] = _latest(query.changed_after, query.created_after)
    found: dict[str, Any] = {name: _text(moment) for name, moment in bounds.items() if moment is not None}
    found |= {"kind": query.kind, "account": query.account, "region": query.region, "limit": query.limit + 1}
    if query.state is not None:
        found["state"] = query.state
    if query.name_contains:
        found["name_contains"] = query.name_contains
    return found | _after(query)


def shape(query: Query, given: dict[str, Any]) -> Shape:
    """Rows of one state in the order of states are in the order of names."""
    sort_by = SortBy.NAME if query.sort_by is SortBy.STATE and query.state is not None else query.sort_by
    return Shape(sort_by, query.descending, frozenset(given), sort_by)


def position(query: Query, last: Resource) -> tuple[str, ...]:
    """Where the page that ends with `last` ends."""
    match query.sort_by:
        case SortBy.NAME:
            return (last.key.name,)
        case SortBy.CREATED:
            return to_text(last.created_at), last.key.name
        case SortBy.CHANGED:
            return to_text(last.changed_at), last.key.name
        case SortBy.STATE:
            return last.state, last.key.name


def page(shape: Shape, dialect: Dialect, columns: Sequence[ColumnElement[Any]]) -> Select[Any]:
    """The names of the page, found and sorted on indexes alone; then their rows. Sorting whole rows, with their JSON,
    would cost ten times as much."""
    names = _names(shape, dialect).subquery("page")
    c = resources.c
    scope = (c[name] == bindparam(name) for name in ("kind", "account", "region"))
    order = _order([_COLUMNS[shape.sort_by], c.name], descending=shape.descending)
    return select(*columns).select_from(names).where(*scope, c.name == names.c.name).order_by(*order)


def count(shape: Shape) -> Select[Any]:
    """How many rows lie within the bounds of `shape.driver`; stops counting at FEW."""
    within = _within(shape.driver, shape, _COLUMNS[shape.driver])
    matches: Select[Any] = select(literal_column("1")).select_from(resources).where(*_scope(shape), *within).limit(FEW)
    return select(func.count()).select_from(matches.subquery())


def due(kinds: int, dialect: Dialect) -> Select[Any]:
    """Keys to look at, oldest first; `kinds` is how many kinds are asked for."""
    c = resources.c
    return (
        select(c.kind, c.account, c.region, c.name)
        .where(c.wake_at <= bindparam("now"), _is_kind(kinds, dialect))
        .order_by(c.wake_at)
        .limit(bindparam("limit"))
    )


def next_wake(kinds: int, dialect: Dialect) -> Select[Any]:
    wake_at = resources.c.wake_at
    return select(wake_at).where(wake_at.is_not(None), _is_kind(kinds, dialect)).order_by(wake_at).limit(1)


def kind_values(kinds: Sequence[Kind]) -> dict[str, Any]:
    return {f"kind{index}": kind for index, kind in enumerate(kinds)}


def _names(shape: Shape, dialect: Dialect) -> Select[Any]:
    def seen(column: SortBy) -> ColumnElement[Any]:
        return _COLUMNS[column] if column is shape.driver else _hidden(_COLUMNS[column], dialect)

    order = [seen(shape.sort_by)] if shape.sort_by is SortBy.NAME else [seen(shape.sort_by), resources.c.name]
    statement = select(resources.c.name).where(*_scope(shape)).limit(bindparam("limit"))
    for column in _BOUNDS:
        statement = statement.where(*_within(column, shape, seen(column)))
    if "name_contains" in shape.given:
        statement = statement.where(_contains(dialect))
    if "after_name" in shape.given:
        last = ("after_value", "after_name")[-len(order) :]
        here, there = tuple_(*order), tuple_(*(bindparam(name) for name in last))
        statement = statement.where(here < there if shape.descending else here > there)
    return statement.order_by(*_order(order, descending=shape.descending))


def _order(columns: Sequence[ColumnElement[Any]], *, descending: bool) -> list[ColumnElement[Any]]:
    return [column.desc() if descending else column.asc() for column in columns]


def _hidden(column: ColumnElement[Any], dialect: Dialect) -> ColumnElement[Any]:
    """The same value, but no reason for SQLite's planner to choose an index by it."""
    return UnaryExpression(column, operator=_plus, type_=column.type) if dialect.name == "sqlite" else column


def _is_kind(number: int, dialect: Dialect) -> ColumnElement[bool]:
    """One of `number` kinds."""
    kind = _hidden(resources.c.kind, dialect)  # few rows are awake: the walk is along wake_at
    return or_(*(kind == bindparam(f"kind{index}") for index in range(number)))


def _scope(shape: Shape) -> list[ColumnElement[bool]]:
    names = ("kind", "account", "region", *(("state",) if "state" in shape.given else ()))
    return [resources.c[name] == bindparam(name) for name in names]


def _within(column: SortBy, shape: Shape, seen: ColumnElement[Any]) -> list[ColumnElement[bool]]:
    after, before = _BOUNDS[column]
    conditions = []
    if after in shape.given:
        conditions.append(seen > bindparam(after))
    if before in shape.given:
        conditions.append(seen < bindparam(before))
    return conditions


def _contains(dialect: Dialect) -> ColumnElement[bool]:
    """Case-sensitive, and without wildcards: LIKE would be neither."""
    position = func.instr if dialect.name == "sqlite" else func.strpos
    return position(resources.c.name, bindparam("name_contains")) > 0


def _after(query: Query) -> dict[str, str]:
    if query.after is None:
        return {}
    if len(query.after) != (1 if query.sort_by is SortBy.NAME else 2):
        raise ValueError(f"{tuple(query.after)} is not a position in a list sorted by {query.sort_by}")
    return {"after_value": query.after[0], "after_name": query.after[-1]}


def _text(moment: datetime) -> str:
    return to_text(moment).zfill(27)  # strftime drops the leading zeros of years before 1000


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _latest(*moments: datetime | None) -> datetime | None:
    return max((moment for moment in moments if moment is not None), default=None)
