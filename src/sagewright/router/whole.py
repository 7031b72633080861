"""Answers of containers that come whole in one packet, as most do: read by comparing their heads with earlier ones.

Owns: what is known of such a head, the lines of it that go on to the client. Does not own: reading a head for the first
time (`router.heads`), answers in pieces (`router.pool`), answers that change something (`router.answer`).
"""

from __future__ import annotations

from typing import Final

from sagewright.router.heads import Heads, length
from sagewright.router.request import CLOSED_SESSION_ID, CUSTOM_ATTRIBUTES, NEW_SESSION_ID, SESSION_ID

_SPECIAL: Final = frozenset({SESSION_ID, NEW_SESSION_ID, CLOSED_SESSION_ID})
"""Headers with which an answer changes something."""
_PASSED_ON: Final = (
    (b"content-type", b"\r\nContent-Type: "),
    (CUSTOM_ATTRIBUTES, b"\r\nX-Amzn-SageMaker-Custom-Attributes: "),
)
_BODILESS: Final = frozenset({b"204", b"205"})
_LONGEST: Final = 64 * 1024  # bytes of an answer whose head waits for its body
_MOST: Final = 256  # heads remembered: each second has another Date, and bodies have other lengths


class Whole:
    """The head of a good answer whose body came with it: `data` has `size` bytes, the body begins at `start`.

    `lines` of it go on to the client, up to the Date's value; empty when there is more to do than that."""

    __slots__ = ("head", "headers", "lines", "size", "start", "status")

    def __init__(self, head: bytes, status: int, headers: dict[bytes, bytes], size: int) -> None:
        self.head = head
        self.start = len(head)
        self.size = self.start + size
        self.status = status
        self.headers = headers
        self.lines = _lines(headers, size) if status == 200 and _SPECIAL.isdisjoint(headers) else b""


class Wholes:
    """Remembers heads that it has read: a container's differ by the length of the body and the second."""

    def __init__(self, heads: Heads) -> None:
        self._heads = heads
        self._known: dict[bytes, Whole] = {}

    def awaits(self, data: bytes) -> bool:
        """Whether this is a head, and `read` may take it once its body has come: many servers write them apart."""
        known = self._known.get(data)
        if known is not None:
            return known.start < known.size <= _LONGEST
        message = self._heads.begin(data) if data.startswith(b"HTTP/1.1 2") else None
        return message is not None and not message.body and 0 < length(message) <= _LONGEST

    def read(self, data: bytes) -> Whole | None:
        """None: not an answer of 2xx that is plain and whole, with nothing after it."""
        head = data[: data.find(b"\r\n\r\n") + 4]
        known = self._known.get(head)
        if known is not None:
            return known if known.size == len(data) else None
        message = self._heads.read(data) if data.startswith(b"HTTP/1.1 2") else None
        status = message.first[9:12] if message is not None else b""
        if message is None or not status.isdigit() or status in _BODILESS or message.first[12:13] not in {b" ", b""}:
            return None
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[head] = made = Whole(head, int(status), message.headers, len(message.body))
        return made


def _lines(headers: dict[bytes, bytes], size: int) -> bytes:
    """What a client gets of them: contract B.4. The others are nobody's business."""
    given = [start + headers[name] for name, start in _PASSED_ON if name in headers]
    return b"%b\r\nContent-Length: %d\r\ndate: " % (b"".join(given), size)
