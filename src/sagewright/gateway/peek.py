"""What the first bytes of a connection begin. Pure."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

_LONGEST_METHOD: Final = 32
_SCHEME: Final = b"http://"


class Kind(Enum):
    HTTP = auto()  # for us, or garbage that an HTTP parser will refuse in words
    PROXY = auto()  # CONNECT, or a target in absolute form
    TLS = auto()
    MORE = auto()  # cannot be told yet


def peek(data: bytes) -> Kind:
    """Decides as early as the bytes allow; an ordinary request is told by its second word's first byte."""
    if data[:1] == b"\x16":
        return Kind.TLS
    space = data.find(b" ", 0, _LONGEST_METHOD)
    if space < 0:
        return Kind.HTTP if len(data) >= _LONGEST_METHOD or b"\n" in data else Kind.MORE
    if data[:space] == b"CONNECT":
        return Kind.PROXY
    target = data[space + 1 : space + 1 + len(_SCHEME)].lower()
    if target == _SCHEME:
        return Kind.PROXY
    return Kind.MORE if _SCHEME.startswith(target) else Kind.HTTP
