"""HTTP messages as values: what the gateway hands to a codec and gets back.

Owns: case-insensitive headers, the request and response values.
Does not own: parsing bytes off a socket (gateway), meaning (codecs).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Headers:
    """Ordered, case-insensitive, repeatable. Names are kept in lower case."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str]] = [(name.lower(), value) for name, value in items]

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value of `name`."""
        wanted = name.lower()
        for key, value in self._items:
            if key == wanted:
                return value
        return default

    def get_all(self, name: str) -> list[str]:
        wanted = name.lower()
        return [value for key, value in self._items if key == wanted]

    def add(self, name: str, value: str) -> None:
        self._items.append((name.lower(), value))

    def items(self) -> list[tuple[str, str]]:
        return list(self._items)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._items)

    def __repr__(self) -> str:
        return f"Headers({self._items!r})"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request as it arrived.

    `raw_path` is the path exactly as sent, percent-encoding included (S3 signs and means it so);
    `raw_query` has no leading question mark. `body` is set once the body has been read whole; while it
    is None the bytes are still to come from `stream`.
    """

    method: str
    raw_path: str
    raw_query: str
    headers: Headers
    body: bytes | None = None
    stream: AsyncIterator[bytes] | None = None
    scheme: str = "http"
    client: str = ""


class FileSpan(NamedTuple):
    """`length` bytes of an open file from `offset`."""

    descriptor: int
    offset: int
    length: int


@dataclass(slots=True)
class HttpResponse:
    """One response. `body` is bytes, or an iterator of chunks whose total is `length` when known.

    An iterator over a file may say so in an attribute `span`, a FileSpan or None: then it need not be iterated.
    """

    status: int = 200
    headers: Headers = field(default_factory=Headers)
    body: bytes | AsyncIterator[bytes] = b""
    length: int | None = None
