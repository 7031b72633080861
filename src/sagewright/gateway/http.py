"""HTTP/1.1 on one connection: uvicorn's httptools protocol with the limits that a front door needs.

    idle ──first byte──▶ head ──empty line──▶ exchange ──last byte out──▶ idle
    75 s                 20 s, 64 KiB         body: 60 s without a byte

Owns: size and time limits of heads, stalled bodies, half-closing clients, absolute-form targets that come late, whose
turn it is when requests that the hot path takes off (`gateway.turn`) and others come on one connection.
Does not own: requests' meaning (`gateway.application`), what else the port speaks (`gateway.front`).
Times are looked at by the server once a second (`check`), so that a request pays for no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sagewright.gateway.cork import CorkedTransport
from sagewright.gateway.hosts import is_aws, parse_absolute
from sagewright.gateway.refusals import HEAD_LIMIT, LONGEST_HEAD, Refused, head_too_large, head_too_slow
from sagewright.gateway.sendfile import SUPPORTED, send_file
from sagewright.gateway.turn import HOT, ClockLine, HotPath, Lane, Turn
from sagewright.wire.messages import FileSpan

KEEP_ALIVE: Final = 75  # seconds an idle connection is kept: longer than any client's own pool keeps it unused
_BODY_LIMIT: Final = 60.0  # seconds between two bytes of a body that we are ready to read
_LINGER: Final = 2.0  # seconds for a refused client to read the refusal
_WRITE_BUFFER: Final = 512 * 1024  # bytes; one large piece goes out while the next is read


class Connection(Protocol):
    """What the server does with every connection, whatever it speaks."""

    def shutdown(self) -> None:
        """No further requests; close when the current one is answered."""
        ...

    def check(self, now: float) -> None:
        """Close what has been silent for too long. `now` is the loop's time."""
        ...


class GatewayHttp(HttpToolsProtocol):
    """One client connection, plain or inside our TLS."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        loop: asyncio.AbstractEventLoop,
        hot_path: HotPath | None,
        clock_line: ClockLine,
    ) -> None:
        super().__init__(config, server_state, {"connection": self}, loop)
        self._cork: CorkedTransport
        self._raw: asyncio.Transport  # without the cork
        self._hot_path = hot_path
        self._turn: Turn | None = None  # the hot path's request that is being answered
        self._under_way: Any = None  # the request that is answered while others wait for their turn
        self._lane: Lane | None = None  # the hot path's, while the parser has had nothing to do since it was left here
        self.lane_turn: Turn | None = None
        self.clock_line = clock_line
        self._in_message = False  # the parser has begun a request and not ended it
        self._in_head = False
        self._heads = 0  # begun on this connection
        self._head_size = 0  # bytes of an unfinished head, but for its first packet's
        self._head_since = 0.0
        self._last_data = loop.time()
        self._held = b""  # the beginning of a request that the hot path will take whole
        self._heard = False  # since `_last_data` was set
        self._refused: Refused | None = None
        self._refused_at = 0.0

    @property
    def gone(self) -> bool:
        """Whether nobody is left to read an answer."""
        return bool(self.transport.is_closing())

    @property
    def sends_files(self) -> bool:
        """Not through TLS, whose bytes are made here; not without a length; not while a further request waits for its
        turn, since `cycle` is that one's."""
        cycle: Any = self.cycle
        plain = SUPPORTED and self.scheme == "http" and not isinstance(cycle, Turn)
        return plain and cycle.chunked_encoding is False and cycle.scope["method"] != "HEAD"

    async def send_file(self, span: FileSpan) -> bool:
        """The body, or a part of it, of the response under way. False when the client has gone. Raises BlobError."""
        self._cork.flush()
        self.cycle.expected_content_length -= span.length
        return await send_file(self._raw, span)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's signature
        transport.set_write_buffer_limits(high=_WRITE_BUFFER)
        super().connection_made(transport)
        self._raw = transport
        self._cork = CorkedTransport(transport)
        self.transport = self._cork  # type: ignore[assignment] # stands in for a transport, by duck type

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if self._held:
            data, self._held = self._held + data, b""
        lane = self._lane
        if lane is not None and self.cycle.response_complete:
            if lane.take(data):
                self.cycle = self._turn = self.lane_turn  # type: ignore[assignment] # stands in for a cycle
                return
            if lane.awaits(data):
                self._held = data
                return
        if self._refused is not None:
            return  # lingering: what comes now is thrown away
        if self._hot_path is not None and data.startswith(HOT) and self._take_whole(self._hot_path, data):
            return
        self._parse(data)

    def _parse(self, data: bytes) -> None:
        """Bytes that are not one whole request of the hot path."""
        self.remember(None, None)
        unfinished = self._heads if self._in_head else 0
        super().data_received(data)
        if self._in_head and self._heads == unfinished and self._refused is None:
            # All of it belongs to one head. What else a packet holds (bodies, pipelined requests) does not count.
            self._head_size += len(data)
            if self._head_size > LONGEST_HEAD:
                self._refuse(head_too_large())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._turn is not None:
            self._turn.lose()
        waiting: Any
        for waiting, _ in self.pipeline:
            if isinstance(waiting, Turn):
                waiting.lose()
        self.remember(None, None)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._turn is not None and not self._turn.response_complete:
            self._turn.handler.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._turn is not None and not self._turn.response_complete:
            self._turn.handler.resume()

    def eof_received(self) -> bool | None:  # type: ignore[override] # uvicorn's never keeps the connection
        """A client that has sent a whole request may close its sending side and still get its answer, whatever else it
        has begun to send."""
        cycle = self.cycle
        if cycle is not None and cycle.more_body and self.pipeline:
            cycle = self._drop_last()
        if self.scheme == "https" or cycle is None or cycle.response_complete or cycle.more_body:
            return None
        cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """An idle client may never answer TLS's goodbye, so it is not waited for."""
        if self._held:
            held, self._held = self._held, b""
            self._parse(held)  # it is a request under way, and has its time to become whole
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.scheme == "https" and not self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().shutdown()

    def on_message_begin(self) -> None:
        self._in_head = self._in_message = True
        self._heads += 1
        self._head_size = 0
        self._head_since = self.loop.time()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        if not self.pipeline:
            self._under_way = self.cycle
        self._check_head_size()
        absolute = not self.url.startswith((b"/", b"*"))
        if absolute:
            self.url = self._origin_form()
        if self._hot_path is not None and self._take_off(self._hot_path, self.url, keep_alive=not absolute):
            return
        super().on_headers_complete()
        if absolute:
            # A client of a plain HTTP proxy may go on to another host on this connection. It must ask the front again.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        cycle: Any = self.cycle
        if isinstance(cycle, Turn):
            cycle.feed(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        cycle: Any = self.cycle
        if isinstance(cycle, Turn):
            cycle.finish()
        else:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._cork.flush()
        super().on_response_complete()

    def remember(self, lane: Lane | None, turn: Turn | None) -> None:
        earlier = self.lane_turn
        self._lane, self.lane_turn = lane, turn
        if earlier is not None:
            earlier.retire()

    @property
    def write_raw(self) -> Callable[[bytes], None]:
        return self._raw.write

    def writelines_raw(self, pieces: Sequence[bytes]) -> None:
        self._raw.writelines(pieces)

    def abort(self) -> None:
        self._raw.abort()

    def turn_done(self, turn: Turn) -> None:
        """A request of the hot path is answered: what `on_response_complete` is for the others, without its timer."""
        self._turn = None
        if self._raw.is_closing():
            return
        if not turn.keep_alive:
            self._close_gently(turn)
        elif self.pipeline:
            self.loop.call_soon(self._start_next)  # from the loop: a thousand pipelined requests must not nest
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def send_400_response(self, msg: str) -> None:
        """uvicorn calls this for every parser error, one that a callback of ours has raised among them."""
        self._refuse(self._refused or Refused(400, "Bad Request", f"{msg} This port speaks HTTP/1.1."))

    def _unsupported_upgrade_warning(self) -> None:
        """`Upgrade: h2c` (Java's client sends it with everything) is an offer that we do not take up: no news."""

    def check(self, now: float) -> None:
        if self._heard:
            self._heard, self._last_data = False, now
        if self.transport is None or self.transport.is_closing():
            return
        busy = self._held or (self.cycle is not None and not self.cycle.response_complete)
        silent = now - self._last_data
        if self._refused is not None:
            if not busy and now - self._refused_at > _LINGER:
                self.transport.abort()
        elif self._in_head:
            if now - self._head_since > HEAD_LIMIT:
                self._refuse(head_too_slow())
        elif not busy:
            if silent > KEEP_ALIVE:
                self.transport.close()
        elif silent > _BODY_LIMIT and self._waits_for_client():
            self.transport.abort()

    def _waits_for_client(self) -> bool:
        """Whether a body stands still because of the client, not because we do not read it or have not asked for it."""
        if self._held:
            return True
        cycle: Any = self.cycle
        asked = not (cycle.expects if isinstance(cycle, Turn) else cycle.waiting_for_100_continue)
        return asked and cycle.more_body and not self.flow.read_paused

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        """uvicorn's place where a request's turn has come."""
        self._under_way = cycle
        if isinstance(cycle, Turn):
            self._turn = cycle
            cycle.begin()
        else:
            super()._start_asgi_task(cycle, app)

    def _start_next(self) -> None:
        if self.pipeline and not self._raw.is_closing():
            self.flow.resume_reading()
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _take_whole(self, hot_path: HotPath, data: bytes) -> bool:
        """A whole request at once, as nearly all are: the parser need not see it. Or the beginning of one."""
        earlier: Any = self.cycle
        if self._in_message or (earlier is not None and not earlier.response_complete):
            return False
        turn = Turn(self, keep_alive=True, modern=True, expects=False)
        handler = hot_path.take_whole(turn, data)
        if handler is None:
            if hot_path.awaits(data):
                self._held = data
                return True
            return False
        self._unset_keepalive_if_required()
        turn.handler = handler
        turn.more_body = False
        self.cycle = turn  # type: ignore[assignment] # stands in for a cycle, by duck type
        self._turn = turn
        turn.begin()
        return True

    def _take_off(self, hot_path: HotPath, target: bytes, *, keep_alive: bool) -> bool:
        """Whether the request is the hot path's. It waits for its turn like any other."""
        modern = self.parser.get_http_version() == "1.1"
        turn = Turn(
            self,
            keep_alive=keep_alive and modern and self.parser.should_keep_alive(),
            modern=modern,
            expects=self.expect_100_continue,
        )
        handler = hot_path.take(turn, self.parser.get_method(), target, self.headers)
        if handler is None:
            return False
        turn.handler = handler
        earlier: Any = self.cycle
        self.cycle = turn  # type: ignore[assignment] # stands in for a cycle, by duck type
        if earlier is None or earlier.response_complete:
            self._start_asgi_task(turn, None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((turn, None))  # type: ignore[arg-type] # as above
        return True

    def _close_gently(self, turn: Turn) -> None:
        """A client that is still sending its body reads the answer only if what it sends is read, too."""
        if turn.more_body and self._raw.can_write_eof():
            self._raw.write_eof()
            self._refused = Refused(400, "Bad Request", "The connection is closing.")
            self._refused_at = self.loop.time()
        else:
            self._raw.close()

    def _check_head_size(self) -> None:
        size = len(self.url) + sum([len(name) + len(value) for name, value in self.headers])
        if size > LONGEST_HEAD:
            self._refused = head_too_large()
            raise self._refused

    def _origin_form(self) -> bytes:
        """The front has let the connection's first absolute target through; a later one may name any host."""
        try:
            host, port, origin_form = parse_absolute(self.url.decode("latin-1"))
        except ValueError as error:
            self._refused = Refused(400, "Bad Request", f"The request's target cannot be read: {error}.")
            raise self._refused from error
        if not is_aws(host) and (self.server is None or port != self.server[1]):
            self._refused = Refused(421, "Misdirected Request", f"Open a new connection to the proxy for {host}.")
            raise self._refused
        return origin_form.encode("latin-1")

    def _refuse(self, refused: Refused) -> None:
        """Answer in turn: never into the answer of an earlier request on this connection."""
        self._refused = refused
        self._refused_at = self.loop.time()
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle is not None and cycle.more_body and self.pipeline:
            cycle = self._drop_last()
        if cycle is None or cycle.response_complete:
            self._answer(refused)
        elif not cycle.more_body:
            cycle.keep_alive = False  # a good request is before it: its answer is the last
        elif cycle.response_started:
            self.transport.abort()
        else:
            _lose(cycle)
            self._answer(refused)

    def _drop_last(self) -> Any:
        """The last of several requests will not come to its end. The one before it, which shall be the last."""
        lost, _ = self.pipeline.popleft()
        before = self.cycle = self.pipeline[0][0] if self.pipeline else self._under_way
        _lose(lost)
        return before

    def _answer(self, refused: Refused) -> None:
        """Close only after the client had time to read it: closing on bytes not yet read would reset the connection."""
        self.transport.write(refused.response())
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


def _lose(cycle: Any) -> None:
    """The request's body is garbage: whoever waits for it learns of it as a lost client."""
    cycle.disconnected = True
    cycle.message_event.set()
