"""The table kept up to date: derived anew when told, when asked, and four times a second.

    controller ──datagram──▶ PID.sock ──▶ look        a request that found nothing ──▶ look
                                          look: versions of all endpoint rows ─▶ those that changed ─▶ Live.swap

Owns: when to look, and reading rows. Does not own: what a row means (`router.table`), the swap (`router.live`).
Looking costs 0.1 ms on SQLite and runs on the event loop; on another database it runs in a thread, one at a time, and
whoever asks while one is under way gets the next, so that it has seen everything committed before the question.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from sagewright.core.errors import StoreUnavailable
from sagewright.core.ids import Account, Region
from sagewright.router.live import Live
from sagewright.router.table import Route, derive
from sagewright.store.changes import ChangeReceiver
from sagewright.store.kinds import endpoint
from sagewright.store.resources import Store, Tx
from sagewright.store.tables import resources

Name = tuple[str, str]  # region, endpoint
_log = logging.getLogger("sagewright.router")


@dataclass(frozen=True, slots=True)
class News:
    """What differs from the versions that were known."""

    changed: tuple[Route, ...]
    gone: Collection[Name]


class Refresher:
    """Keeps `live` up to date between `open` and `close`."""

    def __init__(self, store: Store, account: Account, live: Live, *, inline: bool, interval: float) -> None:
        self._store = store
        self._account = account
        self._live = live
        self._inline = inline
        self._interval = interval
        self._asked: list[Callable[[], None]] = []
        self._looking: asyncio.Task[None] | None = None
        self._background: list[asyncio.Task[None]] = []
        self._is_failing = False
        self._receiver: ChangeReceiver | None = None

    async def open(self, path: Path) -> None:
        """Listens at `path`, and looks for the first time."""
        self._receiver = ChangeReceiver(path)
        loop = asyncio.get_running_loop()
        first = loop.create_future()
        self.look(lambda: first.set_result(None))
        await first
        self._background = [loop.create_task(self._listen(self._receiver)), loop.create_task(self._tick())]

    async def close(self) -> None:
        if self._receiver is not None:
            self._receiver.close()
        for task in self._background:
            task.cancel()
        await asyncio.gather(*self._background, return_exceptions=True)
        if self._looking is not None:
            await self._looking

    def look(self, then: Callable[[], None]) -> None:
        """Calls `then` when the table is at least as new as this call, or the store could not be read."""
        if self._inline:
            self._look_here()
            then()
            return
        self._asked.append(then)
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look_elsewhere())

    def _look_here(self) -> None:
        known = self._live.versions()
        try:
            news = self._store.read(lambda tx: read(tx, self._account, known))
        except StoreUnavailable as error:
            self._note_failure(error)
        else:
            self._apply(news)

    async def _look_elsewhere(self) -> None:
        loop = asyncio.get_running_loop()
        while self._asked:
            asked, self._asked = self._asked, []
            known = self._live.versions()
            try:
                news = await loop.run_in_executor(
                    None, self._store.read, lambda tx, known=known: read(tx, self._account, known)
                )
            except StoreUnavailable as error:
                self._note_failure(error)
            else:
                self._apply(news)
            for then in asked:
                then()
        self._looking = None

    def _apply(self, news: News) -> None:
        self._is_failing = False
        if news.changed or news.gone:
            self._live.swap(news.changed, news.gone)

    def _note_failure(self, error: StoreUnavailable) -> None:
        """The table stays as it is: what was in service most likely still is."""
        if not self._is_failing:
            self._is_failing = True
            _log.error("the endpoints' rows cannot be read, so routes stay as they are: %s", error)

    async def _listen(self, receiver: ChangeReceiver) -> None:
        async for key in receiver:
            if key.kind == endpoint.KIND:
                self.look(_nothing)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            self.look(_nothing)
            self._live.tick()


def read(tx: Tx, account: Account, known: Mapping[Name, int]) -> News:
    """The routes of rows that are not at their known version."""
    columns = resources.c
    found = tx.connection.execute(
        select(columns.region, columns.name, columns.version).where(
            columns.kind == endpoint.KIND, columns.account == account
        )
    ).all()
    versions = {(region, name): version for region, name, version in found}
    changed = [name for name, version in versions.items() if known.get(name) != version]
    rows = [tx.find(endpoint.key(account, Region(region), name)) for region, name in changed]
    return News(tuple(derive(row) for row in rows if row is not None), known.keys() - versions.keys())


def _nothing() -> None:
    """For a look that nobody waits for."""
