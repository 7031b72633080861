"""The store on each database: tests/suites/{store,list}_suite.py."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sagewright.store.db import Database, Listener
from suites.list_suite import ListSuite
from suites.store_suite import OpenStore, StoreSuite


def _opener(url: str | Path, stack: ExitStack) -> OpenStore:
    def open_store(*, listener: Listener | None = None) -> Database:
        store = Database.open(url, listener=listener)
        stack.callback(store.close)
        return store

    return open_store


class TestSqlite(StoreSuite, ListSuite):
    @pytest.fixture
    def open_store(self, tmp_path: Path) -> Iterator[OpenStore]:
        with ExitStack() as stack:
            yield _opener(tmp_path / "rows.db", stack)


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    """A server of its own on a unix socket; the folder of the socket."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not programs or find_spec("psycopg") is None:
        pytest.skip("no PostgreSQL server and psycopg on this machine")
    bin_ = programs[-1].parent
    with TemporaryDirectory(prefix="sagewright-postgres-") as name:  # pytest's own folders are closed to other users
        folder, data = Path(name), Path(name) / "data"
        as_user: list[str] = []
        if os.geteuid() == 0:  # the server refuses to run as root
            shutil.chown(folder, "postgres")
            as_user = ["runuser", "-u", "postgres", "--"]
        made = [*as_user, str(bin_ / "initdb"), "-D", str(data), "-A", "trust", "-U", "me"]
        subprocess.run(made, check=True, capture_output=True, cwd="/")
        control = [*as_user, str(bin_ / "pg_ctl"), "-D", str(data), "-w", "-s"]
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c fsync=off"
        subprocess.run([*control, "-o", options, "-l", str(folder / "log"), "start"], check=True, cwd="/")
        yield folder
        subprocess.run([*control, "-m", "immediate", "stop"], check=True, cwd="/")


class TestPostgres(StoreSuite, ListSuite):
    @pytest.fixture
    def open_store(self, server: Path, request: pytest.FixtureRequest) -> Iterator[OpenStore]:
        import psycopg

        with psycopg.connect(f"host={server} user=me dbname=postgres", autocommit=True) as connection:
            connection.execute("DROP SCHEMA public CASCADE")
            connection.execute("CREATE SCHEMA public")
        with ExitStack() as stack:
            yield _opener(f"postgresql://me@/postgres?host={server}", stack)
