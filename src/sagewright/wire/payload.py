"""A request's body between the socket and an operation: checked against what was signed, aws-chunked taken off.

Owns: the meaning of x-amz-content-sha256, streams that raise before their end when the bytes are not what was signed,
the headers as they would have been without aws-chunked. Does not own: sockets (gateway), framing (`wire.chunked`).
Source: "Signature Calculations for the Authorization Header", S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Final

from sagewright.wire.chunked import ChunkedDecoder
from sagewright.wire.denials import Denied, Reason
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.sigv4 import UNSIGNED_PAYLOAD, Seal

CONTENT_SHA256: Final = "x-amz-content-sha256"
DECODED_LENGTH: Final = "x-amz-decoded-content-length"
_SIGNED_CHUNKS: Final = frozenset({"STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"})
_PLAIN_CHUNKS: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}\Z")
_LENGTH: Final = re.compile(r"[0-9]{1,18}\Z")


class HashedStream:
    """Bytes whose SHA-256 was signed. Raises Denied(BODY_MISMATCH) instead of ending when it is another."""

    def __init__(self, source: AsyncIterator[bytes], expected: str) -> None:
        self.trailers: Mapping[str, str] = {}
        self._pieces = self._checked(source, expected)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._pieces.__anext__()

    async def _checked(self, source: AsyncIterator[bytes], expected: str) -> AsyncIterator[bytes]:
        digest = hashlib.sha256()
        async for piece in source:
            digest.update(piece)
            yield piece
        _check_hash(digest.hexdigest(), expected)


class ChunkedStream:
    """The decoded bytes of an aws-chunked body. Raises Denied or ApiFault instead of ending when it is not whole."""

    def __init__(self, source: AsyncIterator[bytes], decoder: ChunkedDecoder) -> None:
        self._decoder = decoder
        self._pieces = self._decoded(source)

    @property
    def trailers(self) -> Mapping[str, str]:
        """Trailing headers by lower-case name; complete once the stream has ended."""
        return self._decoder.trailers

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    def __anext__(self) -> Awaitable[bytes]:
        return self._pieces.__anext__()

    async def _decoded(self, source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for data in source:
            for piece in self._decoder.feed(data):
                yield piece
        self._decoder.finish()


def bind(request: HttpRequest, payload_hash: str, seal: Seal | None) -> HttpRequest:
    """The request with a body that is what was signed: a whole body is checked now, a stream as it passes.

    `payload_hash` is what stood for the body in the canonical request; `seal` None for signatures that do not cover
    the body (Version 2). Raises Denied and ApiFault, and so does the stream of the result.
    """
    if payload_hash in _SIGNED_CHUNKS:
        return _unchunked(request, seal)
    if payload_hash == _PLAIN_CHUNKS or is_chunked(request):
        return _unchunked(request, None)
    if payload_hash == UNSIGNED_PAYLOAD:
        return request
    if not _SHA256.match(payload_hash):
        raise _bad_content_sha256()
    if request.stream is None or request.body is not None:
        _check_hash(hashlib.sha256(request.body or b"").hexdigest(), payload_hash)
        return request
    return _with_body(request, request.headers, None, HashedStream(request.stream, payload_hash))


def is_chunked(request: HttpRequest) -> bool:
    """Whether the body is aws-chunked by its own headers, whatever was signed."""
    return (
        "aws-chunked" in (request.headers.get("content-encoding") or "").lower() and DECODED_LENGTH in request.headers
    )


def _unchunked(request: HttpRequest, seal: Seal | None) -> HttpRequest:
    sent = request.headers.get(DECODED_LENGTH)
    if sent is None or not _LENGTH.match(sent):
        raise ApiFault("MissingContentLength", "You must provide the X-Amz-Decoded-Content-Length HTTP header.", 411)
    names = ",".join(request.headers.get_all("x-amz-trailer")).lower().split(",")
    declared = frozenset(name.strip() for name in names if name.strip())
    decoder = ChunkedDecoder(length=int(sent), seal=seal, declared=declared)
    headers = _plain_headers(request.headers, sent)
    if request.stream is None or request.body is not None:
        body = b"".join(decoder.feed(request.body or b""))
        decoder.finish()
        return _with_body(request, headers, body, None)
    return _with_body(request, headers, None, ChunkedStream(request.stream, decoder))


def _plain_headers(headers: Headers, decoded_length: str) -> Headers:
    """As the client would have sent them without aws-chunked: the object's own length and encoding."""
    kept = []
    for name, value in headers:
        if name == "content-encoding":
            codings = [coding.strip() for coding in value.split(",")]
            value = ",".join(coding for coding in codings if coding.lower() != "aws-chunked")  # noqa: PLW2901 - a rewrite
        if name not in {"content-length", "transfer-encoding"} and (value or name != "content-encoding"):
            kept.append((name, value))
    return Headers([*kept, ("content-length", decoded_length)])


def _with_body(
    request: HttpRequest, headers: Headers, body: bytes | None, stream: AsyncIterator[bytes] | None
) -> HttpRequest:
    return HttpRequest(
        request.method, request.raw_path, request.raw_query, headers, body, stream, request.scheme, request.client
    )


def _check_hash(computed: str, expected: str) -> None:
    if not hmac.compare_digest(computed, expected.lower()):
        raise Denied(
            Reason.BODY_MISMATCH,
            members={"ClientComputedContentSHA256": expected, "S3ComputedContentSHA256": computed},
        )


def _bad_content_sha256() -> ApiFault:
    kinds = ", ".join([UNSIGNED_PAYLOAD, _PLAIN_CHUNKS, *sorted(_SIGNED_CHUNKS)])
    return ApiFault("InvalidArgument", f"x-amz-content-sha256 must be {kinds} or a valid sha256 value.", 400)
