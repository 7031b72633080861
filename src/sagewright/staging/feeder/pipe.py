"""The writing end of a pipe, and RecordIO's framing (contract A.8). Never more than some hundred KiB in memory.

A record is: magic, length and flag, payload, zeros up to a multiple of four bytes. What is longer than the 29 bits of
the length becomes several parts, flagged first, middle, last.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable

MAGIC = 0xCED7230A
LONGEST_PART = (1 << 29) - 4  # bytes; the largest multiple of four that 29 bits can tell
WHOLE, FIRST, MIDDLE, LAST = range(4)

_HEADER = struct.Struct("<II")
_BUFFER = 256 << 10  # bytes
SMALL = 64 << 10  # bytes; below this a copy is cheaper than a call of its own
_SPLICE = 16 << 20  # bytes asked for at a time
_NO_SPLICE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})


class Unreadable(Exception):
    """An object's bytes are not what they have to be; the message says which object, and what to do."""


class Pipe:
    """Raises BrokenPipeError when the reader has left. `descriptor` blocks."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer = bytearray()
        self._splices = True

    def write(self, data: bytes) -> None:
        self._buffer += data
        if len(self._buffer) >= _BUFFER:
            self.flush()

    def flush(self) -> None:
        with memoryview(self._buffer) as view:
            sent = 0
            while sent < len(view):
                sent += os.write(self._descriptor, view[sent:])
        self._buffer.clear()

    def send_file(self, source: int, offset: int, count: int) -> None:
        """`count` bytes of a file, its pages moved rather than copied. Raises EOFError when it has fewer."""
        if count <= SMALL:
            self._copy(source, offset, count)
            return
        self.flush()
        while count and self._splices:
            try:
                moved = os.splice(source, self._descriptor, min(count, _SPLICE), offset_src=offset)
            except OSError as error:
                if error.errno not in _NO_SPLICE:
                    raise
                self._splices = False
                break
            if not moved:
                raise EOFError
            offset, count = offset + moved, count - moved
        self._copy(source, offset, count)

    def _copy(self, source: int, offset: int, count: int) -> None:
        while count:
            data = os.pread(source, min(count, _BUFFER), offset)
            if not data:
                raise EOFError
            self.write(data)
            offset, count = offset + len(data), count - len(data)


def record(content: bytes) -> bytes:
    """A record of one part: what is in memory is never too long for that."""
    return _HEADER.pack(MAGIC, len(content)) + content + b"\0" * (-len(content) % 4)


def headers(size: int) -> Iterable[tuple[bytes, int, bytes]]:
    """(header, length of the payload's part, padding) of each part of a record of `size` bytes."""
    left = size
    while True:
        part = min(left, LONGEST_PART)
        begins, ends = left == size, part == left
        flag = (WHOLE if ends else FIRST) if begins else (LAST if ends else MIDDLE)
        yield _HEADER.pack(MAGIC, flag << 29 | part), part, b"\0" * (-part % 4)
        left -= part
        if not left:
            return
