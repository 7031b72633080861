"""Bytes of a file to a plain connection, from the kernel's page cache to its socket, without passing through Python.

Owns: waiting for the socket, keeping the disk off the event loop. Does not own: the response around the bytes
(`gateway.http`), opening and closing the file (whoever made the body).
uvloop has no `loop.sendfile`, and does not let others wait for a socket of its own: a duplicate of its descriptor is
another descriptor of the same socket, which may be waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Final

from sagewright.core.errors import BlobError
from sagewright.wire.messages import FileSpan

PIECE: Final = 2 * 1024 * 1024
"""Bytes for one system call, about a millisecond; other connections have their turn between two."""
_AHEAD: Final = 4 * PIECE  # bytes that the kernel is told we shall want
_LOOK: Final = 1.0  # seconds between looks whether the connection was closed by our own side
_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)
SUPPORTED: Final = _NO_WAIT is not None
"""On Linux. Elsewhere a piece that was sent in part cannot be told from one that was not."""


async def send_file(transport: asyncio.Transport, span: FileSpan) -> bool:
    """False when the connection was lost on the way. Raises BlobError when the file is shorter than it was."""
    if not await _is_drained(transport):
        return False
    loop = asyncio.get_running_loop()
    try:
        duplicate = os.dup(transport.get_extra_info("socket").fileno())
    except OSError:
        return False
    position, stop = span.offset, span.offset + span.length
    try:
        while position < stop:
            if transport.is_closing():
                return False
            wanted = min(PIECE, stop - position)
            try:
                if _is_cached(span.descriptor, position + wanted - 1):
                    sent = os.sendfile(duplicate, span.descriptor, position, wanted)
                else:
                    sent = await _in_thread(loop, duplicate, span.descriptor, position, wanted)
            except BlockingIOError:
                await _writable(loop, duplicate)
                continue
            except (ConnectionError, TimeoutError):
                transport.abort()
                return False
            if not sent:
                raise BlobError(f"a file ends at byte {position} of {stop}: it was cut from outside")
            position += sent
            await asyncio.sleep(0)
        return True
    finally:
        os.close(duplicate)


async def _is_drained(transport: asyncio.Transport) -> bool:
    """Wait until what was written before (the head, earlier answers) is with the kernel; False when it cannot be."""
    pause = 0.0
    while transport.get_write_buffer_size():
        if transport.is_closing():
            return False
        await asyncio.sleep(pause)
        pause = min(pause + 0.001, 0.05)
    return not transport.is_closing()


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    """Returns at the latest after a second."""
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_writer(descriptor, wake)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ready, _LOOK)
    finally:
        loop.remove_writer(descriptor)


async def _in_thread(loop: asyncio.AbstractEventLoop, out: int, source: int, position: int, wanted: int) -> int:
    """For bytes that the disk must bring. A thread cannot be stopped: neither descriptor is closed before it ends."""
    os.posix_fadvise(source, position, _AHEAD, os.POSIX_FADV_WILLNEED)
    work = loop.run_in_executor(None, os.sendfile, out, source, position, wanted)
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await work
        raise


def _is_cached(descriptor: int, position: int) -> bool:
    """Whether the byte there, and so most likely what is before it, can be had without the disk."""
    try:
        return bool(os.preadv(descriptor, [bytearray(1)], position, _NO_WAIT or 0))
    except OSError:
        return False
