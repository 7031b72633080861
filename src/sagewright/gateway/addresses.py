"""When the addresses of this machine change: the kernel says so, and a pause ends all the same.

Owns: waiting. Does not own: which addresses matter (`clients`), what is done about them (`server`).
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

_IPV4_ADDRESSES: Final = 0x10  # RTMGRP_IPV4_IFADDR, rtnetlink(7)
_MESSAGES: Final = 1 << 16  # bytes read at a time; what they say is not looked at


class AddressChanges:
    """Hears of changes from its making on. Where the kernel has no such socket, only the pause ends a wait."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._changed = asyncio.Event()
        self._socket: socket.socket | None = None
        with suppress(OSError, AttributeError):  # not Linux, or not allowed
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
            self._socket.bind((0, _IPV4_ADDRESSES))
            loop.add_reader(self._socket.fileno(), self._read)

    async def wait(self, pause: float) -> None:
        """Until there was a change since the last wait, or for `pause` seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _read(self) -> None:
        with suppress(OSError):  # more than it could hold: then something has changed
            while self._socket is not None and self._socket.recv(_MESSAGES):
                pass
        self._changed.set()
