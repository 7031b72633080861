"""Kept connections to one container, and one HTTP/1.1 exchange at a time on each.

    connecting ──▶ idle ──send──▶ busy ──whole answer──▶ idle ──30 s, or the container closes──▶ gone
                                   └──broken, late, given up──▶ gone

Owns: connecting, reading answers, what a broken connection tells about the request. Does not own: which container,
retries, limits of time (`router.exchange`).
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Final, Protocol, cast

import httptools

from sagewright.router.heads import Heads
from sagewright.router.table import Place
from sagewright.router.whole import Whole, Wholes

SHORT: Final = 64 * 1024  # bytes of a body that is copied to be sent with its head
_LONGEST_HEAD: Final = 256 * 1024  # bytes of an answer's head
_PROBE: Final = 0.25  # seconds to connect, as AWS demands of a container (contract B.3)
_PROBE_HOLD: Final = 0.1  # seconds: the sockets of a killed process do not all close at the same moment
_ACKED: Final = struct.Struct("=120xQ")  # struct tcp_info: tcpi_bytes_acked, since Linux 4.1
_BROKEN: Final = (httptools.HttpParserError, httptools.HttpParserUpgrade)

Headers = Sequence[tuple[bytes, bytes]]


class Caller(Protocol):
    """Who sent a request to a container (`router.exchange.Exchange`)."""

    def connected(self, link: Link) -> None:
        """The connection that was asked for."""
        ...

    def refused(self, reason: str) -> None:
        """There is no connection to be had."""
        ...

    def whole(self, answer: Whole, data: bytes, now: float) -> None:
        """All of a good answer at once, at the time `now` of `perf_counter`; the connection has gone back to its pool.
        Instead of the next four."""
        ...

    def head(self, status: int, headers: Headers, link: Link) -> None:
        """Names of headers are in lower case."""
        ...

    def piece(self, data: bytes) -> None: ...

    def flush(self) -> None:
        """No more can be had at this moment."""
        ...

    def ended(self) -> None:
        """The answer is whole. The connection has gone back to its pool."""
        ...

    def broken(self, reason: str, *, unseen: bool) -> None:
        """The answer will not come, or not be whole. `unseen`: not a byte of the request has reached the container."""
        ...

    def crashed(self, error: Exception) -> None:
        """One of the above raised: a bug of ours."""
        ...


class Pool:
    """The connections to one container. Made anew for every instance; `close` when it has left the table."""

    def __init__(
        self, place: Place, loop: asyncio.AbstractEventLoop, connect_time: float, wholes: Wholes | None = None
    ) -> None:
        self.place = place
        self.wholes = wholes or Wholes(Heads())
        self.last: Whole | None = None  # the last answer's head
        host = f"[{place.host}]" if ":" in place.host else place.host
        self.request_head = f"POST /invocations HTTP/1.1\r\nhost: {host}:{place.port}\r\n".encode()
        self._loop = loop
        self._connect_time = connect_time
        self.idle: deque[Link] = deque()  # the one used last is at the right
        self.is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self) -> Link | None:
        """An idle connection; None: `connect` first."""
        return self.idle.pop() if self.idle else None

    def connect(self, caller: Caller) -> None:
        """Tells the caller `connected` or `refused`, later."""
        self._spawn(self._connect(caller))

    def give_back(self, link: Link) -> None:
        if self.is_closed:
            link.close()
        else:
            link.idle_since = perf_counter()
            self.idle.append(link)

    def forget(self, link: Link) -> None:
        if link in self.idle:
            self.idle.remove(link)

    def trim(self, before: float) -> None:
        """Close what has been idle since then, a time of `perf_counter`."""
        while self.idle and self.idle[0].idle_since < before:
            self.idle.popleft().close()

    async def is_alive(self) -> bool:
        """Whether somebody still listens: takes at least 100 ms to say yes."""
        try:
            async with asyncio.timeout(_PROBE):
                _, link = await self._loop.create_connection(lambda: Link(self), self.place.host, self.place.port)
        except OSError:  # TimeoutError is one
            return False
        await asyncio.sleep(_PROBE_HOLD)
        alive = not link.gone
        if alive:
            self.give_back(link)
        return alive

    def close(self) -> None:
        """Idle connections at once, the others when they come back."""
        self.is_closed = True
        while self.idle:
            self.idle.pop().close()

    async def _connect(self, caller: Caller) -> None:
        try:
            async with asyncio.timeout(self._connect_time):
                _, link = await self._loop.create_connection(lambda: Link(self), self.place.host, self.place.port)
        except TimeoutError:
            _tell(caller, lambda: caller.refused(f"no connection within {self._connect_time:g} s"))
        except OSError as error:
            reason = error.strerror or str(error)
            _tell(caller, lambda: caller.refused(reason))
        else:
            _tell(caller, lambda: caller.connected(link))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Link(asyncio.Protocol):
    """One connection to a container."""

    __slots__ = (
        "_caller",
        "_complete",
        "_head_size",
        "_headers",
        "_held",
        "_is_plain",
        "_is_spoiled",
        "_parser",
        "_pool",
        "_sent",
        "_sent_before",
        "_started",
        "_transport",
        "_until_close",
        "gone",
        "idle_since",
    )

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._caller: Caller | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_size = 0
        self._started = False  # the final answer's head is whole
        self._complete = False
        self._until_close = False  # the answer ends with the connection
        self._held = b""  # a head whose body is to come
        self._is_plain = True  # nothing of the answer has come, and the request has gone out at once
        self._is_spoiled = False  # not to be used again
        self._sent = 0  # bytes, ever
        self._sent_before = 0  # bytes, before this request
        self.gone = False
        self.idle_since = 0.0

    def send(self, caller: Caller, head: bytes, body: bytes) -> None:
        """One request. The caller hears of its answer, once of its end."""
        if len(body) <= SHORT:
            self.send_short(caller, head + body)
            return
        self._caller = caller
        self._is_plain = False
        self._sent_before = self._sent
        self._sent += len(head) + len(body)
        self._transport.writelines((head, body))

    def send_short(self, caller: Caller, request: bytes) -> None:
        """The same for one that is cheaper to copy than to hand over in two pieces."""
        self._caller = caller
        self._sent_before = self._sent
        self._sent += len(request)
        self._transport.write(request)

    def close(self) -> None:
        """Give the connection up: nothing more is heard of it."""
        self._caller = None
        self._transport.abort()

    def hand_on(self, caller: Caller) -> None:
        """Another goes on with the request that is under way."""
        if self._caller is not None:
            self._caller = caller

    def pause(self) -> None:
        if not self.gone:
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self.gone:
            self._transport.resume_reading()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        caller = self._caller
        if caller is None:
            self._transport.abort()  # nobody has asked for anything
            return
        if self._is_plain:
            pool = self._pool
            answer = pool.last
            if self._held:
                data, self._held = self._held + data, b""
            if answer is None or len(data) != answer.size or not data.startswith(answer.head):
                if data.endswith(b"\r\n\r\n") and pool.wholes.awaits(data):
                    self._held = data
                    return
                answer = pool.last = pool.wholes.read(data)
            if answer is not None:
                self._caller = None
                self.idle_since = now = perf_counter()
                if pool.is_closed:
                    self.close()
                else:
                    pool.idle.append(self)
                try:
                    caller.whole(answer, data, now)
                except Exception as error:
                    caller.crashed(error)
                return
            self._is_plain = False
        self._parse(caller, data)

    def _parse(self, caller: Caller, data: bytes) -> None:
        if not self._started:
            self._head_size += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            self._crash(error)
            return
        except _BROKEN as error:
            if not self._complete:
                self._fail(f"it sent what is not HTTP ({type(error).__name__})")
                return
            self._is_spoiled = True  # the answer was whole; what follows it is not
        try:
            self._proceed(caller)
        except Exception as error:
            self._crash(error)

    def _read_held(self, caller: Caller) -> None:
        """Its body will not come. The caller knows then that the container had begun to answer; no client does."""
        held, self._held = self._held, b""
        try:
            self._parser.feed_data(held)
        except httptools.HttpParserCallbackError as error:
            self._crash(error)

    def eof_received(self) -> None:
        """Closes; see connection_lost."""

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        caller = self._caller
        if self._held and caller is not None:
            self._read_held(caller)
            caller = self._caller
        if caller is None:
            self._pool.forget(self)
        elif self._started and self._until_close and exc is None:
            _tell(caller, lambda: self._finish(caller))
        else:
            unseen = not self._started and self._is_unseen()
            self._caller = None
            reason = "it closed the connection" if exc is None else f"the connection broke ({exc})"
            _tell(caller, lambda: caller.broken(reason, unseen=unseen))

    # httptools

    def on_message_begin(self) -> None:
        if self._complete:
            self._is_spoiled = True  # more answers than requests
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200 or self._complete:
            return  # an interim answer, or one that nobody has asked for
        self._started = True
        self._head_size = 0
        names = [name for name, _ in self._headers]
        self._until_close = (
            status not in {204, 304} and b"content-length" not in names and b"transfer-encoding" not in names
        )
        if self._caller is not None:
            self._caller.head(status, self._headers, self)

    def on_body(self, data: bytes) -> None:
        if self._caller is not None and not self._complete:
            self._caller.piece(data)

    def on_message_complete(self) -> None:
        if self._started and not self._complete:
            self._complete = True
            if not self._parser.should_keep_alive():  # later the parser has forgotten
                self._is_spoiled = True

    @property
    def _is_unsent(self) -> bool:
        """The container has answered before it has taken the whole request."""
        return self._transport.get_write_buffer_size() > 0

    def _proceed(self, caller: Caller) -> None:
        """As far as the bytes go that have come."""
        if self._complete:
            self._finish(caller)
        elif not self._started and self._head_size > _LONGEST_HEAD:
            self._fail(f"the head of its answer is longer than {_LONGEST_HEAD} bytes")
        else:
            caller.flush()

    def _crash(self, error: Exception) -> None:
        caller = self._caller
        self.close()
        if caller is not None:
            caller.crashed(error)

    def _finish(self, caller: Caller) -> None:
        self._caller = None
        if self.gone or self._until_close or self._is_spoiled or self._is_unsent:
            self.close()
        else:
            self._started = self._complete = False
            self._is_plain = True
            self._pool.give_back(self)
        caller.ended()

    def _fail(self, reason: str) -> None:
        caller = self._caller
        self.close()
        if caller is not None:
            caller.broken(reason, unseen=False)

    def _is_unseen(self) -> bool:
        """The kernel knows what of the request was acknowledged: nothing, when a kept connection was just being closed.

        Where it does not tell (other systems than Linux), the request counts as seen.
        """
        raw = self._transport.get_extra_info("socket")
        try:
            info = raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 232)
            acked: int = _ACKED.unpack_from(info)[0]
        except (OSError, AttributeError, struct.error):
            return False
        return acked - 1 <= self._sent_before  # the first acknowledged byte is the handshake's


def _tell(caller: Caller, what: Callable[[], None]) -> None:
    try:
        what()
    except Exception as error:
        caller.crashed(error)
