"""Asking the gateways whether an instance is out of use; telling them that routes have changed.

    commit "draining" at version V ─► every PID.drain: {"endpoint", "instance", "table_at_least": V} ─► answer: drained

A gateway answers once its table is at least that of V and it has nothing under way for the instance. One that is gone
(nobody at its socket, or it hung up) has nothing under way and does not count; one that starts now reads a table that
is newer. There is no time limit here: the decision has one.
Owns: the questions and the hints. Does not own: the answers (`router.drain`), when to give up (`endpoint_fleets`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import orjson

from sagewright.controllers.controller import Drain
from sagewright.core.ids import Key
from sagewright.store.changes import ChangeSender, UnixAddress
from sagewright.store.kinds.endpoint import KIND

_ASK_AGAIN: Final = 0.5
_FORGET: Final = 300.0  # seconds after which an answer that nobody asked for any more is forgotten


class DrainWatch:
    """`folder` holds the gateways' sockets. `wake` is told an endpoint of which an instance is out of use."""

    def __init__(self, folder: Path, wake: Callable[[Key], None]) -> None:
        self._folder = folder
        self._wake = wake
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._drained: dict[str, float] = {}

    def follow(self, instance: str, drain: Drain) -> bool:
        """See `controllers.look.Drains`."""
        if instance in self._drained:
            return True
        if instance not in self._asking:
            self._asking[instance] = asyncio.create_task(self._ask_all(instance, drain))
        return False

    async def aclose(self) -> None:
        tasks = tuple(self._asking.values())
        self._asking.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask_all(self, instance: str, drain: Drain) -> None:
        try:
            sockets = sorted(self._folder.glob("*.drain"))
            await asyncio.gather(*(self._ask_until_drained(path, instance, drain) for path in sockets))
            now = asyncio.get_running_loop().time()
            self._drained = {each: moment for each, moment in self._drained.items() if now - moment < _FORGET}
            self._drained[instance] = now
            self._wake(drain.endpoint)
        finally:
            self._asking.pop(instance, None)

    async def _ask_until_drained(self, path: Path, instance: str, drain: Drain) -> None:
        """A gateway that says no has waited for as long as it would, so this is no polling."""
        drained = await _ask(path, instance, drain)
        while not drained:
            await asyncio.sleep(_ASK_AGAIN)
            drained = await _ask(path, instance, drain)


async def _ask(path: Path, instance: str, drain: Drain) -> bool:
    """False when the gateway said that something is still under way; a gateway that is gone has nothing."""
    key = drain.endpoint
    question = {
        "account": key.account,
        "region": key.region,
        "endpoint": key.name,
        "instance": instance,
        "table_at_least": drain.version,
    }
    try:
        with UnixAddress(path) as address:
            reader, writer = await asyncio.open_unix_connection(address)
    except OSError:
        return True
    try:
        writer.write(orjson.dumps(question) + b"\n")
        answer = await reader.readline()
    except OSError:
        return True
    finally:
        writer.close()
    return not answer or _is_yes(answer)


def _is_yes(answer: bytes) -> bool:
    with suppress(ValueError):
        told: Any = orjson.loads(answer)
        return bool(told.get("drained", True)) if isinstance(told, dict) else bool(told)
    return False


class Announcer:
    """Tells every gateway which endpoints' rows have changed. A hint: gateways look by themselves too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, keys: Collection[Key]) -> None:
        """Neither blocks nor raises. Only endpoints are routed to."""
        routed = [key for key in keys if key.kind == KIND]
        if not routed:
            return
        with suppress(OSError):
            for path in self._folder.glob("*.sock"):
                sender = ChangeSender(path)
                sender.send(routed)
                sender.close()
