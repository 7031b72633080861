"""The tables of the store, as SQLAlchemy Core: one definition for SQLite and PostgreSQL.

Owns: resources, tags, meta, schema_version, and their indexes. Does not own: S3 metadata (`store.object_tables`, on the
same `metadata`), how tables come to exist on disk (`store.migrations`), what rows mean (`store.rows`).

All text is compared byte by byte on both databases, so that the order of a list never depends on a locale. Moments
are `core.clock.to_text` strings, so text order is time order. `spec` and `status` are JSON text.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, PrimaryKeyConstraint, Table, Text

metadata: Final = MetaData()

BYTEWISE: Final = Text().with_variant(Text(collation="C"), "postgresql")
"""The type of every text column that is compared or sorted."""

schema_version: Final = Table(
    "schema_version",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False),
)

meta: Final = Table(
    "meta",
    metadata,
    Column("key", BYTEWISE, primary_key=True),
    Column("value", Text, nullable=False),
)

resources: Final = Table(
    "resources",
    metadata,
    # Short columns first: SQLite reads a row from its front, and lists look at these before the long JSON.
    Column("kind", BYTEWISE, nullable=False),
    Column("account", BYTEWISE, nullable=False),
    Column("region", BYTEWISE, nullable=False),
    Column("name", BYTEWISE, nullable=False),
    Column("state", BYTEWISE, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("created_at", BYTEWISE, nullable=False),
    Column("changed_at", BYTEWISE, nullable=False),
    Column("wake_at", BYTEWISE),
    Column("spec", Text, nullable=False),
    Column("status", Text, nullable=False),
    PrimaryKeyConstraint("kind", "account", "region", "name"),
)

_c = resources.c
_SCOPE = (_c.kind, _c.account, _c.region)

# One index per (state filter?, sort column). The sort column is followed by the name, which breaks ties, and by every
# other column that a list can filter by: a page is found on the index alone, and only the rows that it returns are
# fetched. `store.paging` chooses among them; docs/design/03-store.md has what that gains and costs.
Index("resources_by_name", *_SCOPE, _c.name, _c.created_at, _c.changed_at)
Index("resources_by_created", *_SCOPE, _c.created_at, _c.name, _c.changed_at, _c.state)
Index("resources_by_changed", *_SCOPE, _c.changed_at, _c.name, _c.created_at, _c.state)
Index("resources_by_state_name", *_SCOPE, _c.state, _c.name, _c.created_at, _c.changed_at)
Index("resources_by_state_created", *_SCOPE, _c.state, _c.created_at, _c.name, _c.changed_at)
Index("resources_by_state_changed", *_SCOPE, _c.state, _c.changed_at, _c.name, _c.created_at)

# Only rows that a controller still has to look at are in here: a handful among any number of finished ones.
Index(
    "resources_by_wake",
    _c.wake_at,
    *_SCOPE,
    _c.name,
    sqlite_where=_c.wake_at.is_not(None),
    postgresql_where=_c.wake_at.is_not(None),
)

tags: Final = Table(
    "tags",
    metadata,
    Column("arn", BYTEWISE, nullable=False),
    Column("key", BYTEWISE, nullable=False),
    Column("value", Text, nullable=False),
    Column("position", Integer, nullable=False),
    PrimaryKeyConstraint("arn", "key"),
)
