"""A transport whose response heads wait for the first bytes of their bodies: one system call and one packet, not two.

Owns: holding back a head. Does not own: anything else of a transport, which is passed on as it is.
A head without a body goes out when its response is complete (`flush`) or the connection closes.
"""

from __future__ import annotations

import asyncio
from typing import Any


class CorkedTransport:
    """Stands in for `transport` towards uvicorn's protocol. Interim responses (100 Continue) are never held."""

    __slots__ = ("_held", "_transport", "get_extra_info", "is_closing", "pause_reading", "resume_reading")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        # The methods that every request uses, without a detour.
        self.get_extra_info = transport.get_extra_info
        self.is_closing = transport.is_closing
        self.pause_reading = transport.pause_reading
        self.resume_reading = transport.resume_reading

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not data:
            return
        if self._held:
            held, self._held = self._held, b""
            self._transport.writelines((held, data))
        elif data.startswith(b"HTTP/1.1 ") and data[9:10] != b"1":
            self._held = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        if not self._transport.is_closing():
            self.flush()
        self._transport.close()
