"""A request that never becomes ASGI: its turn on the connection, and who answers it.

    head ──HotPath.take──▶ Handler ──feed*, finish──▶
    its turn comes ──start──▶ Turn.write* ──Turn.done──▶ the next request on the connection
    a packet like an earlier one ──Lane.take──▶ answered under the lane's own turn, which begins and completes again

Owns: what stands where uvicorn has its request-response cycle, and the contract with whoever takes requests off.
Does not own: the connection (`gateway.http`), what is taken and how it is answered (`sagewright.router`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

RawHeaders = Sequence[tuple[bytes, bytes]]
HOT: Final = b"POST /endpoints/"  # what every request for the hot path begins with
_GO_ON: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_DISCARDED: Final = 256 * 1024 * 1024  # bytes of a body that is refused already and read on so that its answer is


class Handler(Protocol):
    """Answers one request. Nothing is called after `lost`, and no method may raise."""

    def feed(self, piece: bytes) -> None:
        """Bytes of the body."""
        ...

    def finish(self) -> None:
        """The body is whole."""
        ...

    def start(self) -> None:
        """Every earlier request on the connection is answered: it may write now. May come before the body is whole."""
        ...

    def lost(self) -> None:
        """The client has gone."""
        ...

    def pause(self) -> None:
        """The client reads slower than we write."""
        ...

    def resume(self) -> None: ...


class Lane(Protocol):
    """Left on a connection by the hot path (`Turn.remember`): takes further requests that are like an earlier one."""

    def take(self, data: bytes) -> bool:
        """Whether these bytes, which come while nothing is under way, are such a request, whole; then it is begun.

        False: nothing has been done about it."""
        ...

    def awaits(self, data: bytes) -> bool:
        """Whether they are the beginning of one: with more bytes they may be taken."""
        ...


class HotPath(Protocol):
    """`sagewright.router.hot.Router`, or what a test puts in its place."""

    @property
    def in_flight(self) -> int:
        """Requests taken and not yet answered."""
        ...

    def take(self, turn: Turn, method: bytes, target: bytes, headers: RawHeaders) -> Handler | None:
        """None: the request is not for the hot path. `target` is in origin form, names of headers are in lower case."""
        ...

    def take_whole(self, turn: Turn, data: bytes) -> Handler | None:
        """The same for bytes that begin a request on a connection where nothing is under way. None: they are not one
        whole, plain request for the hot path. After it comes `start`, neither `feed` nor `finish`."""
        ...

    def awaits(self, data: bytes) -> bool:
        """Whether bytes that `take_whole` did not take are the beginning of what it takes, of a client that is known.
        Most clients send a head and its body in two pieces."""
        ...

    async def open(self) -> None:
        """Called in the event loop before the first request."""
        ...

    async def close(self) -> None: ...


class ClockLine:
    """The value of the Date header, set anew once a second."""

    __slots__ = ("date",)

    def __init__(self, date: bytes) -> None:
        self.date = date


class Seat(Protocol):
    """The connection, as a turn sees it (`gateway.http.GatewayHttp`)."""

    @property
    def lane_turn(self) -> Turn | None: ...

    def remember(self, lane: Lane | None, turn: Turn | None) -> None: ...

    @property
    def clock_line(self) -> ClockLine: ...

    @property
    def write_raw(self) -> Callable[[bytes], None]: ...

    def writelines_raw(self, pieces: Sequence[bytes]) -> None: ...

    def turn_done(self, turn: Turn) -> None: ...

    def abort(self) -> None: ...


class Turn:
    """Where uvicorn has its RequestResponseCycle: the attributes without a comment mean what they mean there."""

    __slots__ = (
        "_discarded",
        "_seat",
        "disconnected",
        "expects",
        "handler",
        "keep_alive",
        "modern",
        "more_body",
        "response_complete",
        "response_started",
        "started",
    )

    def __init__(self, seat: Seat, *, keep_alive: bool, modern: bool, expects: bool) -> None:
        self._seat = seat
        self._discarded = 0
        self.handler: Handler
        self.keep_alive = keep_alive
        self.modern = modern  # HTTP/1.1: the client knows chunked bodies
        self.expects = expects  # the client waits for 100 Continue before it sends its body
        self.more_body = True
        self.response_started = False
        self.response_complete = False
        self.disconnected = False
        self.started = False

    # Towards the connection

    def begin(self) -> None:
        self.started = True
        self.handler.start()

    def feed(self, piece: bytes) -> None:
        """What comes after the answer is thrown away: a client that is still sending would not read it otherwise."""
        if not self.response_complete:
            self.handler.feed(piece)
        else:
            self._discarded += len(piece)
            if self._discarded > _DISCARDED:
                self._seat.abort()

    def finish(self) -> None:
        self.more_body = False
        if not self.response_complete:
            self.handler.finish()

    def lose(self) -> None:
        if not self.disconnected and not self.response_complete:
            self.disconnected = True
            self.handler.lost()

    @property
    def message_event(self) -> Turn:
        """uvicorn tells a cycle that its client has gone by setting `disconnected` and then this event."""
        return self

    def set(self) -> None:
        if self.disconnected and not self.response_complete:
            self.handler.lost()

    # Towards the handler

    def another(self) -> Turn:
        """For a lane on the same connection: whole requests of HTTP/1.1, one after another. Complete between them."""
        made = Turn(self._seat, keep_alive=True, modern=True, expects=False)
        made.more_body = False
        made.started = made.response_complete = True
        return made

    def remember(self, lane: Lane) -> None:
        """Ask this lane, which answers under this turn, first when the next request comes on the connection."""
        self._seat.remember(lane, self)

    @property
    def leads(self) -> bool:
        """Whether the connection still remembers the lane of this turn: if not, other requests may be waiting."""
        return self._seat.lane_turn is self

    def forget(self) -> None:
        """The lane of this turn takes no further requests."""
        if self.leads:
            self._seat.remember(None, None)

    @property
    def clock_line(self) -> ClockLine:
        return self._seat.clock_line

    @property
    def date(self) -> bytes:
        """The value of the Date header."""
        return self._seat.clock_line.date

    @property
    def send(self) -> Callable[[bytes], None]:
        """What `write` ends in, for a lane."""
        return self._seat.write_raw

    def hand_on(self, handler: Handler) -> None:
        """Another handler goes on with the request."""
        self.handler = handler

    def go_on(self) -> None:
        """Ask for the body, if the client waits for that."""
        if self.expects:
            self.expects = False
            self._seat.write_raw(_GO_ON)

    def write(self, data: bytes) -> None:
        self.response_started = True
        self._seat.write_raw(data)

    def writelines(self, pieces: Sequence[bytes]) -> None:
        self.response_started = True
        self._seat.writelines_raw(pieces)

    def done(self) -> None:
        """The answer is written. The handler must have announced `connection: close` when `keep_alive` is False."""
        self.response_complete = True
        del self.handler  # it holds this turn: without the cycle both are freed now, not by the next collection
        self._seat.turn_done(self)

    def retire(self) -> None:
        """Of a lane that the connection no longer remembers, as `done` frees the others."""
        if self.response_complete:
            del self.handler

    def abort(self) -> None:
        """Cut the connection: the only way to tell of an answer that cannot be finished."""
        self._seat.abort()
