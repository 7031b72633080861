"""Two connections joined: what one sends the other gets, as fast as the slower reads.

    client ──▶ End ══ peer ══ End ◀── upstream

Owns: bytes both ways, backpressure, half-close. Does not own: who is joined with whom (`gateway.front`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast


class End(asyncio.Protocol):
    """One side. Reading is paused until it is joined; then everything goes to the peer.

    The last side to be lost calls `on_lost` of its own; `limit` is how many further bytes may pass in this direction
    (None: no limit), the rest is dropped.
    """

    def __init__(self, on_lost: Callable[[End], None] | None = None) -> None:
        self.transport: asyncio.Transport | None = None
        self._peer: End | None = None
        self._limit: int | None = None
        self._ended = False  # has sent its last byte
        self._early = bytearray()  # what came before the peer, while a head was awaited
        self._came: asyncio.Future[None] | None = None
        self._on_lost = on_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        if self._peer is None:
            self._early += data
            self._wake()
            return
        if self._limit is not None:
            data = data[: self._limit]
            self._limit -= len(data)
        if data:
            self._peer.write(data)

    def eof_received(self) -> bool:
        """The other direction may go on: True keeps this side open for writing."""
        self._ended = True
        self._wake()
        peer = self._peer
        if peer is None or peer.transport is None or peer.transport.is_closing():
            return False
        if peer._ended:
            peer.transport.close()
            return False
        peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        peer, self._peer = self._peer, None
        self._ended = True
        self._wake()
        if peer is not None and peer.transport is not None:
            peer.transport.close()  # after what is still buffered for it
        if self._on_lost is not None:
            self._on_lost(self)

    def pause_writing(self) -> None:
        if self._peer is not None:
            self._peer.read(False)

    def resume_writing(self) -> None:
        if self._peer is not None:
            self._peer.read(True)

    def join(self, peer: End, limit: int | None = None) -> None:
        """Let the bytes flow from here to `peer` (call it on both)."""
        self._peer, self._limit = peer, limit
        if self._early:
            early, self._early = bytes(self._early), bytearray()
            self.data_received(early)
        self.read(True)

    async def read_head(self, limit: int) -> bytes:
        """Everything to the first empty line, before there is a peer. Raises ConnectionError: ended, or too long."""
        while (end := self._early.find(b"\r\n\r\n")) < 0:
            if self._ended or len(self._early) > limit:
                raise ConnectionError("no head came")
            self._came = asyncio.get_running_loop().create_future()
            self.read(True)
            await self._came
            self.read(False)
        head = bytes(self._early[: end + 4])
        del self._early[: end + 4]
        return head

    def write(self, data: bytes) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(data)

    def read(self, wanted: bool) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        if wanted:
            self.transport.resume_reading()
        else:
            self.transport.pause_reading()

    def _wake(self) -> None:
        if self._came is not None and not self._came.done():
            self._came.set_result(None)

    def shutdown(self) -> None:
        """The server stops."""
        if self.transport is not None:
            self.transport.abort()

    def check(self, now: float) -> None:
        """A tunnel may be idle for as long as its ends like."""
