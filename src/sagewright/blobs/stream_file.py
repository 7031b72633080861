"""One log stream as one file: the format of its lines, and reading them from any place.

    CURSOR TIMESTAMP MESSAGE\\n         CURSOR has no white space; TIMESTAMP is in ms; MESSAGE is raw bytes
    CURSOR TIMESTAMP+ MESSAGE\\n        the message had line feeds: `\\` is written as `\\\\`, a line feed as `\\n`

Timestamps never decrease, so a moment is found by bisection over byte offsets. What comes after the last line feed is
torn (its writer died, or is at it just now) and never read.
Owns: encoding, decoding, finding. Does not own: locks, appending (`blobs.streams`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, NamedTuple, Protocol, Self

_BLOCK: Final = 256 * 1024  # bytes that are read at a time, and so about what a reader needs of memory
_PEEK: Final = 4096
_ESCAPES: Final = {b"\\\\": b"\\", b"\\n": b"\n"}
_ESCAPED: Final = re.compile(rb"\\[\\n]")


class Record(Protocol):
    """What `append` takes; the `LogRecord` of backends is one."""

    @property
    def cursor(self) -> str: ...

    @property
    def timestamp(self) -> int: ...

    @property
    def message(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class StreamRecord:
    """One line. `cursor` says where its source had come to; `timestamp` is in milliseconds since the epoch."""

    cursor: str
    timestamp: int
    message: bytes


class StreamEvent(NamedTuple):
    """One line as it was found: `offset` is that of its first byte, and `end` that of the line after it."""

    timestamp: int
    message: bytes
    offset: int
    end: int


def encode(records: Sequence[Record], last: int) -> tuple[bytes, int]:
    """The lines of `records`, and the timestamp of the last one. `last` is that of the line before them."""
    cursors = [record.cursor for record in records]
    if " ".join(cursors).split() != cursors:
        raise ValueError(f"each cursor must be a word without white space: {cursors[:10]}")
    messages = [record.message for record in records]
    stamps = list(accumulate((record.timestamp for record in records), max, initial=last))
    lines = zip(map(str.encode, cursors), stamps[1:], messages, strict=True)
    return b"".join([_escaped(*line) if b"\n" in line[2] else b"%b %d %b\n" % line for line in lines]), stamps[-1]


def _escaped(cursor: bytes, stamp: int, message: bytes) -> bytes:
    """A message that has line feeds in it."""
    return b"%b %d+ %b\n" % (cursor, stamp, message.replace(b"\\", b"\\\\").replace(b"\n", b"\\n"))


def decode(line: bytes) -> StreamRecord:
    """A line without its line feed. Raises ValueError when it is none of ours."""
    cursor, stamp, message = line.split(b" ", 2)
    if stamp.endswith(b"+"):
        return StreamRecord(cursor.decode(), int(stamp[:-1]), _ESCAPED.sub(lambda m: _ESCAPES[m[0]], message))
    return StreamRecord(cursor.decode(), int(stamp), message)


class StreamFile:
    """An open stream as it was at one moment: `end` is the offset after its last whole line."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.stat = os.fstat(descriptor)
        self.size = self.stat.st_size
        self.end = self._after_last_feed(self.size, 0)

    @classmethod
    def open(cls, path: Path) -> Self:
        return cls(os.open(path, os.O_RDONLY | os.O_CLOEXEC))

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def events(self, start: int, stop: int) -> Iterator[StreamEvent]:
        """Forward. Lines that cannot be decoded (a damaged disk) are left out."""
        for offset, line in self._lines(start, stop):
            if event := _event(offset, line):
                yield event

    def events_backward(self, start: int, stop: int) -> Iterator[StreamEvent]:
        """From the last line before `stop` to the one at `start`."""
        for offset, line in self._lines_backward(start, stop):
            if event := _event(offset, line):
                yield event

    def find(self, moment: int) -> int:
        """The offset of the first line at or after `moment` (ms); `end` when there is none."""
        low, high = 0, self.end
        while low < high:
            middle = (low + high) // 2
            line = self._after_last_feed(middle, low)
            timestamp = self._timestamp(line)
            if timestamp is None or timestamp < moment:
                low = self._after_next_feed(middle)
            else:
                high = line
        return low

    def last(self) -> tuple[int, StreamRecord | None]:
        """The end of the last whole line that is ours, and that line."""
        for offset, line in self._lines_backward(0, self.end):
            try:
                return offset + len(line) + 1, decode(line)
            except ValueError:
                continue  # blocks that never reached the disk when the power went
        return 0, None

    def _lines(self, offset: int, stop: int) -> Iterator[tuple[int, bytes]]:
        position, begun, size = offset, list[bytes](), _PEEK
        while position < stop and (block := os.pread(self._descriptor, min(size, stop - position), position)):
            position, size = position + len(block), min(size * 4, _BLOCK)
            first, *others = block.split(b"\n")
            begun.append(first)
            if not others:
                continue
            for line in (b"".join(begun), *others[:-1]):
                yield offset, line
                offset += len(line) + 1
            begun = [others[-1]]

    def _lines_backward(self, start: int, stop: int) -> Iterator[tuple[int, bytes]]:
        if stop <= start:
            return
        position = line_end = stop - 1  # where the last line's own line feed is
        pieces: list[bytes] = []
        size = _PEEK
        while position > start:
            begin = max(start, position - size)
            *others, last = os.pread(self._descriptor, position - begin, begin).split(b"\n")
            position, size = begin, min(size * 4, _BLOCK)
            pieces.append(last)
            for piece in reversed(others):
                line = b"".join(reversed(pieces))
                yield line_end - len(line), line
                line_end -= len(line) + 1
                pieces = [piece]
        yield start, b"".join(reversed(pieces))

    def _after_last_feed(self, position: int, low: int) -> int:
        """The offset after the last line feed in [low, position); `low` when there is none."""
        size = _PEEK
        while position > low:
            begin = max(low, position - size)
            found = os.pread(self._descriptor, position - begin, begin).rfind(b"\n")
            if found >= 0:
                return begin + found + 1
            position, size = begin, min(size * 4, _BLOCK)
        return low

    def _after_next_feed(self, position: int) -> int:
        size = _PEEK
        while position < self.end and (block := os.pread(self._descriptor, size, position)):
            found = block.find(b"\n")
            if found >= 0:
                return position + found + 1
            position, size = position + len(block), _BLOCK
        return self.end

    def _timestamp(self, offset: int) -> int | None:
        try:
            return int(os.pread(self._descriptor, _PEEK, offset).split(b" ", 2)[1].rstrip(b"+"))
        except (ValueError, IndexError):
            return None


def _event(offset: int, line: bytes) -> StreamEvent | None:
    try:
        _, stamp, message = line.split(b" ", 2)
        return StreamEvent(int(stamp), message, offset, offset + len(line) + 1)
    except ValueError:
        pass
    try:
        record = decode(line)
    except ValueError:
        return None
    return StreamEvent(record.timestamp, record.message, offset, offset + len(line) + 1)
