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
import hmac
from typing import Final

from sagewright.router.access import ALGORITHM_LINE, SIGNATURE, Known
from sagewright.router.request import Request

_DATE: Final = b"x-amz-date"
_LENGTH: Final = b"content-length"
_AUTHORIZATION: Final = b"authorization"
_INVOCATION: Final = b"amz-sdk-invocation-id"  # of botocore; another for every request
_DATE_SIZE: Final = 16

Piece = bytes | slice


class Template:
    """Made by `learn`. `forwarded` are the lines that a container gets, up to the value of its Content-Length."""

    __slots__ = (
        "_canonical",
        "_date",
        "_fixed",
        "_invocation",
        "_length",
        "_signature",
        "forwarded",
        "known",
        "name",
        "size",
    )

    def __init__(self, data: bytes, size: int, request: Request, known: Known, holes: dict[bytes, slice]) -> None:
        self.size = size  # of the head, with its empty line
        self.name = request.name
        self.known = known
        self.forwarded = request.forwarded() + b"Content-Length: "
        self._date = holes[_DATE]
        self._length = holes[_LENGTH]
        self._signature = holes[_AUTHORIZATION]
        self._invocation = holes.get(_INVOCATION)
        self._fixed = _between(data, size, sorted(holes.values(), key=_start))
        self._canonical = _canonical(request, known, holes)

    def fits(self, data: bytes) -> bool:
        """Whether a packet begins with such a head, and its body is exactly the rest."""
        for start, fixed in self._fixed:
            if not data.startswith(fixed, start):
                return False
        length = data[self._length]
        if not length.isdigit() or len(data) - self.size != int(length):
            return False
        return self._invocation is None or data[self._invocation].replace(b"-", b"").isalnum()

    def date(self, data: bytes) -> bytes:
        return data[self._date]

    def is_signed(self, data: bytes, body: bytes) -> bool:
        """Whether the signature in `data`, which fits, is right."""
        sha256 = hashlib.sha256
        parts = [data[piece] if isinstance(piece, slice) else piece for piece in self._canonical]
        parts.append(sha256(body).hexdigest().encode())
        known = self.known
        inner = known.inner.copy()
        digest = sha256(b"".join(parts)).hexdigest().encode()
        inner.update(b"%b%b%b%b" % (ALGORITHM_LINE, data[self._date], known.scope, digest))
        outer = known.outer.copy()
        outer.update(inner.digest())
        return hmac.compare_digest(outer.hexdigest().encode(), data[self._signature])


def learn(data: bytes, size: int, request: Request, known: Known) -> Template | None:
    """A template of a request that was read in full from `data`, whose head has `size` bytes. None: it has none."""
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
    holes[_AUTHORIZATION] = slice(authorization.stop - SIGNATURE, authorization.stop)
    return Template(data, size, request, known, holes)


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


def _start(hole: slice) -> int:
    start: int = hole.start
    return start
