"""Forward-only migrations: how the tables of `store.tables` come to exist, and how they change.

Owns: the numbered list, applying it. Does not own: the lock and the transaction around it (`store.db`).

To change the schema, append to `ALL` and change the table's definition, never an earlier migration. `create(table)`
makes the table as it is defined today, so a migration that later *alters* a table must first freeze the earlier one:
replace its `create(table)` by the literal DDL that it stood for. `tests/unit/store/test_migrations.py` compares the
outcome with `store.tables` and fails when the two have drifted apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Table, func, insert, inspect, select

from sagewright.core.errors import SettingsError
from sagewright.store import metric_tables, object_tables, registry_tables, tables

Step = Callable[[Connection], None]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step forward, applied once, in order of `number`."""

    number: int
    name: str
    apply: Step


def create(*made: Table) -> Step:
    """A step that makes tables with their indexes, as they are defined today."""

    def step(connection: Connection) -> None:
        for table in made:
            table.create(connection)

    return step


ALL: Final[Sequence[Migration]] = (
    Migration(1, "resources, tags, meta", create(tables.resources, tables.tags, tables.meta)),
    Migration(2, "S3 buckets, objects, uploads", create(*object_tables.ALL)),
    Migration(3, "metrics", create(*metric_tables.ALL)),
    Migration(4, "image registry", create(*registry_tables.ALL)),
)


def current(connection: Connection) -> int:
    """The number of the last applied migration; 0 for an empty database."""
    if not inspect(connection).has_table(tables.schema_version.name):
        return 0
    return connection.scalar(select(func.max(tables.schema_version.c.number))) or 0


def is_current(connection: Connection, migrations: Sequence[Migration] = ALL) -> bool:
    """Whether nothing is left to apply. Raises SettingsError for a database of a newer Sagewright."""
    found, known = current(connection), migrations[-1].number
    if found > known:
        raise SettingsError(
            f"The database was written by a newer Sagewright (schema {found}; this one knows up to {known}). "
            "Upgrade Sagewright, or point it at another data directory."
        )
    return found == known


def apply(connection: Connection, migrations: Sequence[Migration] = ALL) -> None:
    """Bring the database up to date. The caller holds the exclusive lock and commits."""
    if is_current(connection, migrations):
        return
    found = current(connection)
    if found == 0:
        tables.schema_version.create(connection, checkfirst=True)
    for migration in migrations:
        if migration.number > found:
            migration.apply(connection)
            connection.execute(
                insert(tables.schema_version).values(number=migration.number, name=migration.name),
            )
