"""Frames of `application/vnd.amazon.eventstream` (contract B.8). Pure.

    uint32 total | uint32 headers | uint32 crc32(first 8 bytes) | headers | payload | uint32 crc32(all before)
    a header: uint8 length, name, uint8 7, uint16 length, value

Owns: the frames that a response stream has. A part of the response is framed as it came from the container; its bytes
are not copied.
"""

from __future__ import annotations

import struct
from binascii import crc32
from typing import Final

import orjson

CONTENT_TYPE: Final = b"application/vnd.amazon.eventstream"
_OVERHEAD: Final = 16  # bytes of a frame that are neither headers nor payload
_TWO: Final = struct.Struct(">II")
_ONE: Final = struct.Struct(">I")


def _headers(*pairs: tuple[str, str]) -> bytes:
    made = b""
    for name, value in pairs:
        made += struct.pack(">B", len(name)) + name.encode() + struct.pack(">BH", 7, len(value)) + value.encode()
    return made


_PART: Final = _headers(
    (":event-type", "PayloadPart"), (":content-type", "application/octet-stream"), (":message-type", "event")
)


def part(payload: bytes) -> tuple[bytes, bytes, bytes]:
    """One PayloadPart as the bytes before, the payload itself, and the bytes after."""
    return _frame(_PART, payload)


def model_error(message: str, code: str) -> bytes:
    """ModelStreamError. `code` is ModelInvocationTimeExceeded or StreamBroken."""
    headers = _headers(
        (":exception-type", "ModelStreamError"), (":content-type", "application/json"), (":message-type", "exception")
    )
    return b"".join(_frame(headers, orjson.dumps({"Message": message, "ErrorCode": code})))


def _frame(headers: bytes, payload: bytes) -> tuple[bytes, bytes, bytes]:
    prelude = _TWO.pack(_OVERHEAD + len(headers) + len(payload), len(headers))
    before = prelude + _ONE.pack(crc32(prelude)) + headers
    return before, payload, _ONE.pack(crc32(payload, crc32(before)))
