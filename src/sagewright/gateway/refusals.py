"""Requests that are refused before anybody looks at what they mean: how that is said, and the limits of heads.

Owns: the answer's words. Does not own: when a connection is closed after it (`gateway.http`, `gateway.front`).
"""

from __future__ import annotations

from typing import Final

LONGEST_HEAD: Final = 64 * 1024  # bytes of request line and headers
HEAD_LIMIT: Final = 20.0  # seconds from a head's first byte to its last


class Refused(Exception):
    """A request whose head is not accepted."""

    def __init__(self, status: int, phrase: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.phrase, self.sentence = status, phrase, sentence

    def response(self) -> bytes:
        body = f"{self.sentence}\n".encode()
        return (
            f"HTTP/1.1 {self.status} {self.phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        ).encode() + body


def head_too_large() -> Refused:
    sentence = f"The request line and headers are larger than {LONGEST_HEAD} bytes. Send fewer or shorter headers."
    return Refused(431, "Request Header Fields Too Large", sentence)


def head_too_slow() -> Refused:
    return Refused(408, "Request Timeout", f"The request's line and headers took more than {HEAD_LIMIT:g} seconds.")
