"""The store on SQLite when things go wrong: full disks, killed processes, lost files, racing starts."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagewright.core.errors import SettingsError, StoreUnavailable
from sagewright.store.db import Database
from suites.store_suite import KIND, T0, add, key
from support.small_disk import fill, small_disk

WRITER = """
import sys
from datetime import UTC, datetime
from sagewright.core.ids import Account, Key, Kind, Region, ResourceName
from sagewright.store.db import Database
path, prefix, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Database.open(path)
for each in range(number):
    name = f"{prefix}-{each}"
    key = Key(Kind("training-job"), Account("000000000000"), Region("us-east-1"), ResourceName(name))
    store.write(lambda tx: tx.insert(key, {"x": "y" * 2000}, {}, "New", now=datetime.now(UTC), wake=True))
    print(name, flush=True)
"""


def writer(path: Path, prefix: str, number: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), prefix, str(number)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    opened = Database.open(tmp_path / "rows.db")
    yield opened
    opened.close()


def test_a_killed_writer_loses_nothing_that_it_was_told_is_written(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    told: list[str] = []
    for life in range(5):
        with writer(path, f"life{life}", 10_000) as process:
            assert process.stdout is not None
            told += [process.stdout.readline().strip() for _ in range(20 + 7 * life)]
            process.send_signal(signal.SIGKILL)
            told += [line.strip() for line in process.stdout if line.endswith("\n")]
    store = Database.open(path)
    missing = [name for name in told if store.read(lambda tx, name=name: tx.find(key(name))) is None]
    store.close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    raw.close()
    assert len(told) > 150
    assert missing == []


def test_two_processes_write_at_once_and_start_at_once(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    processes = [writer(path, prefix, 100) for prefix in "abc"]
    assert [process.communicate(timeout=60)[0].count("\n") for process in processes] == [100] * 3
    assert [process.returncode for process in processes] == [0] * 3
    store = Database.open(path)
    assert len(store.read(lambda tx: tx.due([KIND], T0.replace(year=9999)))) == 300
    store.close()


def test_a_full_disk_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 2_000_000) as disk:
        store = Database.open(disk / "rows.db")
        add(store, "before")
        ballast = fill(disk, leave=100_000)
        written: list[str] = []
        with pytest.raises(StoreUnavailable, match="full"):
            _fill_up(store, written)
        assert store.read(lambda tx: tx.get(key("before")))
        ballast.unlink()
        add(store, "after")
        assert all(store.read(lambda tx, name=name: tx.find(key(name))) for name in [*written, "after"])
        assert store.read(lambda tx: tx.find(key(f"j{len(written)}"))) is None
        store.close()


def test_a_new_database_on_a_full_disk_is_refused_and_can_be_made_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        ballast = fill(disk)
        with pytest.raises(StoreUnavailable):
            Database.open(disk / "rows.db")
        ballast.unlink()
        Database.open(disk / "rows.db").close()


def test_a_database_that_was_removed_takes_no_more_writes(store: Database, tmp_path: Path) -> None:
    add(store, "a")
    (tmp_path / "rows.db").rename(tmp_path / "elsewhere.db")
    with pytest.raises(StoreUnavailable, match="moved or removed"):
        add(store, "b")
    (tmp_path / "elsewhere.db").rename(tmp_path / "rows.db")
    add(store, "b")


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        Database.open(tmp_path / "missing" / "rows.db")


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    path.write_bytes(b"precious " * 1000)
    with pytest.raises(StoreUnavailable, match="not a Sagewright database"):
        Database.open(path)
    assert path.read_bytes() == b"precious " * 1000


def test_a_database_locked_for_too_long_is_said(
    store: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.write(lambda tx: tx.connection.exec_driver_sql("SELECT 1"))
    store._writer.cursor.execute("PRAGMA busy_timeout=50")  # so as not to wait 15 s here
    other = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="locked"):
        add(store, "a")
    other.execute("ROLLBACK")
    other.close()
    add(store, "a")


@pytest.mark.parametrize("url", ["mysql://localhost/x", "sqlite://", "sqlite:///:memory:", "nonsense://"])
def test_other_databases_are_refused_with_what_to_give_instead(url: str) -> None:
    with pytest.raises(SettingsError, match=r"sqlite:///PATH"):
        Database.open(url)


def test_a_path_and_its_url_are_the_same_database(tmp_path: Path) -> None:
    path = tmp_path / "with space & ?%23#.db"
    one = Database.open(path)
    add(one, "a")
    one.close()
    other = Database.open(str(path))
    assert other.read(lambda tx: tx.get(key("a")))
    other.close()
    plain = Database.open(f"sqlite:///{tmp_path}/plain.db")
    plain.close()
    assert (tmp_path / "plain.db").exists()


def test_a_commit_is_on_the_disk_and_readers_cannot_write(store: Database) -> None:
    def pragma(name: str) -> int:
        return int(store.write(lambda tx: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar()))

    assert (pragma("synchronous"), pragma("foreign_keys"), pragma("query_only")) == (2, 1, 0)
    assert store.read(lambda tx: tx.connection.exec_driver_sql("PRAGMA query_only").scalar()) == 1


def test_connections_do_not_pile_up(store: Database) -> None:
    def nested(depth: int) -> None:
        if depth:
            store.read(lambda tx: nested(depth - 1))

    nested(20)
    once = _open_files()
    for _ in range(5):
        nested(20)
    with pytest.raises(KeyError):
        store.read(lambda tx: {}["x"])
    assert len(store._idle) <= 8
    assert _open_files() <= once


def _fill_up(store: Database, written: list[str]) -> None:
    for number in range(1000):
        add(store, f"j{number}")
        written.append(f"j{number}")


def _open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())
