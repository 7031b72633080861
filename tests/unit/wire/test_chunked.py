"""aws-chunked bodies: framing, signatures, trailers, cut and garbage input."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import zlib
from collections.abc import AsyncIterator

import pytest
from botocore.httpchecksum import AwsChunkedWrapper, Crc32Checksum
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.wire import payload
from sagewright.wire.chunked import LONGEST_LINE, ChunkedDecoder
from sagewright.wire.denials import Denied, Reason
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.sigv4 import EMPTY_SHA256, Seal

SEAL = Seal(b"k" * 32, "20250101T000000Z", "20250101/us-east-1/s3/aws4_request", "0" * 64)
CRC = frozenset({"x-amz-checksum-crc32"})


def sign(text: str) -> str:
    return hmac.new(SEAL.signing_key, text.encode(), "sha256").hexdigest()


def signed_body(pieces: list[bytes], trailer: bytes = b"") -> bytes:
    """Written from AWS's page, independently of the decoder."""
    previous, out = SEAL.signature, b""
    for piece in [*pieces, b""]:
        digest = hashlib.sha256(piece).hexdigest()
        previous = sign(
            f"AWS4-HMAC-SHA256-PAYLOAD\n{SEAL.timestamp}\n{SEAL.scope}\n{previous}\n{EMPTY_SHA256}\n{digest}"
        )
        out += f"{len(piece):x};chunk-signature={previous}\r\n".encode() + piece + (b"\r\n" if piece else b"")
    if trailer:
        digest = hashlib.sha256(trailer + b"\n").hexdigest()
        signature = sign(f"AWS4-HMAC-SHA256-TRAILER\n{SEAL.timestamp}\n{SEAL.scope}\n{previous}\n{digest}")
        out += trailer + b"\r\n" + f"x-amz-trailer-signature:{signature}\r\n".encode()
    return out + b"\r\n"


def decode(body: bytes, decoder: ChunkedDecoder, step: int = 1 << 20) -> bytes:
    out = b"".join(piece for at in range(0, len(body), step) for piece in decoder.feed(body[at : at + step]))
    decoder.finish()
    return out


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(st.binary(min_size=1, max_size=300), max_size=5), step=st.integers(1, 400))
def test_signed_chunks_come_out_however_they_are_cut(pieces: list[bytes], step: int) -> None:
    whole = b"".join(pieces)
    assert decode(signed_body(pieces), ChunkedDecoder(length=len(whole), seal=SEAL), step) == whole


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=5000), chunk=st.integers(1, 2000), step=st.integers(1, 3000))
def test_botocores_unsigned_chunks_with_a_trailer_come_out(content: bytes, chunk: int, step: int) -> None:
    encoded = AwsChunkedWrapper(io.BytesIO(content), Crc32Checksum, "x-amz-checksum-crc32", chunk).read()
    decoder = ChunkedDecoder(length=len(content), seal=None, declared=CRC)
    assert decode(encoded, decoder, step) == content
    expected = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    assert decoder.trailers == {"x-amz-checksum-crc32": expected}


def test_a_signed_trailer_is_verified_and_given() -> None:
    body = signed_body([b"abc", b"def"], b"x-amz-checksum-crc32:AAAAAA==")
    decoder = ChunkedDecoder(length=6, seal=SEAL, declared=CRC)
    assert decode(body, decoder, 7) == b"abcdef"
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_no_changed_byte_of_a_signed_body_passes(data: st.DataObject) -> None:
    body = signed_body([b"first chunk", b"second"], b"x-amz-checksum-crc32:AAAAAA==")
    at = data.draw(st.integers(0, len(body) - 1))
    changed = bytearray(body)
    changed[at] ^= data.draw(st.sampled_from([1, 2, 32, 128]))
    decoder = ChunkedDecoder(length=17, seal=SEAL, declared=CRC)
    try:
        decoded = decode(bytes(changed), decoder)
    except (ApiFault, Denied):
        return
    # Only what carries no meaning may differ: a hex digit's case, a line end.
    assert decoded == b"first chunksecond"
    assert decoder.trailers == {"x-amz-checksum-crc32": "AAAAAA=="}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_body_that_is_cut_anywhere_is_never_whole(data: st.DataObject) -> None:
    body = signed_body([b"first chunk", b"second"])
    at = data.draw(st.integers(0, len(body) - 2))
    with pytest.raises((ApiFault, Denied)):
        decode(body[:at], ChunkedDecoder(length=17, seal=SEAL))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400))
def test_garbage_is_refused_in_words(garbage: bytes) -> None:
    with pytest.raises(ApiFault) as caught:
        decode(garbage, ChunkedDecoder(length=10, seal=None, declared=CRC), 16)
    assert caught.value.code in {"InvalidRequest", "IncompleteBody", "MalformedTrailerError"}


def test_chunks_in_another_order_are_refused() -> None:
    first, second = signed_body([b"aaaa"]), signed_body([b"bbbb"])
    head_a, head_b = first[: first.index(b"0;")], second[: second.index(b"0;")]
    with pytest.raises(Denied) as caught:
        decode(head_b + head_a, ChunkedDecoder(length=8, seal=SEAL))
    assert caught.value.reason is Reason.MISMATCH


@pytest.mark.parametrize(
    ("body", "length", "code"),
    [
        (b"5\r\nabcde\r\n0\r\n\r\n", 4, "IncompleteBody"),
        (b"5\r\nabcde\r\n0\r\n\r\n", 6, "IncompleteBody"),
        (b"5\r\nabcdeX\r\n0\r\n\r\n", 5, "InvalidRequest"),
        (b"5\r\nabcde\r\n0\r\n\r\nmore\r\n", 5, "InvalidRequest"),
        (b"-5\r\n", 5, "InvalidRequest"),
        (b"ffffffffffffffffff\r\n", 5, "InvalidRequest"),
        (b"ffffffffffffffff\r\n" + b"x" * 100, 5, "IncompleteBody"),
        (b"0" * (LONGEST_LINE + 1), 5, "InvalidRequest"),
        (b"0\r\nx-amz-checksum-sha256:x\r\n\r\n", 0, "MalformedTrailerError"),
        (b"0\r\nnot a trailer\r\n\r\n", 0, "MalformedTrailerError"),
        (b"0\r\n" + b"a" * (LONGEST_LINE + 1), 0, "InvalidRequest"),
    ],
)
def test_wrong_framing_has_its_code(body: bytes, length: int, code: str) -> None:
    with pytest.raises(ApiFault) as caught:
        decode(body, ChunkedDecoder(length=length, seal=None))
    assert caught.value.code == code


def test_a_declared_trailer_must_come() -> None:
    with pytest.raises(ApiFault) as caught:
        decode(b"0\r\n\r\n", ChunkedDecoder(length=0, seal=None, declared=CRC))
    assert caught.value.code == "MalformedTrailerError"


def test_a_declared_trailer_without_its_signature_is_refused() -> None:
    body = signed_body([b"abc"])[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    with pytest.raises(Denied):
        decode(body, ChunkedDecoder(length=3, seal=SEAL, declared=CRC))


def test_a_signed_stream_without_chunk_signatures_is_refused() -> None:
    with pytest.raises(Denied):
        decode(b"3\r\nabc\r\n0\r\n\r\n", ChunkedDecoder(length=3, seal=SEAL))


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _request(headers: list[tuple[str, str]], *pieces: bytes) -> HttpRequest:
    return HttpRequest("PUT", "/b/k", "", Headers(headers), None, _pieces(*pieces))


def _read(request: HttpRequest) -> bytes:
    async def read() -> bytes:
        assert request.stream is not None
        return b"".join([piece async for piece in request.stream])

    return asyncio.run(read())


def test_a_hashed_stream_raises_instead_of_ending() -> None:
    expected = hashlib.sha256(b"abcdef").hexdigest()
    assert _read(payload.bind(_request([], b"abc", b"def"), expected, SEAL)) == b"abcdef"
    with pytest.raises(Denied) as caught:
        _read(payload.bind(_request([], b"abc", b"deX"), expected, SEAL))
    assert caught.value.reason is Reason.BODY_MISMATCH


def test_a_whole_body_is_checked_at_once() -> None:
    request = HttpRequest("POST", "/b", "delete", Headers(), b"<Delete/>")
    assert payload.bind(request, hashlib.sha256(b"<Delete/>").hexdigest(), SEAL) is request
    with pytest.raises(Denied):
        payload.bind(request, EMPTY_SHA256, SEAL)


@pytest.mark.parametrize("value", ["", "x", "é" * 64, "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"])
def test_an_unknown_kind_of_payload_is_refused(value: str) -> None:
    with pytest.raises(ApiFault) as caught:
        payload.bind(_request([]), value, SEAL)
    assert caught.value.code == "InvalidArgument"


def test_headers_are_those_of_the_object_once_aws_chunked_is_off() -> None:
    headers = [
        ("Content-Encoding", "gzip,aws-chunked"),
        ("Content-Length", "99"),
        ("Transfer-Encoding", "chunked"),
        ("X-Amz-Decoded-Content-Length", "3"),
    ]
    bound = payload.bind(_request(headers, b"3\r\nabc\r\n0\r\n\r\n"), "STREAMING-UNSIGNED-PAYLOAD-TRAILER", SEAL)
    assert bound.headers.get_all("content-encoding") == ["gzip"]
    assert bound.headers.get_all("content-length") == ["3"]
    assert "transfer-encoding" not in bound.headers
    assert _read(bound) == b"abc"


@pytest.mark.parametrize("length", [None, "-1", "x", "9" * 30])
def test_aws_chunked_without_a_decoded_length_is_refused(length: str | None) -> None:
    headers = [("X-Amz-Decoded-Content-Length", length)] if length else []
    with pytest.raises(ApiFault) as caught:
        payload.bind(_request(headers), "STREAMING-UNSIGNED-PAYLOAD-TRAILER", SEAL)
    assert (caught.value.code, caught.value.status) == ("MissingContentLength", 411)
