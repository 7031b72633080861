"""Migrations: forward only, once, together, and ending at what `store.tables` says."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, inspect

from sagewright.core.errors import SettingsError
from sagewright.store import migrations, tables
from sagewright.store.db import Database
from sagewright.store.migrations import Migration


def test_after_all_migrations_the_schema_is_the_one_of_the_tables(tmp_path: Path) -> None:
    Database.open(tmp_path / "rows.db").close()
    fresh = create_engine(f"sqlite:///{tmp_path}/fresh.db")
    tables.metadata.create_all(fresh)
    migrated = create_engine(f"sqlite:///{tmp_path}/rows.db")
    assert _schema(tmp_path / "rows.db") == _schema(tmp_path / "fresh.db")
    assert set(inspect(migrated).get_table_names()) == set(tables.metadata.tables)
    fresh.dispose()
    migrated.dispose()


def test_opening_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    Database.open(path).close()
    before = _schema(path)
    Database.open(path).close()
    assert _schema(path) == before
    assert _versions(path) == [each.number for each in migrations.ALL]


def test_a_database_of_a_newer_sagewright_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    Database.open(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("INSERT INTO schema_version VALUES (999, 'from the future')")
    raw.close()
    with pytest.raises(SettingsError, match=r"newer Sagewright.*Upgrade"):
        Database.open(path)


def test_a_failed_migration_leaves_the_database_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.db"
    Database.open(path).close()
    before, versions = _schema(path), _versions(path)

    def half(connection: Connection) -> None:
        connection.exec_driver_sql("CREATE TABLE extra (a)")
        raise ValueError("half way")

    broken = (*migrations.ALL, Migration(999, "broken", half))
    store = Database.open(path)
    with pytest.raises(ValueError, match="half way"):
        store.write(lambda tx: migrations.apply(tx.connection, broken))
    store.close()
    assert (_schema(path), _versions(path)) == (before, versions)


def test_one_that_is_killed_at_any_statement_is_done_by_the_next_start(tmp_path: Path) -> None:
    Database.open(tmp_path / "whole.db").close()
    killed = 0
    for fatal in range(1, 400, 7):
        path = tmp_path / f"{fatal}.db"
        migrating = multiprocessing.get_context("fork").Process(target=_migrate_and_die, args=(path, fatal))
        migrating.start()
        migrating.join()
        Database.open(path).close()
        assert _schema(path) == _schema(tmp_path / "whole.db")
        assert _versions(path) == [each.number for each in migrations.ALL]
        if migrating.exitcode == 0:
            break
        assert migrating.exitcode == -signal.SIGKILL
        killed += 1
    assert 5 < killed < 50


def _migrate_and_die(path: Path, fatal: int) -> None:
    statements = itertools.count(1)

    def die(*_: object) -> None:
        if next(statements) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", die)
    Database.open(path).close()


def test_only_what_is_missing_is_applied_in_order(tmp_path: Path) -> None:
    applied: list[int] = []
    more = tuple(Migration(number, "more", lambda c, n=number: applied.append(n)) for number in (1001, 1002))
    store = Database.open(tmp_path / "rows.db")
    store.write(lambda tx: migrations.apply(tx.connection, (*migrations.ALL, more[0])))
    store.write(lambda tx: migrations.apply(tx.connection, (*migrations.ALL, *more)))
    store.write(lambda tx: migrations.apply(tx.connection, (*migrations.ALL, *more)))
    store.close()
    assert applied == [1001, 1002]


def test_numbers_go_up() -> None:
    numbers = [each.number for each in migrations.ALL]
    assert numbers == sorted(set(numbers))


def test_many_that_start_at_once_on_an_empty_folder_all_succeed(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def start() -> None:
        try:
            Database.open(tmp_path / "rows.db").close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert _versions(tmp_path / "rows.db") == [each.number for each in migrations.ALL]


def _schema(path: Path) -> set[str]:
    raw = sqlite3.connect(path)
    found = {row[0] for row in raw.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}
    raw.close()
    return found


def _versions(path: Path) -> list[int]:
    raw = sqlite3.connect(path)
    found = [row[0] for row in raw.execute("SELECT number FROM schema_version ORDER BY number")]
    raw.close()
    return found
