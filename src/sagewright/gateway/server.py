"""Serving a listening socket: connections, the clock tick, draining.

    run(...) ──▶ event loop ──▶ serve(...) ── stop is set ──▶ no new connections ──▶ requests under way end ──▶ return

Owns: the accept loop's life, SIGTERM and SIGINT, what happens once a second.
Does not own: binding the socket (it is inherited), one connection (`gateway.front`, `gateway.http`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Final

import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from sagewright.core.errors import SettingsError
from sagewright.gateway.addresses import AddressChanges
from sagewright.gateway.asgi import Application, AsgiApp
from sagewright.gateway.authority import Authority
from sagewright.gateway.clients import bridge_addresses, is_loopback, parse_networks
from sagewright.gateway.front import Front, Frontage
from sagewright.gateway.http import KEEP_ALIVE, Connection, GatewayHttp
from sagewright.gateway.literal_port import LiteralPort
from sagewright.gateway.turn import ClockLine, HotPath
from sagewright.gateway.upstream import OuterProxy, Outside
from sagewright.settings import Settings

DRAIN_LIMIT: Final = 8.0  # seconds for requests under way; the supervisor kills after ten
_FLUSH_LIMIT: Final = 1.0  # seconds for the last bytes to reach their clients
_BACKLOG: Final = 2048
_BRIDGES: Final = 5.0  # seconds between looks for container bridges, where the kernel tells of none
_log = logging.getLogger("sagewright.gateway")


class Roster(set[Any]):
    """All connections, whatever they speak (each is a `gateway.http.Connection`); tells when the last is gone."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: asyncio.Future[None] | None = None

    def discard(self, connection: object) -> None:
        super().discard(connection)
        if not self and self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    async def empty(self) -> None:
        if self:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting


@dataclass(frozen=True, slots=True)
class _Shared:
    """uvicorn's record of what goes on, and what connections need."""

    state: ServerState
    roster: Roster
    frontage: Frontage
    hot_path: HotPath | None
    clock_line: ClockLine


def run(
    application: Application,
    listener: socket.socket,
    settings: Settings,
    authority: Authority,
    *,
    hot_path: HotPath | None = None,
    literal: LiteralPort | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, in an event loop of its own. `ready` is called once connections are accepted."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(
            _serve_until_signal(
                application, listener, settings, authority, hot_path=hot_path, literal=literal, ready=ready
            )
        )


async def serve(
    application: Application,
    listener: socket.socket,
    settings: Settings,
    authority: Authority,
    stop: asyncio.Event,
    *,
    hot_path: HotPath | None = None,
    literal: LiteralPort | None = None,
    ready: Callable[[], None] | None = None,
) -> None:
    """Serve until `stop` is set and the requests under way are answered. Takes the listener over and closes it."""
    loop = asyncio.get_running_loop()
    shared = _share(application, settings, authority, hot_path, loop)
    if hot_path is not None:
        await hot_path.open()
    server = await loop.create_server(lambda: Front(shared.frontage, loop), sock=listener, backlog=_BACKLOG)
    bridges = _Bridges(listener.getsockname(), lambda: Front(shared.frontage, loop))
    background = [
        loop.create_task(_tick(shared, loop)),
        loop.create_task(_prepare(authority, loop)),
        loop.create_task(bridges.follow(loop)),
    ]
    if literal is not None:
        background.append(loop.create_task(literal.follow(shared.frontage.http)))
    try:
        if ready is not None:
            ready()
        await stop.wait()
    finally:
        server.close()
        bridges.close()  # for good: a bridge that comes now gets no listener
        if literal is not None:
            literal.close()
        await _drain(shared, loop)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        if hot_path is not None:
            await hot_path.close()


class _Bridges:
    """Listens on this machine's container bridges too, so that containers reach a server that is on loopback only.

    A bridge may come (an engine starts) or go at any time. Several gateways share each address (SO_REUSEPORT).
    """

    def __init__(self, main: tuple[str, int], protocol: Callable[[], Front]) -> None:
        self._port = main[1]
        self._wanted = is_loopback(main[0])  # any other address was chosen by the user, and is all there is
        self._protocol = protocol
        self._servers: dict[str, asyncio.Server] = {}

    async def follow(self, loop: asyncio.AbstractEventLoop) -> None:
        changes = AddressChanges(loop)
        try:
            while self._wanted:
                await self._look(loop)
                await changes.wait(_BRIDGES)
        finally:
            changes.close()

    async def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        present = set(bridge_addresses())
        for gone in self._servers.keys() - present:
            self._servers.pop(gone).close()
        for address in present - self._servers.keys():
            with contextlib.suppress(OSError):  # another program has that port there: its containers go without
                listener = _listen(address, self._port)
                self._servers[address] = await loop.create_server(self._protocol, sock=listener, backlog=_BACKLOG)

    def close(self) -> None:
        self._wanted = False
        for server in self._servers.values():
            server.close()


def _listen(address: str, port: int) -> socket.socket:
    """Bound by us: uvloop leaks the handle of an address that has gone since it was listed. Raises OSError."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind((address, port))
    except OSError:
        bound.close()
        raise
    return bound


async def _serve_until_signal(
    application: Application,
    listener: socket.socket,
    settings: Settings,
    authority: Authority,
    *,
    hot_path: HotPath | None,
    literal: LiteralPort | None,
    ready: Callable[[], None] | None,
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
    await serve(application, listener, settings, authority, stop, hot_path=hot_path, literal=literal, ready=ready)


def _share(
    application: Application,
    settings: Settings,
    authority: Authority,
    hot_path: HotPath | None,
    loop: asyncio.AbstractEventLoop,
) -> _Shared:
    config = Config(
        AsgiApp(application),
        interface="asgi3",
        http=GatewayHttp,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE,
    )
    config.load()
    state = ServerState()
    state.connections = roster = Roster()
    clock_line = ClockLine(_date())
    state.default_headers = [(b"date", clock_line.date)]
    outer = OuterProxy.parse(settings.upstream_proxy) if settings.upstream_proxy else None
    frontage = Frontage(
        http=lambda: GatewayHttp(config, state, loop, hot_path, clock_line),
        authority=authority,
        outside=Outside(outer),
        networks=parse_networks(settings.server.proxy_networks),
        connections=roster,
        tasks=state.tasks,
    )
    return _Shared(state, roster, frontage, hot_path, clock_line)


async def _prepare(authority: Authority, loop: asyncio.AbstractEventLoop) -> None:
    """The authority's files are made while requests are served already: only the proxy waits for them.

    On a full disk the API must go on answering (with 503 where it has to write), so a failure is not the server's end.
    """
    try:
        await loop.run_in_executor(None, authority.prepare)
    except (OSError, SettingsError) as error:
        _log.error("the certificate authority cannot be made, so clients cannot use the proxy: %s", error)


async def _tick(shared: _Shared, loop: asyncio.AbstractEventLoop) -> None:
    """Once a second: the Date header, and connections that have been silent for too long."""
    while True:
        await asyncio.sleep(1)
        shared.clock_line.date = _date()
        shared.state.default_headers = [(b"date", shared.clock_line.date)]
        now = loop.time()
        for connection in list[Connection](shared.roster):
            connection.check(now)


async def _drain(shared: _Shared, loop: asyncio.AbstractEventLoop) -> None:
    """Idle connections close at once, the others with their answer, all of them when the limit is over."""
    tasks = shared.state.tasks
    for connection in list[Connection](shared.roster):
        connection.shutdown()
    deadline = loop.time() + DRAIN_LIMIT
    while tasks and (left := deadline - loop.time()) > 0:
        await asyncio.wait(set(tasks), timeout=left)
    if tasks:
        _log.warning("%d requests were still under way after %g seconds and are cut", len(tasks), DRAIN_LIMIT)
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    answering = shared.hot_path is not None and shared.hot_path.in_flight
    with contextlib.suppress(TimeoutError):
        # The hot path has no tasks: its connections close with their answers.
        await asyncio.wait_for(
            shared.roster.empty(), max(_FLUSH_LIMIT, deadline - loop.time() if answering else _FLUSH_LIMIT)
        )


def _date() -> bytes:
    return formatdate(time.time(), usegmt=True).encode()
