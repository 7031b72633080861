"""Read a workload's log file as records, from any cursor, while it grows.

The program writes the file itself (O_APPEND), so no line depends on a reader being alive. A cursor is
`OFFSET@MILLISECONDS`: the byte after the record's line, and the record's time, so that times never go backwards for a
reader that resumes. A record's time is when it was read, but not later than the file's last change: lines written
while nobody read get the nearest time that can be known.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator

from sagewright.backends.process.records import Record
from sagewright.workloads.backend import LogCursor, LogRecord
from sagewright.workloads.observation import Phase

_CHUNK = 256 * 1024
_LONGEST = 1024 * 1024  # bytes of one record; a longer line comes in pieces of this size, so that memory is bounded
_BUSY, _QUIET = 0.01, 0.1  # seconds between looks: while lines come, and after a while without
_CALM = 1.02  # each look in vain lengthens the next pause by this factor
_CERTAINTY = 1.0  # seconds between full looks at a quiet workload: its runner may have been killed


async def follow(record: Record, after: LogCursor | None) -> AsyncIterator[LogRecord]:
    """Every line after the cursor; ends when the workload has ended, or was removed, and all was given."""
    try:
        descriptor = os.open(record.file("log"), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        reader = _Reader(descriptor, after)
        ending = _Ending(record)
        pause = _BUSY
        while True:
            over = ending.reached()  # before reading: what was written until then is then read
            got = False
            while chunk := reader.read():
                got = True
                for line in chunk:
                    yield line
                await asyncio.sleep(0)
            if over:
                for line in reader.rest():
                    yield line
                return
            pause = _BUSY if got else min(pause * _CALM, _QUIET)
            await asyncio.sleep(pause)
    finally:
        os.close(descriptor)


class _Ending:
    """Whether a workload has ended. The file that says so is looked for often, the processes seldom."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._next = 0.0

    def reached(self) -> bool:
        if self._record.ended() or not self._record.folder.exists():
            return True
        now = time.monotonic()
        if now < self._next:
            return False
        self._next = now + _CERTAINTY
        return self._record.observe().phase is Phase.EXITED


class _Reader:
    def __init__(self, descriptor: int, after: LogCursor | None) -> None:
        self._descriptor = descriptor
        self._given, self._latest = _parse(after)  # the byte after the last line given, and its time
        self._position = self._given
        self._partial: list[bytes] = []
        self._waiting = 0  # bytes in `_partial`

    def read(self) -> list[LogRecord]:
        """The records that a next piece of the file completes; empty at its present end."""
        while piece := os.pread(self._descriptor, _CHUNK, self._position):
            self._position += len(piece)
            self._partial.append(piece)
            self._waiting += len(piece)
            if b"\n" in piece or self._waiting > _LONGEST:
                lines = b"".join(self._partial).split(b"\n")
                last = lines.pop()
                whole = _whole(last)
                self._partial = [last[whole:]]
                self._waiting = len(last) - whole
                return [*self._records(lines, 1), *self._records([last[:whole]] if whole else [], 0)]
        return []

    def rest(self) -> Iterator[LogRecord]:
        """The last line, if the program ended without finishing it."""
        last = b"".join(self._partial)
        return self._records([last], 0) if last else iter(())

    def _records(self, lines: list[bytes], line_feed: int) -> Iterator[LogRecord]:
        facts = os.fstat(self._descriptor)  # after the read, so that no line is newer than the change
        self._latest = max(self._latest, min(int(time.time() * 1000), facts.st_mtime_ns // 1_000_000))
        moment = self._latest
        for line in lines:
            for piece in _pieces(line) if len(line) > _LONGEST else ():
                self._given += len(piece)
                yield LogRecord(LogCursor(f"{self._given}@{moment}"), moment, piece)
            last = line[_whole(line) :]
            self._given += len(last) + line_feed
            yield LogRecord(LogCursor(f"{self._given}@{moment}"), moment, last)


def _whole(line: bytes) -> int:
    """How many bytes of a line go out in full pieces before its last one, which has at least a byte if the line has."""
    return (len(line) - 1) // _LONGEST * _LONGEST if line else 0


def _pieces(line: bytes) -> Iterator[bytes]:
    for start in range(0, _whole(line), _LONGEST):
        yield line[start : start + _LONGEST]


def _parse(cursor: LogCursor | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    offset, _, moment = cursor.partition("@")
    return int(offset), int(moment)
