"""Following one container's log to its end, through cuts, restarts of the engine, and restarts of ours.

    look ──running──► follow ──stream ends or is cut──► look …
      └──exited─────► read the rest ──► end

A stream that ends proves nothing: the engine may be going down, or may have stopped reading (Docker does when the
container exits while it still has much to give). The end is when the container has EXITED, and a read that began after
that came to its own end, or shows that the last line is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.logs import Line, LineParser, Resume, place_of, records_of
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.backend import LogCursor, LogRecord
from sagewright.workloads.observation import Phase

_TAIL = 64  # lines; more than ever have one time, so that the last one is counted right
_PREPARING = 0.05  # seconds between looks at what does not run yet
PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between attempts after cuts; then it is an outage


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a workload, for who reads its log. `container` None: nothing is to be read yet."""

    phase: Phase
    container: Mapping[str, Any] | None


LookAgain: TypeAlias = Callable[[], Awaitable[Look | None]]


async def follow(engine: Engine, look: LookAgain, after: LogCursor | None) -> AsyncGenerator[list[LogRecord], None]:
    """Every line after the cursor, as many at a time as came at once. Raises BackendUnavailable when the engine cannot
    be reached, at the beginning at once, later only after several attempts."""
    begun, cuts = False, 0
    while True:
        try:
            seen = await look()
            begun = True
            if seen is None:
                return
            if seen.container is None:
                if seen.phase is Phase.EXITED:
                    return
                await asyncio.sleep(_PREPARING)
                continue
            if seen.phase is Phase.EXITED and after and await _is_last(engine, seen.container, after):
                return
            async with aclosing(_lines(engine, seen.container, seen.phase, after)) as lines:
                async for batch in lines:
                    records = records_of(batch)
                    after, cuts = records[-1].cursor, 0
                    yield records
            if seen.phase is Phase.EXITED:
                return
        except BackendUnavailable:
            if not begun or engine.closed or cuts == len(PAUSES):
                raise
            await asyncio.sleep(PAUSES[cuts])
            cuts += 1


async def _lines(
    engine: Engine, container: Mapping[str, Any], phase: Phase, after: LogCursor | None
) -> AsyncGenerator[list[Line], None]:
    """The lines of one request, from the cursor on; never none at a time."""
    parser, resume = _parser(container), Resume(after)
    ended = phase is Phase.EXITED
    try:
        async with aclosing(engine.logs(container["Id"], since=resume.since, follow=not ended)) as chunks:
            async for chunk in chunks:
                if lines := resume.rest(parser.feed(chunk)):
                    yield lines
    except EngineRefused as refused:
        if refused.status in (404, 409):  # removed, or being removed: the next look tells
            return
        raise BackendUnavailable(f"the engine does not give the log: {refused.message}") from refused
    if ended and (lines := [*resume.rest(parser.flush()), *resume.end()]):
        yield lines


async def _is_last(engine: Engine, container: Mapping[str, Any], after: LogCursor) -> bool:
    """Whether the cursor's line is the log's last one: then it need not be read again, however long it is."""
    parser, lines = _parser(container), list[Line]()
    with suppress(EngineRefused):  # the reading that follows says why
        async with aclosing(engine.logs(container["Id"], since="0", follow=False, tail=_TAIL)) as chunks:
            async for chunk in chunks:
                lines += parser.feed(chunk)
    lines += parser.flush()
    return bool(lines) and lines[-1][:2] == place_of(after)


def _parser(container: Mapping[str, Any]) -> LineParser:
    return LineParser(short_piece_ends=container["HostConfig"]["LogConfig"]["Type"] == "local")
