"""The two databases under the store, SQLite and PostgreSQL: connecting, beginning, and what their errors mean.

Owns: everything that differs between them, except the few words of SQL in `store.rows` and `store.paging`.
Does not own: who may use a connection when (`store.db`).
"""

from __future__ import annotations

import os
import sqlite3
import time
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import URL, Connection, Dialect, Engine, NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from sagewright.core.errors import SettingsError, StoreUnavailable

LOCK_SECONDS: Final = 15.0
"""How long a transaction waits for another process's write before it gives up."""

_PRAGMAS: Final = (
    # FULL: a commit is on the disk when `write` returns, so nothing accepted is lost when the power goes. It costs one
    # fsync; docs/design/03-store.md has the numbers.
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA mmap_size=268435456",  # bytes; reads take no system call
    "PRAGMA journal_size_limit=67108864",  # bytes; a write-ahead log that once grew is cut back to this
    f"PRAGMA busy_timeout={int(LOCK_SECONDS * 1000)}",
)

_WRITERS_LOCK: Final = 0x5A6E_0001  # PostgreSQL's advisory lock that serialises our write transactions


class Backing(Protocol):
    """One database. Connections are used by one thread at a time, not always the same."""

    @property
    def dialect(self) -> Dialect: ...

    def connect(self, *, writable: bool) -> Connection: ...

    def begin(self, cursor: Any, *, writable: bool) -> None:
        """Begin a transaction that sees one state; a writable one excludes all other writers."""
        ...

    def explain(self, error: BaseException) -> str | None:
        """A plain sentence when `error` means that the database cannot be used now; None when it is a bug."""
        ...

    def is_broken(self, error: BaseException) -> bool:
        """Whether the connection that raised it must not be used again."""
        ...


def backing(url_or_path: str | Path) -> Backing:
    """The database meant by a path (SQLite) or a SQLAlchemy URL. Raises SettingsError."""
    if isinstance(url_or_path, Path) or "://" not in url_or_path:
        return Sqlite(Path(url_or_path))
    try:
        url = make_url(url_or_path)
    except ArgumentError as error:
        raise SettingsError(f"Not a database URL: {error}") from None
    match url.get_backend_name():
        case "sqlite" if url.database not in (None, "", ":memory:"):
            return Sqlite(Path(str(url.database)))
        case "postgresql":
            return Postgres(url)
    raise SettingsError(
        f"{url.render_as_string()} is not a database that Sagewright can use: "
        "give sqlite:///PATH or postgresql://USER:PASSWORD@HOST/DATABASE."
    )


class Sqlite:
    """A file. Readers never wait; write transactions take SQLite's own lock, which also holds between processes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(
            URL.create("sqlite", database=str(path)),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",  # SQLAlchemy and the driver begin nothing by themselves: `begin` does
            connect_args={"check_same_thread": False, "timeout": LOCK_SECONDS, "cached_statements": 512},
        )
        self.dialect = self._engine.dialect
        self._write_ahead()
        self._inode = path.stat().st_ino

    def connect(self, *, writable: bool) -> Connection:
        self._still_there()
        connection = self._engine.connect()
        cursor = connection.connection.cursor()
        for pragma in (*_PRAGMAS, f"PRAGMA query_only={'OFF' if writable else 'ON'}"):
            cursor.execute(pragma)
        cursor.close()
        return connection

    def begin(self, cursor: Any, *, writable: bool) -> None:
        if writable:
            self._still_there()
        cursor.execute("BEGIN IMMEDIATE" if writable else "BEGIN")

    def explain(self, error: BaseException) -> str | None:
        code = getattr(_driver_error(error), "sqlite_errorcode", None)
        reason = None if code is None else _SQLITE_REASONS.get(code & 0xFF)
        return f"{reason} (database {self._path}: {_driver_error(error)})" if reason else None

    def is_broken(self, error: BaseException) -> bool:
        return self.explain(error) is not None

    def _still_there(self) -> None:
        """SQLite goes on writing to a file that was removed or replaced: all of that would be lost."""
        try:
            if os.stat(self._path).st_ino == self._inode:  # noqa: PTH116 - on every write; twice as fast as Path.stat
                return
        except OSError:
            pass
        raise StoreUnavailable(f"The database file {self._path} was moved or removed; put it back and restart.")

    def _write_ahead(self) -> None:
        """Turn on write-ahead logging, which is a property of the file. SQLite does not wait for locks here."""
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                with self._engine.connect() as connection:
                    mode = connection.exec_driver_sql("PRAGMA journal_mode=WAL").scalar()
                break
            except DBAPIError as error:
                busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > deadline:
                    raise StoreUnavailable(self.explain(error) or str(error.orig)) from error
                time.sleep(0.01)
        if mode != "wal":
            raise SettingsError(
                f"The file system of {self._path} cannot share memory between processes, which SQLite needs: "
                "put the data directory on a local disk, or use PostgreSQL."
            )


class Postgres:
    """A server. Write transactions are serialised by one advisory lock, so that both databases behave alike."""

    def __init__(self, url: URL) -> None:
        try:
            self._engine = create_engine(url.set(drivername="postgresql+psycopg"), poolclass=NullPool)
        except ModuleNotFoundError:
            raise SettingsError("PostgreSQL needs one more package: pip install 'psycopg[binary]'") from None
        self.dialect = self._engine.dialect
        self._name = url.render_as_string()
        self._reads: Engine = self._engine.execution_options(
            isolation_level="REPEATABLE READ",
            postgresql_readonly=True,
        )

    def connect(self, *, writable: bool) -> Connection:
        return (self._engine if writable else self._reads).connect()

    def begin(self, cursor: Any, *, writable: bool) -> None:
        if writable:
            cursor.execute(f"SET LOCAL lock_timeout = '{int(LOCK_SECONDS)}s'")
            cursor.execute(f"SELECT pg_advisory_xact_lock({_WRITERS_LOCK})")

    def explain(self, error: BaseException) -> str | None:
        found = _driver_error(error)
        if type(found).__module__.partition(".")[0] != "psycopg":
            return None
        state = getattr(found, "sqlstate", None) or "08000"  # no answer from a server: a connection failure
        reason = _POSTGRES_REASONS.get(state) or _POSTGRES_REASONS.get(state[:2])
        return f"{reason} (database {self._name}: {str(found).strip()})" if reason else None

    def is_broken(self, error: BaseException) -> bool:
        return self.explain(error) is not None


def _driver_error(error: BaseException) -> BaseException | None:
    return error.orig if isinstance(error, DBAPIError) else error


_SQLITE_REASONS: Final = {
    sqlite3.SQLITE_FULL: "The disk that holds the database is full: free some space.",
    sqlite3.SQLITE_BUSY: f"Another process kept the database locked for {LOCK_SECONDS:.0f} s: try again.",
    sqlite3.SQLITE_LOCKED: "The database is locked: try again.",
    sqlite3.SQLITE_IOERR: "The disk that holds the database failed or is full.",
    sqlite3.SQLITE_CANTOPEN: "The database file cannot be opened: is its folder still there, and is it ours?",
    sqlite3.SQLITE_READONLY: "The database file cannot be written: check its owner and its file system.",
    sqlite3.SQLITE_PERM: "The database file may not be used: check its owner.",
    sqlite3.SQLITE_CORRUPT: "The database file is damaged: restore it from a copy.",
    sqlite3.SQLITE_NOTADB: "The file is not a Sagewright database.",
}

_POSTGRES_REASONS: Final = {  # by SQLSTATE, or by its class
    "08": "The database server cannot be reached.",
    "28": "The database server does not accept this user or password.",
    "3D": "There is no such database on the server.",
    "53": "The database server is out of disk space, memory or connections.",
    "55": f"Another process kept the database locked for {LOCK_SECONDS:.0f} s: try again.",
    "57": "The database server is shutting down or ended the connection.",
    "58": "The database server's disk failed.",
    "40": "The database server gave another transaction the precedence: try again.",
    "25006": "The database server accepts no writes: it is a standby.",
}
