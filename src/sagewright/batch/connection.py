"""Kept HTTP/1.1 connections to one container. One request at a time on each, parsed as it comes.

Owns: connecting, sending, reading the answer, time limits. Does not own: how many at once, retries (`sending`), bodies
that are not held (`streaming`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar, cast

import httptools

P = TypeVar("P", bound=asyncio.Protocol)

CONNECT: Final = 10.0  # seconds
MODEL: Final = "the model"
AGENT: Final = "Go-http-client/1.1"  # what containers see on AWS (contract C.3)
_JOINED: Final = 1 << 16  # bytes of a body that is copied behind its head, for one system call
_SIZES: Final = frozenset({b"content-length", b"transfer-encoding"})
_LENGTHS: Final = frozenset({*map(len, _SIZES), len(b"content-type")})
_TICK: Final = 0.25
"""Seconds between looks at the clock: a limit may be passed by so much. One by more means that this process was kept
from its work; an answer that is there by then is taken, as it may well have come in time."""


class Answer(NamedTuple):
    """`who` gave it, in words for the user."""

    status: int
    content_type: str
    body: bytes
    who: str = MODEL


class NoAnswer(Exception):
    """The container did not answer; the text says how."""


class Unreachable(NoAnswer):
    """There is no connection: nothing was sent, so that it is no request's fault."""


class TooLate(NoAnswer):
    """Not within the time limit."""


class _Stale(NoAnswer):
    """A kept connection was closed before the request reached anybody."""


class Container:
    """`address` is HOST:PORT. `close` when it is no longer needed."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._idle: list[_Connection] = []
        self._asked: set[_Connection] = set()
        self._clock: asyncio.TimerHandle | None = None
        self._head: tuple[str | None, bytes] = (None, b"")

    async def get(self, path: str, seconds: float) -> Answer:
        """Raises NoAnswer."""
        return await self._ask(f"{start('GET', path, self.address)}\r\n".encode(), seconds)

    async def post(self, path: str, headers: str, body: bytes, seconds: float) -> Answer:
        """`headers` are whole lines. Raises NoAnswer."""
        told, head = self._head
        if told is not headers:
            head = f"{start('POST', path, self.address)}{headers}Content-Length: ".encode()
            self._head = (headers, head)
        if len(body) <= _JOINED:
            return await self._ask(b"%b%d\r\n\r\n%b" % (head, len(body), body), seconds)
        return await self._ask(b"%b%d\r\n\r\n" % (head, len(body)), seconds, body)

    def close(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        while self._idle:
            self._idle.pop().close()

    async def _ask(self, head: bytes, seconds: float, body: bytes = b"") -> Answer:
        while True:
            connection = self._kept() or await self._connect()
            self._asked.add(connection)
            try:
                answer = await connection.ask(head, body, seconds)
            except _Stale:
                continue
            except BaseException:
                connection.close()
                raise
            finally:
                self._asked.discard(connection)
            if connection.is_open:
                self._idle.append(connection)
            return answer

    def _kept(self) -> _Connection | None:
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open:
                return kept
        return None

    async def _connect(self) -> _Connection:
        made = await connect(self.address, _Connection)
        if self._clock is None:
            self._look()
        return made

    def _look(self) -> None:
        """One clock for all connections: a timer for each request would cost more than the request."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        for each in self._asked:
            each.look(now)
        self._clock = loop.call_later(_TICK, self._look)


def start(method: str, path: str, address: str) -> str:
    """The request line and the lines that every request has."""
    return f"{method} {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: {AGENT}\r\n"


async def connect(address: str, protocol: Callable[[], P]) -> P:
    """Raises NoAnswer."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(CONNECT):
            _, made = await asyncio.get_running_loop().create_connection(protocol, host.strip("[]"), int(port))
    except TimeoutError:
        raise Unreachable(f"no connection within {CONNECT:g} s") from None
    except OSError as error:
        raise Unreachable(f"no connection: {error.strerror or error}") from None
    return made


def acknowledge(transport: asyncio.Transport) -> None:
    """Of an answer whose rest has yet to come: a server that writes head and body apart, with Nagle's algorithm on,
    holds the body until the head is acknowledged, which the kernel would put off for 40 ms."""
    with suppress(OSError):
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


class _Connection(asyncio.Protocol):
    """Kept between requests; the parser too, which begins anew with each answer."""

    def __init__(self) -> None:
        self.is_open = False
        self._used = False
        self._waiter: asyncio.Future[Answer] | None = None
        self._pieces: list[bytes] = []
        self._type = ""
        self._heard = self._sized = self._until_end = False
        self._deadline = self._seconds = 0.0
        self._parser = httptools.HttpResponseParser(self)

    def ask(self, head: bytes, body: bytes, seconds: float) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._heard = self._sized = self._until_end = False
        self._deadline, self._seconds = loop.time() + seconds, seconds
        if body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)
        return waiter

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    def look(self, now: float) -> None:
        if now >= self._deadline:
            self._fail(TooLate(f"no answer within {self._seconds:g} s"))

    def _fail(self, error: NoAnswer) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)

    # -- asyncio ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        if self._waiter is None:
            self.close()  # nobody asked
            return
        self._heard = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(NoAnswer("the answer is not HTTP"))
        if self._waiter is not None and self.is_open:
            acknowledge(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_open = False
        if self._waiter is None or self._waiter.done():
            return
        if self._until_end:
            self._answered()
        elif not self._heard and self._used:
            self._fail(_Stale("a kept connection was closed"))
        else:
            self._fail(NoAnswer("the connection was closed before the answer was whole"))

    # -- httptools -------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) not in _LENGTHS:
            return
        lowered = name.lower()
        if lowered == b"content-type":
            self._type = value.decode("latin-1")
        elif lowered in _SIZES:
            self._sized = True

    def on_headers_complete(self) -> None:
        self._until_end = not self._sized and self._parser.get_status_code() >= 200

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:
            return
        self._until_end = False
        if not self._parser.should_keep_alive():
            self.is_open = False
            self._transport.close()
        self._used = True
        self._answered()

    def _answered(self) -> None:
        waiter, self._waiter = self._waiter, None
        pieces, self._pieces = self._pieces, []
        kind, self._type = self._type, ""
        if waiter is not None and not waiter.done():
            body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            waiter.set_result(Answer(self._parser.get_status_code(), kind, body))
