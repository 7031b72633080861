"""Searching many log streams at once, in order of time, a bounded piece of work at a time.

Owns: merging, resuming, how much one call reads. Does not own: patterns (`services.log_filters`), tokens and views
(`services.logs`), files (`blobs.streams`).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from sagewright.blobs.streams import EVENT_OVERHEAD, LogStreams, StreamEvent
from sagewright.core.errors import BlobNotFound
from sagewright.services.log_filters import Filter

_WORK: Final = 50_000
"""Events that one call looks at, wanted or not: some 50 ms. Then the page ends, empty if need be, with a token."""

_FIRST_PAGE, _NEXT_PAGE = 64, 1000  # events of one stream that are read at once

Found = tuple[str, StreamEvent]


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where a search has come to. Events are searched in the order of positions."""

    timestamp: int
    stream: str
    offset: int

    @classmethod
    def of(cls, parts: Sequence[str]) -> Self:
        return cls(int(parts[0]), parts[1], int(parts[2]))

    def parts(self) -> tuple[str, str, str]:
        return str(self.timestamp), self.stream, str(self.offset)


def search(
    streams: LogStreams,
    group: str,
    names: Sequence[str],
    *,
    wanted: Filter,
    start_ms: int,
    end_ms: int | None,
    after: Position | None,
    limit_events: int,
    limit_bytes: int,
) -> tuple[list[Found], Position | None]:
    """A page of the events with start_ms <= timestamp < end_ms, and where to go on; None when nothing was found up to
    the end. Streams that are removed meanwhile are left out."""
    start = max(start_ms, after.timestamp) if after else start_ms
    sources = [_events(streams, group, name, start, end_ms) for name in names]
    found: list[Found] = []
    size = worked = 0
    last = None
    for position, event in heapq.merge(*sources, key=lambda each: each[0]):
        if after is not None and position <= after:
            continue
        is_wanted = wanted(event.message)
        size += (len(event.message) + EVENT_OVERHEAD) * is_wanted
        if is_wanted and found and size > limit_bytes:
            return found, last
        last, worked = position, worked + 1
        if is_wanted:
            found.append((position.stream, event))
        if len(found) >= limit_events or worked >= _WORK:
            return found, last
    return found, last if found else None


def _events(
    streams: LogStreams, group: str, name: str, start: int, end: int | None
) -> Iterator[tuple[Position, StreamEvent]]:
    """A stream's events, read in pages: any number of streams is searched without keeping their files open."""
    offset, size = None, _FIRST_PAGE
    while True:
        try:
            page = streams.read(group, name, start_ms=start, end_ms=end, offset=offset, limit_events=size)
        except BlobNotFound:
            return
        for event in page.events:
            yield Position(event.timestamp, name, event.offset), event
        if not page.events:
            return
        offset, size = page.forward, _NEXT_PAGE
