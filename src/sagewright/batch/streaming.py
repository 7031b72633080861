"""Bodies that are not held (MaxPayloadInMB=0): an object through a container in chunks, its answer read as it comes.

    source ─► pieces ─► Transfer-Encoding: chunked ─► container ─► pieces ─► output

The answer may begin before the request has ended. In a pipeline each container's answer is the next one's request, at
once. InvocationsTimeoutInSeconds counts from the last byte that moved in either direction: a large object takes its
time. Owns: one attempt of one request. Does not own: retries, what a failure means (`whole`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar, cast

import httptools

from sagewright.batch.connection import NoAnswer, TooLate, acknowledge, connect, start

T = TypeVar("T")

Pieces = AsyncGenerator[bytes, None]

_HIGH: Final = 1 << 20  # bytes of an answer that wait to be read, before the container is made to wait
_WRITE_AHEAD: Final = 1 << 20  # bytes of a request that wait to be sent


class Streamed(NamedTuple):
    """`pieces` is to be closed. Reading it raises NoAnswer, and what the request's pieces raised."""

    status: int
    content_type: str
    pieces: Pieces


async def post(address: str, headers: str, body: Pieces, silence: float) -> Streamed:
    """The answer's head, once it is there. `headers` are whole lines, `silence` is in seconds; `body` is closed.
    Raises NoAnswer, and what `body` raises."""
    try:
        stream = await connect(address, _Stream)
    except BaseException:
        await body.aclose()
        raise
    head = f"{start('POST', '/invocations', address)}{headers}Transfer-Encoding: chunked\r\n\r\n".encode()
    sending = asyncio.create_task(stream.send(head, body))
    try:
        status, content_type = await stream.wait(silence, lambda: stream.head)
    except BaseException:
        await _end(stream, sending)
        raise
    return Streamed(status, content_type, _read(stream, sending, silence))


async def _read(stream: _Stream, sending: asyncio.Task[None], silence: float) -> Pieces:
    try:
        while piece := await stream.wait(silence, stream.take):
            yield piece
    finally:
        await _end(stream, sending)


async def _end(stream: _Stream, sending: asyncio.Task[None]) -> None:
    stream.abort()
    sending.cancel()
    with suppress(asyncio.CancelledError):
        await sending


class _Stream(asyncio.Protocol):
    """One connection for one request. `head` is the answer's status and Content-Type."""

    def __init__(self) -> None:
        self.head: tuple[int, str] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._size = 0
        self._type = ""
        self._sized = self._ended = self._lost = False
        self._error: Exception | None = None
        self._moved = 0.0
        self._starved = False  # the request's next piece has yet to come: the container cannot be blamed
        self._writable = asyncio.Event()
        self._writable.set()
        self._changed = asyncio.Event()

    async def send(self, head: bytes, body: Pieces) -> None:
        """Errors of `body` are raised by `wait`."""
        try:
            self._transport.write(head)
            while piece := await self._next(body):
                self._transport.writelines((b"%x\r\n" % len(piece), piece, b"\r\n"))
                await self._writable.wait()
                if self._lost:
                    return
            self._transport.write(b"0\r\n\r\n")
        except Exception as error:
            self._fail(error)
        finally:
            await body.aclose()

    async def _next(self, body: Pieces) -> bytes:
        """Empty at its end."""
        self._starved = True
        try:
            return await anext(body, b"")
        finally:
            self._starved = False
            self._move()

    async def wait(self, silence: float, found: Callable[[], T | None]) -> T:
        loop = asyncio.get_running_loop()
        while (value := found()) is None:
            if self._error is not None:
                raise self._error
            self._changed.clear()
            try:
                async with asyncio.timeout_at(self._moved + silence):
                    await self._changed.wait()
            except TimeoutError:
                if self._starved:
                    self._move()
                elif loop.time() >= self._moved + silence:
                    raise TooLate(f"no byte moved within {silence:g} s") from None
        return value

    def take(self) -> bytes | None:
        """What of the answer has come; empty at its end; None when there is nothing yet."""
        if not self._pieces:
            return b"" if self._ended else None
        data = b"".join(self._pieces)
        self._pieces.clear()
        if self._size > _HIGH:
            self._transport.resume_reading()
        self._size = 0
        return data

    def abort(self) -> None:
        self._transport.abort()

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._changed.set()

    def _move(self) -> None:
        self._moved = asyncio.get_running_loop().time()

    # -- asyncio ---------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(_WRITE_AHEAD)
        self._move()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._move()
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._move()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail(NoAnswer("the answer is not HTTP"))
        self._changed.set()
        if not self._ended:
            acknowledge(self._transport)
        if self._size > _HIGH:
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self._writable.set()
        if self.head is not None and not self._sized and not exc:
            self._ended = True
        if not self._ended:
            self._fail(NoAnswer("the connection was closed before the answer was whole"))
        self._changed.set()

    # -- httptools -------------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        lowered = name.lower()
        if lowered == b"content-type":
            self._type = value.decode("latin-1")
        elif lowered in {b"content-length", b"transfer-encoding"}:
            self._sized = True

    def on_headers_complete(self) -> None:
        if self._parser.get_status_code() >= 200:
            self.head = (self._parser.get_status_code(), self._type)

    def on_body(self, body: bytes) -> None:
        self._pieces.append(body)
        self._size += len(body)

    def on_message_complete(self) -> None:
        self._ended = self.head is not None
