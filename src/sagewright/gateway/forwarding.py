"""The head of a request to a proxy, and the same head as it is passed on. Pure.

Owns: parsing just enough of a head, hop-by-hop headers. Does not own: requests to ourselves (`gateway.http`).
Source: RFC 9110 sections 7.6 and 9.3.6, RFC 9112 sections 3.2 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade"})


@dataclass(frozen=True, slots=True)
class Head:
    """`headers` as sent, in order."""

    method: str
    target: str
    version: str
    headers: tuple[tuple[str, str], ...]

    @property
    def body_length(self) -> int | None:
        """Bytes of the body; None when it is chunked and only its receiver can tell. Raises ValueError."""
        lengths = {value for name, value in self.headers if name.lower() == "content-length"}
        if any(name.lower() == "transfer-encoding" for name, _ in self.headers):
            if lengths:
                raise ValueError("it has both a Content-Length and a Transfer-Encoding")
            return None
        if len(lengths) > 1 or not all(value.isascii() and value.isdigit() for value in lengths):
            raise ValueError("its Content-Length is not a number")
        return int(lengths.pop()) if lengths else 0


def parse_head(raw: bytes) -> Head:
    """`raw` ends before the empty line. Raises ValueError."""
    first, *lines = raw.decode("latin-1").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        raise ValueError(f"{first[:128]!r} is not METHOD TARGET HTTP/1.1")
    headers = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name.strip() != name or "\n" in line or "\r" in line or "\0" in line:
            raise ValueError(f"{line[:128]!r} is not a header")
        headers.append((name, value.strip()))
    head = Head(parts[0], parts[1], parts[2], tuple(headers))
    _ = head.body_length
    return head


def forwarded(head: Head, target: str, proxy_authorization: str) -> bytes:
    """The head for the next hop, told to close after its answer: the client's next request may go elsewhere."""
    named = {
        token.strip().lower()
        for name, value in head.headers
        if name.lower() == "connection"
        for token in value.split(",")
    }
    lines = [f"{head.method} {target} {head.version}"]
    lines += [f"{n}: {v}" for n, v in head.headers if n.lower() not in _HOP_BY_HOP and n.lower() not in named]
    if proxy_authorization:
        lines.append(f"Proxy-Authorization: {proxy_authorization}")
    lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
