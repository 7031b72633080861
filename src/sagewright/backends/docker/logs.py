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
import struct
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.backend import LogCursor, LogRecord

PIECE = 16 * 1024  # bytes after which the engine cuts a line
LONGEST = 256  # pieces (4 MiB) that are joined; a program that never ends its line must not fill our memory
SLACK = 2_000_000_000  # nanoseconds by which lines may be stored out of order
_ENGINE_TROUBLE = 3
_WHOLE_LINE = re.compile(rb"[\x01\x02]\0\0\0(.{4})(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\.(\d{9})Z ([^\n]*)\n", re.DOTALL)
_OVERHEAD = 32  # bytes of such a frame that are not content: time, blank, line feed
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_REMEMBERED = 4096  # times; lines are stored out of order by a few places at most

_record: Callable[[Iterable[Any]], LogRecord] = partial(tuple.__new__, LogRecord)

Line: TypeAlias = tuple[int, int, bytes]  # nanoseconds, N-th with them, content


class LineParser:
    """Frames in, lines out, in the order in which they were completed."""

    def __init__(self, *, short_piece_ends: bool = False) -> None:
        self._short_piece_ends = short_piece_ends
        self._buffer = b""
        self._pieces: dict[int, tuple[int, list[bytes]]] = {}  # by stream: the line that is not complete
        self._counts: dict[int, int] = {}  # lines per time, for the latest times

    def feed(self, data: bytes) -> list[Line]:
        """Raises BackendUnavailable when the engine says that its own reading failed."""
        buffer = self._buffer + data if self._buffer else data
        lines, position = self._plain(buffer)
        while (start := position + 8) <= len(buffer):
            end = start + int.from_bytes(buffer[position + 4 : start], "big")
            if end > len(buffer):
                break
            stamp, _, content = buffer[start:end].partition(b" ")
            self._frame(buffer[position], stamp, content, lines)
            position = end
        self._buffer = buffer[position:]
        if len(self._counts) > _REMEMBERED:
            self._counts = {time: self._counts[time] for time in list(self._counts)[-_REMEMBERED // 2 :]}
        return lines

    def _plain(self, buffer: bytes) -> tuple[list[Line], int]:
        """The usual case, taken apart by C alone because there can be very many lines: frames that each are one whole
        line. The lines, and where the rest begins; 0 when there is anything else, which is left to the general case.

        A match may begin in the wrong place or run over a frame's end; then lengths and sizes do not agree."""
        end = buffer.rfind(b"\n") + 1
        if self._pieces or not end or not (found := _WHOLE_LINE.findall(buffer, 0, end)):
            return [], 0
        sizes, seconds, nanos, contents = zip(*found, strict=True)
        lengths = [_OVERHEAD + length for length in map(len, contents)]
        if sum(lengths) + 8 * len(found) != end or struct.unpack(f">{len(found)}I", b"".join(sizes)) != tuple(lengths):
            return [], 0
        epochs = {second: any_moment(second + b"Z") for second in set(seconds)}
        moments = [epochs[second] + nano for second, nano in zip(seconds, map(int, nanos), strict=True)]
        if len(set(moments)) == len(moments) and self._counts.keys().isdisjoint(moments):
            self._counts.update(dict.fromkeys(moments, 1))
            return list(zip(moments, repeat(1), contents)), end
        return [self._line(moment, content) for moment, content in zip(moments, contents, strict=True)], end

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
        moment, pieces = held if held else (any_moment(stamp), [])
        whole = content[-1:] == b"\n"
        pieces.append(content[:-1] if whole else content)
        if whole or len(pieces) == LONGEST or (self._short_piece_ends and len(content) < PIECE):
            lines.append(self._line(moment, b"".join(pieces)))
        else:
            self._pieces[stream] = (moment, pieces)

    def _line(self, moment: int, content: bytes) -> Line:
        self._counts[moment] = nth = self._counts.get(moment, 0) + 1
        return moment, nth, content


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
    """With the cursor written out, and made without a call of Python's for each line."""
    cursors = [f"{moment}:{nth}" for moment, nth, _ in lines]
    milliseconds = [moment // 1_000_000 for moment, _, _ in lines]
    return list(map(_record, zip(cursors, milliseconds, [content for _, _, content in lines], strict=True)))
