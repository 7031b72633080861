"""The store contract: resources with `spec` (what was asked) and `status` (what is), one transaction per operation.

Owns: Resource, Query, Page and the Tx / Store contracts. `store.db` implements them.
Does not own: what a spec or status means (`store.kinds`); S3 metadata, which has own tables (`store.object_tables`).

Each field has one writer: operations write `spec`, controllers write `status`. Every change is compare-and-set
on `version`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from sagewright.core.ids import Account, Key, Kind, Region

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Resource:
    """One row. `state` is the status word that lists filter and sort by (TrainingJobStatus ...).

    `wake_at` is when a controller must look at it next; None when there is nothing left to do.
    `changed_at` is what clients see as LastModifiedTime.
    """

    key: Key
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    state: str
    version: int
    created_at: datetime
    changed_at: datetime
    wake_at: datetime | None


class SortBy(StrEnum):
    NAME = "name"
    CREATED = "created_at"
    CHANGED = "changed_at"
    STATE = "state"


@dataclass(frozen=True, slots=True)
class Query:
    """A list request. All filters are ANDed; bounds are exclusive like AWS's After/Before.

    `after` is the position of the last row of the previous page (see Page.next); order is total, because the
    name breaks ties.
    """

    kind: Kind
    account: Account
    region: Region
    name_contains: str | None = None
    state: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    changed_after: datetime | None = None
    changed_before: datetime | None = None
    sort_by: SortBy = SortBy.CREATED
    descending: bool = True
    limit: int = 10
    after: Sequence[str] | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """`next` is the position to hand to the next Query; None when this page is the last."""

    items: tuple[Resource, ...]
    next: tuple[str, ...] | None


class Tx(Protocol):
    """One transaction. Everything is synchronous and sees one consistent state."""

    @property
    def connection(self) -> Connection:
        """For `objects`, which builds SQLAlchemy Core statements over its own tables."""
        ...

    def get(self, key: Key) -> Resource:
        """Raises NotFound."""
        ...

    def find(self, key: Key) -> Resource | None: ...

    def insert(
        self, key: Key, spec: Mapping[str, Any], status: Mapping[str, Any], state: str, *, now: datetime, wake: bool
    ) -> Resource:
        """Raises AlreadyExists. `wake=True` hands the resource to its controller."""
        ...

    def update_spec(self, resource: Resource, spec: Mapping[str, Any], *, now: datetime) -> Resource:
        """Also wakes the controller. Raises Stale when `resource.version` is no longer current."""
        ...

    def update_status(
        self, resource: Resource, status: Mapping[str, Any], state: str, *, now: datetime, wake_at: datetime | None
    ) -> Resource:
        """Raises Stale. `changed_at` moves only when status or state differ."""
        ...

    def remove(self, resource: Resource) -> None:
        """Raises Stale."""
        ...

    def page(self, query: Query) -> Page: ...

    def due(self, kinds: Iterable[Kind], now: datetime, limit: int = 1000) -> Sequence[Key]:
        """Keys whose wake_at has come, oldest first."""
        ...

    def next_wake(self, kinds: Iterable[Kind]) -> datetime | None: ...

    def tags(self, arn: str) -> dict[str, str]:
        """In the order in which they were set."""
        ...

    def set_tags(self, arn: str, tags: Mapping[str, str]) -> None:
        """Adds or overwrites."""
        ...

    def remove_tags(self, arn: str, keys: Iterable[str] | None = None) -> None:
        """None removes all of them."""
        ...


class Store(Protocol):
    """Transactions on one database. Synchronous; callers that must not block run it in a thread.

    After a commit that inserted a resource with `wake` or changed a spec, the store's change listener is told the
    keys: a hint for controllers, which may be lost.
    """

    def read(self, work: Callable[[Tx], T]) -> T: ...

    def write(self, work: Callable[[Tx], T]) -> T:
        """One serialised write transaction. Raises StoreUnavailable when the disk is full or the database is gone."""
        ...

    def close(self) -> None: ...
