"""A client's requests are alike: what one had, the next on its connection has, but for a few values.

    head     fixed │ date │ fixed │ length │ fixed │ signature │ fixed          holes are where the values change
    to sign  fixed │ date │ fixed │ hash of the body

Owns: recognising the next request by comparing bytes, and checking its signature without reading its headers.
A template is made of a request that was read in full, of a client that the whole rules have let in before.
A head that fits means the same, because every byte outside the holes is the same, and what is in the holes is checked.
Every signature is. Does not own: reading in full (`router.heads`), the rules of signatures (`router.access`).
"""

from __future__ import annotations

import hashlib
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from sagewright.router.access import ALGORITHM_LINE, SIGNATURE, Access, Known
from sagewright.router.request import Request

_DATE: Final = b"x-amz-date"
_LENGTH: Final = b"content-length"
_AUTHORIZATION: Final = b"authorization"
_INVOCATION: Final = b"amz-sdk-invocation-id"  # of botocore; another for every request
_DATE_SIZE: Final = 16
_AGAIN: Final = 1.0  # seconds after which the clock is looked at again

Piece = bytes | slice


class Template:
    """Made by `learn`. `forwarded` are the lines that a container gets, up to the value of its Content-Length."""

    __slots__ = (
        "_access",
        "_begun",
        "_body_size",
        "_canonical",
        "_date",
        "_fixed",
        "_good_until",
        "_inner",
        "_invocation",
        "_length",
        "_limit",
        "_rest",
        "_signature",
        "_size",
        "_told_date",
        "_told_length",
        "forwarded",
        "known",
        "length_line",
        "name",
    )

    def __init__(
        self,
        access: Access,
        data: bytes,
        size: int,
        request: Request,
        known: Known,
        *,
        holes: dict[bytes, slice],
        limit: int,
    ) -> None:
        self.name = request.name
        self.known = known
        self.forwarded = request.forwarded() + b"Content-Length: "
        self.length_line = b""  # of the last request, with the head's end
        self._access = access
        self._size = size  # of the head, with its empty line
        self._limit = limit  # bytes of a body
        self._date = holes[_DATE]
        self._length = holes[_LENGTH]
        self._signature = holes[_AUTHORIZATION]
        self._invocation = holes.get(_INVOCATION)
        self._fixed = _between(data, size, sorted(holes.values(), key=_start))
        self._canonical = _canonical(request, known, holes)
        # What depends on the date and the length, which seldom change: made by `_prepare`.
        self._told_date = self._told_length = b""
        self._body_size = 0
        self._good_until = 0.0
        self._begun: hashlib._Hash  # of the canonical request, up to the first hole that always changes
        self._rest: tuple[Piece, ...]  # of the canonical request, from there
        self._inner: hashlib._Hash  # of the signature's HMAC, up to the canonical request's hash

    def admit(self, data: bytes, now: float) -> bytes | None:
        """The body, if a packet is such a request, whole, not too large, of the right time and rightly signed.

        `now` is a time of `perf_counter`. None: it is something else, or has no right to be answered."""
        for start, fixed in self._fixed:
            if not data.startswith(fixed, start):
                return None
        body = data[self._size :]
        if (
            data[self._date] != self._told_date
            or data[self._length] != self._told_length
            or len(body) != self._body_size
            or now > self._good_until
        ) and not self._prepare(data, len(body), now):
            return None
        invocation = self._invocation
        if invocation is not None and not data[invocation].replace(b"-", b"").isalnum():
            return None
        canonical = self._begun.copy()
        for piece in self._rest:
            canonical.update(_filled(piece, data))
        canonical.update(sha256(body).hexdigest().encode())
        inner = self._inner.copy()
        inner.update(canonical.hexdigest().encode())
        outer = self.known.outer.copy()
        outer.update(inner.digest())
        return body if compare_digest(outer.hexdigest().encode(), data[self._signature]) else None

    def awaits(self, data: bytes) -> bool:
        """Whether the rest of a body is all that such a request lacks."""
        size = len(data) - self._size
        if size < 0 or not all(data.startswith(fixed, start) for start, fixed in self._fixed):
            return False
        length = data[self._length]
        return length.isdigit() and size < int(length) <= self._limit

    def _prepare(self, data: bytes, size: int, now: float) -> bool:
        """For this date and length, if they are right."""
        length, date = data[self._length], data[self._date]
        if not length.isdigit() or int(length) != size or size > self._limit:
            return False
        left = self._access.time_left(self.known, date)
        if left <= 0:
            return False
        self._told_date, self._told_length, self._body_size = date, length, size
        self._good_until = now + min(left, _AGAIN)
        self.length_line = b"%d\r\n\r\n" % size
        self._begun, self._rest = sha256(), ()
        for piece in self._canonical:
            if self._rest or piece is self._invocation:
                self._rest += (piece if piece is self._invocation else _filled(piece, data),)
            else:
                self._begun.update(_filled(piece, data))
        self._inner = self.known.inner.copy()
        self._inner.update(b"%b%b%b" % (ALGORITHM_LINE, date, self.known.scope))
        return True


def learn(access: Access, data: bytes, size: int, request: Request, known: Known, *, limit: int) -> Template | None:
    """A template of a request that was read in full from `data`, whose head has `size` bytes. None: it has none.

    `limit`: the most bytes that a body may have."""
    holes = {}
    start = data.find(b"\r\n") + 2
    while start < size - 2:
        end = data.find(b"\r\n", start)
        name, _, rest = data[start:end].partition(b":")
        lower = name.lower()
        if lower in {_DATE, _LENGTH, _AUTHORIZATION, _INVOCATION}:
            value = request.headers[lower]
            begin = start + len(name) + 1 + rest.index(value)
            holes[lower] = slice(begin, begin + len(value))
        start = end + 2
    if len(holes.keys() & {_DATE, _LENGTH, _AUTHORIZATION}) < 3 or not request.target.is_plain:
        return None
    date, authorization = holes[_DATE], holes[_AUTHORIZATION]
    if date.stop - date.start != _DATE_SIZE or authorization.stop - authorization.start <= SIGNATURE:
        return None
    if not known.signed <= request.headers.keys():
        return None
    if any(b"  " in request.headers[name] or b"\t" in request.headers[name] for name in known.signed):
        return None  # the canonical form of a header's value has neither
    holes[_AUTHORIZATION] = slice(authorization.stop - SIGNATURE, authorization.stop)
    return Template(access, data, size, request, known, holes=holes, limit=limit)


def _between(data: bytes, size: int, holes: list[slice]) -> tuple[tuple[int, bytes], ...]:
    """What lies outside the holes, with where it begins."""
    fixed, start = [], 0
    for hole in holes:
        fixed.append((start, data[start : hole.start]))
        start = hole.stop
    fixed.append((start, data[start:size]))
    return tuple(fixed)


def _canonical(request: Request, known: Known, holes: dict[bytes, slice]) -> tuple[Piece, ...]:
    """The canonical request up to the body's hash, its fixed parts joined."""
    pieces: list[Piece] = []
    text = b"POST\n" + request.target.raw + b"\n"
    for start, name in known.lines:
        text += start
        if name in holes and name != _AUTHORIZATION:
            pieces += (text, holes[name])
            text = b""
        else:
            text += request.headers[name]
    return (*pieces, text + known.tail)


def _filled(piece: Piece, data: bytes) -> bytes:
    return data[piece] if isinstance(piece, slice) else piece


def _start(hole: slice) -> int:
    start: int = hole.start
    return start
