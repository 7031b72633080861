"""Transactions: `Database` is the one implementation of `store.resources.Store`.

Owns: connections, who may use them when, commit and rollback, telling the listener.
Does not own: what a transaction can do (`store.rows`), what differs between databases (`store.engines`).

    read     borrow an idle connection -> BEGIN -> work -> COMMIT -> give it back       any number at a time
    write    take the writer's lock -> BEGIN IMMEDIATE -> work -> COMMIT (fsync) -> tell the listener

A connection whose database failed is closed, never given back: the next transaction opens a new one.
A Database must not be used across a fork; each process opens its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sagewright.core.errors import StoreUnavailable
from sagewright.core.ids import Key
from sagewright.store import migrations
from sagewright.store.engines import Backing, backing
from sagewright.store.resources import Store, Tx
from sagewright.store.rows import RowTx, Statements

T = TypeVar("T")
Listener = Callable[[Collection[Key]], None]

IDLE_READERS: Final = 8
"""Connections kept for readers; more are opened when more threads read at once, and closed again."""


@dataclass(frozen=True, slots=True)
class Link:
    """An open connection, its driver's connection and cursor, and the transaction object that works on them."""

    connection: Connection
    driver: Any
    cursor: Any
    tx: RowTx


class Database(Store):
    """Rows in SQLite or PostgreSQL. Safe to use from any number of threads.

    `listener` hears which keys a commit woke, in the thread that committed; it must neither raise nor block.
    """

    def __init__(self, database: Backing, listener: Listener | None) -> None:
        self._database = database
        self._listener = listener
        self._statements = Statements(database.dialect)
        self._idle: deque[Link] = deque()
        self._writing = threading.Lock()
        self._writer: Link | None = None
        self._writing_thread: int | None = None
        self._closed = False

    @classmethod
    def open(cls, url_or_path: str | Path, *, listener: Listener | None = None) -> Self:
        """Open, and migrate if need be. Raises SettingsError (not ours, too new) and StoreUnavailable."""
        opened = cls(backing(url_or_path), listener)
        opened._migrate()
        return opened

    def read(self, work: Callable[[Tx], T]) -> T:
        link = self._borrow()
        try:
            self._database.begin(link.cursor, writable=False)
            result = work(link.tx)
            link.driver.commit()
        except BaseException as error:
            if self._undo(link, error):
                self._give_back(link)
            self._raise_unavailable(error)
            raise
        self._give_back(link)
        return result

    def write(self, work: Callable[[Tx], T]) -> T:
        return self._write(lambda link: work(link.tx))

    def close(self) -> None:
        """Safe to call again. Transactions under way in other threads end first or fail as unavailable."""
        with self._writing:
            self._closed = True
            if self._writer is not None:
                _close(self._writer)
                self._writer = None
        while self._idle:
            _close(self._idle.pop())

    def _write(self, work: Callable[[Link], T]) -> T:
        me = threading.get_ident()
        if self._writing_thread == me:
            raise RuntimeError("a write transaction was begun inside a write transaction of the same thread")
        with self._writing:
            self._writing_thread = me
            try:
                result, woken = self._commit(work)
            finally:
                self._writing_thread = None
        if woken and self._listener is not None:
            self._listener(woken)
        return result

    def _commit(self, work: Callable[[Link], T]) -> tuple[T, Collection[Key]]:
        link = self._writer = self._writer or self._connect(writable=True)
        link.tx.woken.clear()
        try:
            self._database.begin(link.cursor, writable=True)
            result = work(link)
            link.driver.commit()
        except BaseException as error:
            if not self._undo(link, error):
                self._writer = None
            self._raise_unavailable(error)
            raise
        _settle(link)
        return result, tuple(dict.fromkeys(link.tx.woken))

    def _migrate(self) -> None:
        """Two processes may start at once: whoever comes second finds the work done."""
        if not self.read(lambda tx: migrations.is_current(tx.connection)):
            self._write(lambda link: migrations.apply(link.connection))

    def _borrow(self) -> Link:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect(writable=False)

    def _give_back(self, link: Link) -> None:
        _settle(link)
        if self._closed or len(self._idle) >= IDLE_READERS:
            _close(link)
        else:
            self._idle.append(link)

    def _connect(self, *, writable: bool) -> Link:
        if self._closed:
            raise StoreUnavailable("The store is closed.")
        try:
            connection = self._database.connect(writable=writable)
        except Exception as error:
            self._raise_unavailable(error)
            raise
        driver: Any = connection.connection.dbapi_connection
        cursor = driver.cursor()
        return Link(connection, driver, cursor, RowTx(connection, cursor, self._statements, writable=writable))

    def _undo(self, link: Link, error: BaseException) -> bool:
        """Roll back. False when the connection had to be closed instead."""
        try:
            link.driver.rollback()
            _settle(link)
            broken = self._database.is_broken(error)
        except Exception:  # whatever it is, this connection is of no more use, and `error` is the cause
            broken = True
        if broken:
            _close(link)
        return not broken

    def _raise_unavailable(self, error: BaseException) -> None:
        if sentence := self._database.explain(error):
            raise StoreUnavailable(sentence) from error


def _settle(link: Link) -> None:
    """Let SQLAlchemy, which noted a transaction when `tx.connection` was used, know that it is over."""
    if link.connection.in_transaction():
        link.connection.rollback()


def _close(link: Link) -> None:
    with suppress(SQLAlchemyError, OSError):
        link.connection.close()
