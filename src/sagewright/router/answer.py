"""A container's answer on its way to the client, as it comes.

    head ─▶ pieces ─▶ end        what is pending goes out in one write when no more can be had at the moment

Owns: the answer's head (contract B.4), its framing: whole, chunked, or as an event stream (B.8).
Does not own: answers that are errors (`router.errors`), backpressure (`router.exchange`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from sagewright.router import stream
from sagewright.router.pool import Headers
from sagewright.router.request import CLOSED_SESSION_ID, CUSTOM_ATTRIBUTES, NEW_SESSION_ID, SESSION_ID

_EMPTY_STATUSES = frozenset({204, 205, 304})
_PASSED_ON = {
    CUSTOM_ATTRIBUTES: b"X-Amzn-SageMaker-Custom-Attributes: ",
    NEW_SESSION_ID: b"X-Amzn-SageMaker-New-Session-Id: ",
    SESSION_ID: b"X-Amzn-SageMaker-New-Session-Id: ",
    CLOSED_SESSION_ID: b"X-Amzn-SageMaker-Closed-Session-Id: ",
}


class Handler(Protocol):
    """The same as `gateway.turn.Handler`."""

    def feed(self, piece: bytes) -> None: ...

    def finish(self) -> None: ...

    def start(self) -> None: ...

    def lost(self) -> None: ...

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Lane(Protocol):
    """The same as `gateway.turn.Lane`."""

    def take(self, data: bytes) -> bool: ...

    def awaits(self, data: bytes) -> bool: ...


class ClockLine(Protocol):
    """The same as `gateway.turn.ClockLine`."""

    @property
    def date(self) -> bytes: ...


class Out(Protocol):
    """The client's connection while it is this request's turn (`gateway.turn.Turn`)."""

    keep_alive: bool
    response_complete: bool

    @property
    def modern(self) -> bool: ...

    @property
    def started(self) -> bool: ...

    @property
    def expects(self) -> bool: ...

    @property
    def date(self) -> bytes: ...

    @property
    def clock_line(self) -> ClockLine: ...

    @property
    def send(self) -> Callable[[bytes], None]: ...

    @property
    def leads(self) -> bool: ...

    def another(self) -> Out: ...

    def remember(self, lane: Lane) -> None: ...

    def forget(self) -> None: ...

    def hand_on(self, handler: Handler) -> None: ...

    def go_on(self) -> None: ...

    def write(self, data: bytes) -> None: ...

    def writelines(self, pieces: list[bytes]) -> None: ...

    def done(self) -> None: ...

    def abort(self) -> None: ...


class Answer(Protocol):
    """One answer. `begun`: some of it has gone out, so it can no longer become another."""

    begun: bool

    def piece(self, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def end(self) -> None:
        """Writes the rest."""
        ...


class PlainAnswer:
    """Body and Content-Type as the container gave them."""

    __slots__ = ("_chunked", "_out", "_pending", "begun")

    def __init__(self, out: Out, status: int, headers: Headers, custom: bytes | None, common: bytes) -> None:
        self._out = out
        self.begun = False
        length = b"0" if status in _EMPTY_STATUSES else None
        lines = [common]
        for name, value in headers:
            if name == b"content-type":
                lines.append(b"Content-Type: " + value)
            elif name == b"content-length":
                length = length or value
            elif name in _PASSED_ON:
                lines.append(_PASSED_ON[name] + value)
                if name == CUSTOM_ATTRIBUTES:
                    custom = None  # this container's own
        if custom is not None:
            lines.append(_PASSED_ON[CUSTOM_ATTRIBUTES] + custom)
        self._chunked = length is None and out.modern
        if length is None and not out.modern:
            out.keep_alive = False
        if length is not None:
            lines.append(b"Content-Length: " + length)
        elif self._chunked:
            lines.append(b"Transfer-Encoding: chunked")
        self._pending = [_head(lines, out)]

    def piece(self, data: bytes) -> None:
        if self._chunked:
            self._pending += (b"%x\r\n" % len(data), data, b"\r\n")
        else:
            self._pending.append(data)

    def flush(self) -> None:
        if self._pending:
            self.begun = True
            pending, self._pending = self._pending, []
            _write(self._out, pending)

    def end(self) -> None:
        if self._chunked:
            self._pending.append(b"0\r\n\r\n")
        self.flush()


class StreamAnswer:
    """Every piece as a PayloadPart of an event stream."""

    __slots__ = ("_chunked", "_out", "_pending", "begun")

    def __init__(self, out: Out, headers: Headers, custom: bytes | None, common: bytes) -> None:
        self._out = out
        self.begun = False
        self._chunked = out.modern
        lines = [common, *_passed_on(headers, custom), b"Content-Type: " + stream.CONTENT_TYPE]
        if (content_type := _first(headers, b"content-type")) is not None:
            lines.append(b"X-Amzn-SageMaker-Content-Type: " + content_type)
        if self._chunked:
            lines.append(b"Transfer-Encoding: chunked")
        else:
            out.keep_alive = False
        self._pending = [_head(lines, out)]

    def piece(self, data: bytes) -> None:
        self._frame(stream.part(data))

    def fail(self, message: str, code: str) -> None:
        """What cannot be told by a status any more."""
        self._frame((stream.model_error(message, code),))

    def flush(self) -> None:
        if self._pending:
            self.begun = True
            pending, self._pending = self._pending, []
            _write(self._out, pending)

    def end(self) -> None:
        if self._chunked:
            self._pending.append(b"0\r\n\r\n")
        self.flush()

    def _frame(self, frame: tuple[bytes, ...]) -> None:
        if self._chunked:
            self._pending += (b"%x\r\n" % sum(map(len, frame)), *frame, b"\r\n")
        else:
            self._pending += frame


def common_head(request_id: str, variant: str) -> bytes:
    """What every good answer begins with; no line end after it."""
    return BEFORE_ID + request_id.encode() + after_id(variant)


BEFORE_ID: Final = b"HTTP/1.1 200 OK\r\nx-amzn-RequestId: "


def after_id(variant: str) -> bytes:
    return b"\r\nx-Amzn-Invoked-Production-Variant: " + variant.encode("latin-1")


def custom_attributes(headers: Headers) -> bytes | None:
    """What a container returned of them."""
    return _first(headers, CUSTOM_ATTRIBUTES)


def _head(lines: list[bytes], out: Out) -> bytes:
    lines.append(b"date: " + out.date)
    if not out.keep_alive:
        lines.append(b"connection: close")
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def _passed_on(headers: Headers, custom: bytes | None) -> list[bytes]:
    """`custom`: attributes that an earlier container of the pipeline returned, for when this one returned none."""
    lines = [_PASSED_ON[name] + value for name, value in headers if name in _PASSED_ON]
    if custom is not None and custom_attributes(headers) is None:
        lines.append(_PASSED_ON[CUSTOM_ATTRIBUTES] + custom)
    return lines


def _first(headers: Headers, wanted: bytes) -> bytes | None:
    for name, value in headers:
        if name == wanted:
            return value
    return None


_COPIED = 64 * 1024  # bytes that are cheaper to copy than to hand over apart


def _write(out: Out, pieces: list[bytes]) -> None:
    if len(pieces) == 1:
        out.write(pieces[0])
    elif sum(map(len, pieces)) <= _COPIED:
        out.write(b"".join(pieces))
    else:
        out.writelines(pieces)
