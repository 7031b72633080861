"""The engine's log stream as records, at speed, and the place in it that a cursor means.

The engine sends frames: one byte for the stream (1 stdout, 2 stderr, 3 its own troubles), three of nothing, four for
the size, then `TIMESTAMP CONTENT`. A line is one frame that ends in a line feed; longer than 16 KiB it comes in
pieces. The last line of a program may lack its line feed, and the `local` log driver drops it from the last piece
of a long line: there a piece that is shorter than 16 KiB is the last.

A cursor is `NANOSECONDS:N`: the N-th line with this very time. To go on, the stream is asked for from a little
before that time, because two pipes are read by two threads and their lines may be stored out of order; what comes up
to and including the cursor's line is what the reader had.

Owns: frames, lines, cursors. Does not own: asking for the stream, or when it has ended (`backend`, `follow`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import TypeAlias

from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.backend import LogCursor, LogRecord

PIECE = 16 * 1024  # bytes after which the engine cuts a line
LONGEST = 256  # pieces (4 MiB) that are joined; a program that never ends its line must not fill our memory
SLACK = 2_000_000_000  # nanoseconds by which lines may be stored out of order
_ENGINE_TROUBLE = 3
_LINE_FEED, _ZULU = b"\nZ"
_STAMP = 30  # bytes of a time as Docker writes it
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_REMEMBERED = 4096  # times; lines are stored out of order by a few places at most

Line: TypeAlias = tuple[int, int, bytes]  # nanoseconds, N-th with them, content


class LineParser:
    """Frames in, lines out, in the order in which they were completed."""

    def __init__(self, *, short_piece_ends: bool = False) -> None:
        self._short_piece_ends = short_piece_ends
        self._buffer = b""
        self._pieces: dict[int, tuple[int, list[bytes]]] = {}  # by stream: the line that is not complete
        self._second = b""  # the last timestamp up to its seconds, and what that is in nanoseconds
        self._epoch = 0
        self._counts: dict[int, int] = {}  # lines per time, for the latest times

    def feed(self, data: bytes) -> list[Line]:
        """Raises BackendUnavailable when the engine says that its own reading failed."""
        buffer = self._buffer + data if self._buffer else data
        lines: list[Line] = []
        position, size, pieces, counts = 0, len(buffer), self._pieces, self._counts
        while (start := position + 8) <= size:
            end = start + int.from_bytes(buffer[position + 4 : start], "big")
            if end > size:
                break
            blank = buffer.find(b" ", start, end)
            if not pieces and buffer[end - 1] == _LINE_FEED and buffer[position] != _ENGINE_TROUBLE:
                # What `_line` and `_moment` do, without the calls: there can be very many lines.
                if (
                    blank - start == _STAMP
                    and buffer[start : start + 19] == self._second
                    and buffer[blank - 1] == _ZULU
                ):
                    moment = self._epoch + int(buffer[start + 20 : blank - 1])
                else:
                    moment = self._moment(buffer[start:blank])
                counts[moment] = nth = counts.get(moment, 0) + 1
                lines.append((moment, nth, buffer[blank + 1 : end - 1]))
            else:
                self._frame(buffer[position], buffer[start:blank], buffer[blank + 1 : end], lines)
            position = end
        self._buffer = buffer[position:]
        if len(counts) > _REMEMBERED:
            self._counts = {time: counts[time] for time in list(counts)[-_REMEMBERED // 2 :]}
        return lines

    def flush(self) -> list[Line]:
        """The lines that the program's end completed."""
        lines: list[Line] = []
        for moment, pieces in self._pieces.values():
            lines.append(self._line(moment, b"".join(pieces)))
        self._pieces.clear()
        return lines

    def _frame(self, stream: int, stamp: bytes, content: bytes, lines: list[Line]) -> None:
        """The general case: pieces of long lines, and what is not a line."""
        if stream == _ENGINE_TROUBLE:
            words = (stamp + b" " + content).decode(errors="replace").strip()
            raise BackendUnavailable(f"the engine could not read its log: {words}")
        held = self._pieces.pop(stream, None)
        moment, pieces = held if held else (self._moment(stamp), [])
        whole = content[-1:] == b"\n"
        pieces.append(content[:-1] if whole else content)
        if whole or len(pieces) == LONGEST or (self._short_piece_ends and len(content) < PIECE):
            lines.append(self._line(moment, b"".join(pieces)))
        else:
            self._pieces[stream] = (moment, pieces)

    def _line(self, moment: int, content: bytes) -> Line:
        self._counts[moment] = nth = self._counts.get(moment, 0) + 1
        return moment, nth, content

    def _moment(self, stamp: bytes) -> int:
        """`2026-11-22T14:02:53.714570924Z` → nanoseconds since the epoch. Lines come many to the second."""
        if len(stamp) != _STAMP or stamp[29] != _ZULU:
            return any_moment(stamp)
        if stamp[:19] != self._second:
            self._second, self._epoch = stamp[:19], any_moment(stamp[:19] + b"Z")
        return self._epoch + int(stamp[20:29])


def any_moment(stamp: bytes) -> int:
    """Nanoseconds since the epoch of any RFC 3339 time: fewer digits, other zones (Podman)."""
    found = _RFC3339.fullmatch(stamp.decode("ascii"))
    if not found:
        raise BackendUnavailable(f"the engine's log has a line without a time: {stamp!r}")
    plain, fraction, zone = found.groups()
    seconds = int(datetime.fromisoformat(plain + zone.replace("Z", "+00:00")).timestamp())
    return seconds * 1_000_000_000 + int((fraction or "").ljust(9, "0")[:9])


class Resume:
    """Drops what a reader already has, whatever order it was stored in."""

    def __init__(self, after: LogCursor | None) -> None:
        self._after = place_of(after) if after else None
        self._ahead: list[Line] = []  # newer than the cursor, yet stored before it, if it is still to come

    @property
    def since(self) -> str:
        """The engine's `since`: seconds and nanoseconds."""
        if self._after is None:
            return "0"
        moment = max(0, self._after[0] - SLACK)
        return f"{moment // 1_000_000_000}.{moment % 1_000_000_000:09d}"

    def rest(self, lines: Iterable[Line]) -> list[Line]:
        """Those of the lines that come after the cursor."""
        if self._after is None:
            return list(lines)
        kept: list[Line] = []
        for line in lines:
            if self._after is None:
                kept.append(line)
            elif line[:2] == self._after:
                self._after, self._ahead = None, []
            elif line[0] > self._after[0]:
                self._ahead.append(line)
                if line[0] > self._after[0] + SLACK:
                    kept += self._never_found()
        return kept

    def _never_found(self) -> list[Line]:
        """The cursor's line is not in this log (any more): everything newer is new to the reader."""
        self._after = None
        ahead, self._ahead = self._ahead, []
        return ahead

    def end(self) -> list[Line]:
        """The stream ended: what was newer is new, if the cursor never came."""
        return self._never_found()


def place_of(cursor: LogCursor) -> tuple[int, int]:
    moment, _, nth = cursor.partition(":")
    return int(moment), int(nth)


def cursor_of(line: Line) -> LogCursor:
    return LogCursor(f"{line[0]}:{line[1]}")


def records_of(lines: list[Line]) -> list[LogRecord]:
    """With the cursor written out, not by a call for each line."""
    return [
        LogRecord(f"{moment}:{nth}", moment // 1_000_000, content)  # type: ignore[arg-type]
        for moment, nth, content in lines
    ]
