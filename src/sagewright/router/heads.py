"""Messages that came whole in one piece and are plain: read with a few calls into C, not header by header.

Owns: the short way for what nearly every message is. Whatever is not of the plainest form (chunked, without a length,
folded or repeated headers, Connection: close, Expect, anything odd) is not read here at all: httptools decides.
A message is taken only when its bytes can mean nothing else: every name is a token, lines end with CRLF, no control
characters, one Content-Length that is exactly the rest.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+\Z")
_ALLOWED: Final = bytes(code for code in range(256) if code == 9 or (code >= 32 and code != 127))  # in values
_FIRST: Final = re.compile(rb"[!-~][ -~]*\Z")
_NOT_PLAIN: Final = frozenset({b"transfer-encoding", b"expect", b"upgrade", b"trailer"})
_CHANGING: Final = frozenset({b"authorization", b"x-amz-date", b"content-length", b"amz-sdk-invocation-id", b"date"})
_KEEP: Final = b"keep-alive"
_LONGEST_HEAD: Final = 16 * 1024  # bytes; longer ones are not worth a short way
_LONGEST_LINE: Final = 1024  # bytes of a line that is remembered
_MOST_LINES: Final = 1024


class Message(NamedTuple):
    """`first` is the first line; names of headers are in lower case, each once. Do not change `headers`."""

    first: bytes
    headers: dict[bytes, bytes]
    body: bytes


class Heads:
    """Remembers lines that it has read: clients and containers send the same ones, again and again."""

    def __init__(self) -> None:
        self._lines: dict[bytes, tuple[bytes, bytes]] = {}  # line → name, value
        self._names: dict[bytes, bytes] = {}  # as sent → in lower case
        self._firsts: set[bytes] = set()

    def read(self, data: bytes) -> Message | None:
        """None: not plain, or not whole."""
        message = self.begin(data)
        return message if message is not None and len(message.body) == length(message) else None

    def begin(self, data: bytes) -> Message | None:
        """The same for bytes that hold a whole head and some of the body, or more than it. None: not plain."""
        end = data.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        if end < 0:
            return None
        lines = data[:end].split(b"\r\n")
        first = lines[0]
        if first not in self._firsts and not self._learn_first(first):
            return None
        del lines[0]
        known = self._lines
        try:
            headers = dict([known.get(line) or self._learn(line) for line in lines])
        except ValueError:
            return None
        if len(headers) != len(lines) or not headers.get(b"content-length", b"").isdigit():
            return None
        return Message(first, headers, data[end + 4 :])

    def _learn(self, line: bytes) -> tuple[bytes, bytes]:
        """Raises ValueError for a line that is not to be read here."""
        sent, colon, rest = line.partition(b":")
        name = self._names.get(sent) or self._learn_name(sent)
        if not colon or rest.translate(None, _ALLOWED):
            raise ValueError
        value = rest.strip(b" \t")
        if name in _NOT_PLAIN or (name == b"connection" and value.lower() != _KEEP):
            raise ValueError
        if name not in _CHANGING and len(line) <= _LONGEST_LINE:
            if len(self._lines) >= _MOST_LINES:
                self._lines.clear()
            self._lines[line] = (name, value)
        return name, value

    def _learn_name(self, name: bytes) -> bytes:
        """Raises ValueError."""
        if not _TOKEN.match(name):
            raise ValueError
        if len(self._names) >= _MOST_LINES:
            self._names.clear()
        self._names[name] = lower = name.lower()
        return lower

    def _learn_first(self, line: bytes) -> bool:
        if not _FIRST.match(line):
            return False
        if len(self._firsts) >= _MOST_LINES:
            self._firsts.clear()
        self._firsts.add(line)
        return True


def length(message: Message) -> int:
    """Of the body, as the head tells."""
    return int(message.headers[b"content-length"])
