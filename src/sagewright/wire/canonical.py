"""The canonical forms that both sides of a signature must agree on. Pure text in, pure text out.

Owns: canonical URI, query string and headers of Signature Version 4.
Does not own: keys, dates and decisions (`wire.sigv4`), Signature Version 2 (`wire.sigv2`).

Text here is latin-1: one character stands for one byte on the wire, so `.encode("latin-1")` gives back what was sent.
Source: "Create a signed AWS API request", step 1, AWS IAM User Guide.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from urllib.parse import quote, unquote_to_bytes

_PLAIN_PATH = re.compile(r"[A-Za-z0-9_.~/-]*\Z")
_UNRESERVED = "-_.~"


def canonical_path(raw_path: str) -> str:
    """Every service but S3: dot segments and double slashes removed, then encoded once more."""
    if raw_path == "/" or not raw_path:
        return "/"
    return quote(_without_dots(raw_path).encode("latin-1"), safe="/~")


def reencoded_path(raw_path: str) -> str:
    """S3: decoded and encoded again, which mends what a client or a proxy left unencoded on the way."""
    if _PLAIN_PATH.match(raw_path):
        return raw_path
    return quote(unquote_to_bytes(raw_path.encode("latin-1")), safe="/" + _UNRESERVED)


def canonical_query(raw_query: str, *, without: Collection[str] = (), reencode: bool = False) -> str:
    """Parameters sorted by name, then value. `without` drops parameters (X-Amz-Signature) by name."""
    if not raw_query:
        return ""
    pairs = []
    for pair in raw_query.split("&"):
        name, _, value = pair.partition("=")
        if name and name not in without:
            pairs.append((_reencoded(name), _reencoded(value)) if reencode else (name, value))
    pairs.sort()
    return "&".join([f"{name}={value}" for name, value in pairs])


def canonical_headers(headers: Iterable[tuple[str, str]], signed: Sequence[str]) -> str:
    """One `name:value` line for each signed name, in the order signed. A header that is missing counts as empty."""
    present: dict[str, str] = {}
    for name, value in headers:
        if name in signed:
            trimmed = " ".join(value.split()) if " " in value else value.strip()
            present[name] = f"{present[name]},{trimmed}" if name in present else trimmed
    return "".join([f"{name}:{present.get(name, '')}\n" for name in signed])


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4, and empty segments too, as AWS does."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment and segment != ".":
            kept.append(segment)
    tail = "/" if kept and path.endswith("/") else ""
    return "/" + "/".join(kept) + tail


def _reencoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1")), safe=_UNRESERVED)
