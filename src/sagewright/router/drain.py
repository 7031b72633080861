"""Answers the controller's question whether an instance is out of use here, at PID.drain.

    {"endpoint", "region", "instance", "table_at_least": row version}\\n ─▶ the table is that new, nothing is under way
                                                                       ─▶ {"drained": true}\\n

Owns: the socket and the wait. Does not own: whom the controller asks and for how long (`controllers.draining`).

The table is derived anew for every question, so it is at least as new as the question (and as any row version in it),
and nothing older can be swapped in after the answer. An instance that is routable then has come back into service: that
is a no. The answer is also no when requests are still under way after `limit` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from sagewright.router.live import Live
from sagewright.store.changes import UnixAddress

_LIMIT: Final = 65.0  # seconds: longer than a container may take for one request
_log = logging.getLogger("sagewright.router")


class DrainServer:
    """`look(then)` is `router.refresh.Refresher.look`."""

    def __init__(self, live: Live, look: Callable[[Callable[[], None]], None], limit: float = _LIMIT) -> None:
        self._live = live
        self._look = look
        self._limit = limit
        self._path: Path
        self._server: asyncio.Server | None = None
        self._asking: set[asyncio.Task[None]] = set()

    async def open(self, path: Path) -> None:
        """Before the first table: whoever has a table must be asked."""
        self._path = path
        with suppress(FileNotFoundError):
            path.unlink()  # of a process that was killed and had our number
        with UnixAddress(path) as address:
            self._server = await asyncio.start_unix_server(self._serve, address)
        path.chmod(0o600)

    async def close(self) -> None:
        if self._server is None:
            return
        self._path.unlink(missing_ok=True)
        self._server.close()
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "asyncio serves every connection in a task"
        self._asking.add(task)
        try:
            while line := await reader.readline():
                question = orjson.loads(line)
                writer.write(orjson.dumps({"drained": await self._is_drained(question)}) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, TypeError, KeyError) as error:
            _log.warning("a question at %s could not be answered: %r", self._path.name, error)
        finally:
            self._asking.discard(task)
            writer.close()

    async def _is_drained(self, question: dict[str, Any]) -> bool:
        instance = str(question["instance"])
        await self._look_now()
        if self._live.is_routable(instance):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(self._limit):
                await self._idle(instance)
        return self._live.outstanding(instance) == 0

    async def _look_now(self) -> None:
        looked = asyncio.get_running_loop().create_future()
        self._look(lambda: None if looked.done() else looked.set_result(None))
        await looked

    async def _idle(self, instance: str) -> None:
        if self._live.outstanding(instance):
            idle = asyncio.get_running_loop().create_future()
            self._live.when_idle(instance, lambda: None if idle.done() else idle.set_result(None))
            await idle
