"""The hot path: invocations taken off the connection at protocol level. `gateway.turn.HotPath`.

    gateway.http ──take──▶ Exchange ─▶ Delivery ─▶ Attempt ─▶ Link (a kept connection) ─▶ container

Owns: which requests are taken, and everything that they share, from `open` to `close`.
Does not own: any of it (each has its module). Knows nothing of the gateway but the contract of a turn.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Final

from sagewright.core.clock import Clock
from sagewright.core.credentials import Keyring
from sagewright.router.access import Access
from sagewright.router.answer import Out
from sagewright.router.counters import Counters
from sagewright.router.deadlines import Deadlines
from sagewright.router.drain import DrainServer
from sagewright.router.exchange import Exchange
from sagewright.router.heads import length
from sagewright.router.live import Live
from sagewright.router.pool import SHORT
from sagewright.router.refresh import Refresher
from sagewright.router.request import RawHeaders
from sagewright.router.shared import Late, Shared
from sagewright.router.swift import Swift
from sagewright.router.templates import learn
from sagewright.settings import Settings
from sagewright.store.resources import Store


class Router:
    """One object serves all connections of a gateway process. `counters` is for whoever publishes them."""

    def __init__(
        self, *, store: Store, keyring: Keyring, clock: Clock, settings: Settings, store_is_local: bool = True
    ) -> None:
        self.counters: Final = Counters()
        self._settings = settings
        self._live = Live(settings.router, settings.server.gateways)
        self._access = Access(keyring, settings.account, clock, settings.server.max_clock_skew)
        self._refresher = Refresher(
            store, settings.account, self._live, inline=store_is_local, interval=settings.router.refresh
        )
        self._drain = DrainServer(self._live, self._refresher.look)
        self._longest = min(settings.router.max_payload, SHORT)
        self._shared: Shared

    @property
    def in_flight(self) -> int:
        return self._shared.in_flight

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        settings = self._settings.router
        self._live.open(loop)
        self._shared = Shared(
            settings=settings,
            account=self._settings.account,
            loop=loop,
            live=self._live,
            access=self._access,
            counters=self.counters,
            look=self._refresher.look,
            model=Deadlines(loop, settings.model_time, _late),
            stream=Deadlines(loop, settings.stream_time, _late),
            queue=Deadlines(loop, settings.queue_wait, _late),
        )
        folder = self._settings.data.gateways
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(folder)
        await self._drain.open(folder / f"{os.getpid()}.drain")
        await self._refresher.open(folder / f"{os.getpid()}.sock")

    async def close(self) -> None:
        await self._refresher.close()
        await self._drain.close()
        await self._shared.tasks.close()
        for deadlines in (self._shared.model, self._shared.stream, self._shared.queue):
            deadlines.close()
        self._live.close()

    def take(self, turn: Out, method: bytes, target: bytes, headers: RawHeaders) -> Exchange | None:
        """None: not an invocation."""
        request = self._shared.recogniser.recognise(method, target, headers)
        if request is None:
            return None
        exchange = Exchange(self._shared, turn, request)
        exchange.open()
        return exchange

    def take_whole(self, turn: Out, data: bytes) -> Exchange | None:
        """The same for what may be one whole, plain request. What is like it need not come here again."""
        shared = self._shared
        message = shared.heads.read(data)
        request = shared.recogniser.recognise_plain(message.first, message.headers) if message is not None else None
        if message is None or request is None:
            return None
        if request.is_short and (known := shared.access.known(message.headers)) is not None:
            size = len(data) - len(message.body)
            template = learn(shared.access, data, size, request, known, limit=self._longest)
            if template is not None:
                later = turn.another()
                lane = Swift(shared, later, template)
                later.hand_on(lane)
                later.remember(lane)
        exchange = Exchange(shared, turn, request)
        exchange.open()
        exchange.fill(message.body)
        return exchange

    def awaits(self, data: bytes) -> bool:
        """Of others than known clients, and of requests that are not short, the head is looked at as soon as it comes:
        it may be refused before its body is sent."""
        shared = self._shared
        message = shared.heads.begin(data)
        if message is None or not len(message.body) < length(message) <= self._longest:
            return False
        request = shared.recogniser.recognise_plain(message.first, message.headers)
        return request is not None and request.is_short and shared.access.known(message.headers) is not None


def _sweep(folder: Path) -> None:
    """Remove the sockets of processes that were killed."""
    for path in folder.iterdir():
        try:
            os.kill(int(path.stem), 0)
        except (ProcessLookupError, ValueError):
            path.unlink(missing_ok=True)
        except PermissionError:
            continue  # somebody's, so alive


def _late(item: Late) -> None:
    item.late()
