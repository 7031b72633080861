"""The whole body of a control-plane request, uncompressed."""

from __future__ import annotations

import zlib

from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import HttpRequest

MAX_EXPANDED = 16 * 1024 * 1024
"""Bytes of a gzip body once expanded (PutMetricData is compressed by every SDK): a small bomb stays small."""


def whole_body(request: HttpRequest) -> bytes:
    """The body's bytes; gzip is undone. Raises ApiFault when it cannot be, ValueError when it was not read yet."""
    if request.body is None:
        if request.stream is not None:
            raise ValueError("read the body whole before decoding: only a blob payload may be streamed")
        return b""
    if (request.headers.get("content-encoding") or "").lower() != "gzip":
        return request.body
    return _expand(request.body)


def _expand(body: bytes) -> bytes:
    machine = zlib.decompressobj(wbits=31)
    try:
        expanded = machine.decompress(body, MAX_EXPANDED)
    except zlib.error as error:
        raise ApiFault("SerializationException", "The body is not gzip, which Content-Encoding says it is") from error
    if machine.unconsumed_tail:
        raise ApiFault("RequestEntityTooLarge", f"The body expands to more than {MAX_EXPANDED} bytes; send less", 413)
    if not machine.eof:
        raise ApiFault("SerializationException", "The gzip body is cut short")
    return expanded
