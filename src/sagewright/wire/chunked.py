"""The aws-chunked content encoding, taken off as the bytes pass.

    size;chunk-signature=HEX CRLF data CRLF … 0;chunk-signature=HEX CRLF [name:value CRLF …] CRLF

             ┌─────────────┐ size > 0  ┌──────┐ all of it ┌──────────┐
    start ──▶│ chunk header│──────────▶│ data │──────────▶│ its CRLF │──┐
             └─────────────┘           └──────┘           └──────────┘  │
                 ▲  │ size 0                                            │
                 └──┼───────────────────────────────────────────────────┘
                    ▼
                trailers ── empty line ──▶ done

Owns: framing, chunk and trailer signatures, the decoded length, declared trailers.
Does not own: what a trailer means (S3 checks its checksum), the bytes' way here (`wire.payload`).
Data is handed on before its chunk's signature is known: whoever takes it must not commit before the end was seen,
because a wrong signature is raised at that chunk's end. So nothing but one line is ever buffered.
Source: "Transferring payload in multiple chunks" and "… with trailing headers", S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from enum import Enum, auto
from typing import Final

from sagewright.wire.denials import Denied, Reason
from sagewright.wire.faults import ApiFault
from sagewright.wire.sigv4 import EMPTY_SHA256, Seal

LONGEST_LINE: Final = 8 * 1024  # bytes of a chunk header or one trailer
MOST_TRAILERS: Final = 32
_HEADER: Final = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?\Z")
_TRAILER_SIGNATURE: Final = "x-amz-trailer-signature"


class _State(Enum):
    HEADER = auto()
    DATA = auto()
    DATA_END = auto()
    TRAILERS = auto()
    DONE = auto()


class ChunkedDecoder:
    """`feed` gives the decoded pieces of what it is given; `finish` says whether it all came. Both raise.

    `seal` is set for signed chunks; `declared` are the names of the X-Amz-Trailer header, in lower case;
    `length` is X-Amz-Decoded-Content-Length in bytes.
    """

    def __init__(self, *, length: int, seal: Seal | None, declared: frozenset[str] = frozenset()) -> None:
        self.trailers: dict[str, str] = {}
        self._length = length
        self._seal = seal
        self._declared = declared
        self._state = _State.HEADER
        self._line = bytearray()
        self._left = 0  # bytes of the current chunk still to come
        self._total = 0
        self._previous = seal.signature if seal else ""
        self._expected = ""  # the current chunk's signature as sent
        self._hash = hashlib.sha256()
        self._signed_trailers = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Raises Denied (chunk signature) and ApiFault (framing, lengths, trailers)."""
        at = 0
        while at < len(data):
            if self._state is _State.DATA:
                piece = data[at : at + self._left]
                at += len(piece)
                self._take(piece)
                yield piece
            else:
                at = self._take_line(data, at)

    def finish(self) -> None:
        """The source has ended. Raises ApiFault when the encoding has not, or the length is not the declared one."""
        if self._state is not _State.DONE or self._total != self._length:
            raise incomplete_body(self._total, self._length)

    def _take(self, piece: bytes) -> None:
        self._left -= len(piece)
        self._total += len(piece)
        if self._total > self._length:
            raise incomplete_body(self._total, self._length)
        if self._seal is not None:
            self._hash.update(piece)
        if self._left == 0:
            self._state = _State.DATA_END

    def _take_line(self, data: bytes, at: int) -> int:
        """Collect one line; when it is whole, act on it. Gives the position after it."""
        end = data.find(b"\n", at)
        stop = len(data) if end < 0 else end + 1
        if len(self._line) + stop - at > LONGEST_LINE:
            raise _broken("a chunk header or trailer is longer than 8 KiB")
        self._line += data[at:stop]
        if end >= 0:
            line = bytes(self._line).rstrip(b"\r\n")
            self._line.clear()
            self._on_line(line)
        return stop

    def _on_line(self, line: bytes) -> None:
        if self._state is _State.HEADER:
            self._on_header(line)
        elif self._state is _State.DATA_END:
            self._on_data_end(line)
        elif self._state is _State.TRAILERS:
            self._on_trailer(line)
        elif line:
            raise _broken("there is data after the last chunk")

    def _on_header(self, line: bytes) -> None:
        found = _HEADER.match(line)
        if found is None:
            raise _broken(f"{line[:64]!r} is not a chunk header")
        if self._seal is not None and found[2] is None:
            raise Denied(Reason.MISMATCH, "a chunk has no chunk-signature")
        self._expected = (found[2] or b"").decode()
        self._left = int(found[1], 16)
        self._hash = hashlib.sha256()
        if self._left == 0:
            self._check_chunk()
        self._state = _State.DATA if self._left else _State.TRAILERS

    def _on_data_end(self, line: bytes) -> None:
        if line:
            raise _broken("a chunk is longer than its header says")
        self._check_chunk()
        self._state = _State.HEADER

    def _on_trailer(self, line: bytes) -> None:
        if not line:
            self._check_trailers()
            self._state = _State.DONE
            return
        name, colon, value = line.decode("latin-1").partition(":")
        name, value = name.strip().lower(), value.strip()
        if not colon or len(self.trailers) >= MOST_TRAILERS:
            raise _bad_trailer("a trailer must be name:value")
        if name != _TRAILER_SIGNATURE:
            if name not in self._declared:
                raise _bad_trailer(f"{name} was sent, but X-Amz-Trailer does not name it")
            self._signed_trailers += f"{name}:{value}\n".encode("latin-1")
        self.trailers[name] = value

    def _check_chunk(self) -> None:
        if self._seal is None:
            return
        self._check(
            self._expected,
            "AWS4-HMAC-SHA256-PAYLOAD",
            f"{EMPTY_SHA256}\n{self._hash.hexdigest()}",
        )

    def _check_trailers(self) -> None:
        missing = self._declared - self.trailers.keys()
        if missing:
            raise _bad_trailer(f"X-Amz-Trailer names {', '.join(sorted(missing))}, which was not sent")
        signature = self.trailers.pop(_TRAILER_SIGNATURE, "")
        if self._seal is not None and self._declared:
            digest = hashlib.sha256(self._signed_trailers).hexdigest()
            self._check(signature, "AWS4-HMAC-SHA256-TRAILER", digest)

    def _check(self, sent: str, algorithm: str, rest: str) -> None:
        """One link of the chain: each signature covers the one before it."""
        seal = self._seal
        if seal is None:
            return
        text = f"{algorithm}\n{seal.timestamp}\n{seal.scope}\n{self._previous}\n{rest}"
        expected = hmac.new(seal.signing_key, text.encode("latin-1", "replace"), "sha256").hexdigest()
        if not hmac.compare_digest(expected.encode(), sent.encode("utf-8", "replace")):
            raise Denied(Reason.MISMATCH, "a chunk's signature is wrong", {"StringToSign": text})
        self._previous = expected


def incomplete_body(received: int, expected: int) -> ApiFault:
    return ApiFault(
        "IncompleteBody",
        "You did not provide the number of bytes specified by the Content-Length HTTP header: "
        f"{received} came, {expected} were announced. Send the object again.",
        400,
    )


def _broken(what: str) -> ApiFault:
    return ApiFault(
        "InvalidRequest", f"The body is not valid aws-chunked encoding: {what}. Let an AWS SDK encode the upload.", 400
    )


def _bad_trailer(what: str) -> ApiFault:
    return ApiFault(
        "MalformedTrailerError",
        "The request contained trailing data that was not well-formed or did not conform to our published schema: "
        f"{what}.",
        400,
    )
