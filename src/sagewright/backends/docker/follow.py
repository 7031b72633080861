"""Following one container's log to its end, through cuts, restarts of the engine, and restarts of ours.

    look ──running──► follow ──stream ends or is cut──► look …
      └──exited─────► read the rest ──► end

A stream that ends proves nothing: the engine may be going down. The end is when the container has EXITED and a read
that began after that came to its own end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeAlias

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.logs import Line, LineParser, Resume, cursor_of, record_of
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.backend import LogCursor, LogRecord
from sagewright.workloads.observation import Phase

PAUSES = (0.05, 0.2, 0.5, 1.0, 2.0, 4.0)  # seconds between attempts after cuts; then it is an outage


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a workload, for who reads its log. `container` None: nothing is to be read yet."""

    phase: Phase
    container: Mapping[str, Any] | None


LookAgain: TypeAlias = Callable[[], Awaitable[Look | None]]


async def follow(engine: Engine, look: LookAgain, after: LogCursor | None) -> AsyncGenerator[LogRecord, None]:
    """Every line after the cursor. Raises BackendUnavailable when the engine cannot be reached, at the beginning at
    once, later only after several attempts."""
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
                await asyncio.sleep(0.1)
                continue
            async with aclosing(_lines(engine, seen.container, seen.phase, after)) as lines:
                async for line in lines:
                    after, cuts = cursor_of(line), 0
                    yield record_of(line)
            if seen.phase is Phase.EXITED:
                return
        except BackendUnavailable:
            if not begun or cuts == len(PAUSES):
                raise
            await asyncio.sleep(PAUSES[cuts])
            cuts += 1


async def _lines(
    engine: Engine, container: Mapping[str, Any], phase: Phase, after: LogCursor | None
) -> AsyncGenerator[Line, None]:
    """The lines of one request, from the cursor on."""
    driver = container["HostConfig"]["LogConfig"]["Type"]
    parser, resume = LineParser(short_piece_ends=driver == "local"), Resume(after)
    ended = phase is Phase.EXITED
    try:
        async with aclosing(engine.logs(container["Id"], since=resume.since, follow=not ended)) as chunks:
            async for chunk in chunks:
                for line in resume.rest(parser.feed(chunk)):
                    yield line
    except EngineRefused as refused:
        if refused.status in (404, 409):  # removed, or being removed: the next look tells
            return
        raise BackendUnavailable(f"the engine does not give the log: {refused.message}") from refused
    if ended:
        for line in (*resume.rest(parser.flush()), *resume.end()):
            yield line
