"""Kept HTTP/1.1 connections to one container. One request at a time on each, parsed as it comes.

Owns: connecting, sending, reading the answer, time limits. Does not own: how many at once, retries (`driver`).
"""

from __future__ import annotations

import asyncio
from typing import Final, NamedTuple, cast

import httptools

_CONNECT: Final = 10.0  # seconds
_AGENT: Final = "Go-http-client/1.1"  # what containers see on AWS (contract C.3)


class Answer(NamedTuple):
    status: int
    content_type: str
    body: bytes


class NoAnswer(Exception):
    """The container did not answer; the text says how."""


class _Stale(NoAnswer):
    """A kept connection was closed before the request reached anybody."""


class Container:
    """`address` is HOST:PORT."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._address = address
        self._idle: list[_Connection] = []

    async def get(self, path: str, seconds: float) -> Answer:
        return await self._ask(self._head("GET", path, ""), b"", seconds)

    async def post(self, path: str, headers: str, body: bytes, seconds: float) -> Answer:
        """`headers` are whole lines. Raises NoAnswer."""
        return await self._ask(self._head("POST", path, f"{headers}Content-Length: {len(body)}\r\n"), body, seconds)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _head(self, method: str, path: str, headers: str) -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: {self._address}\r\nUser-Agent: {_AGENT}\r\n{headers}\r\n".encode()

    async def _ask(self, head: bytes, body: bytes, seconds: float) -> Answer:
        while self._idle:
            kept = self._idle.pop()
            if kept.is_open:
                try:
                    return await self._exchange(kept, head, body, seconds)
                except _Stale:
                    continue
        return await self._exchange(await self._connect(), head, body, seconds)

    async def _connect(self) -> _Connection:
        try:
            async with asyncio.timeout(_CONNECT):
                _, made = await asyncio.get_running_loop().create_connection(_Connection, self._host, self._port)
        except TimeoutError:
            raise NoAnswer(f"no connection within {_CONNECT:g} s") from None
        except OSError as error:
            raise NoAnswer(f"no connection: {error.strerror or error}") from None
        return made

    async def _exchange(self, connection: _Connection, head: bytes, body: bytes, seconds: float) -> Answer:
        try:
            answer = await connection.ask(head, body, seconds)
        except BaseException:
            connection.close()
            raise
        if connection.is_open:
            self._idle.append(connection)
        return answer


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.is_open = False
        self._used = False
        self._waiter: asyncio.Future[Answer] | None = None
        self._pieces: list[bytes] = []
        self._type = ""

    def ask(self, head: bytes, body: bytes, seconds: float) -> asyncio.Future[Answer]:
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        self._parser = httptools.HttpResponseParser(self)
        self._pieces, self._type, self._heard, self._until_end = [], "", False, False
        timer = loop.call_later(seconds, self._late, seconds)
        waiter.add_done_callback(lambda _: timer.cancel())
        self._transport.writelines((head, body))
        return waiter

    def close(self) -> None:
        self.is_open = False
        self._transport.abort()

    def _late(self, seconds: float) -> None:
        self._fail(NoAnswer(f"no answer within {seconds:g} s (InvocationsTimeoutInSeconds)"))

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

    def on_message_begin(self) -> None:
        self._sized = False

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-type":
            self._type = value.decode("latin-1")
        elif lowered in {b"content-length", b"transfer-encoding"}:
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
        if waiter is not None and not waiter.done():
            waiter.set_result(Answer(self._parser.get_status_code(), self._type, b"".join(self._pieces)))
