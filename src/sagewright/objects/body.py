"""Object bytes on their way out: an async iterator over an open file.

Owns: chunks, closing. Does not own: which bytes (`objects.ranges`), which file (`objects.reading`).

The file is open before the first byte goes out, so the object may be overwritten or deleted meanwhile: the reader gets
what it began with. Bytes in the page cache are read at once; for bytes that must come from the disk a thread waits.
"""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator
from typing import BinaryIO, Final

from sagewright.core.errors import BlobError
from sagewright.objects.ranges import ByteRange
from sagewright.objects.storage import Run
from sagewright.wire.messages import FileSpan

CHUNK: Final = 1024 * 1024
SMALL: Final = 256 * 1024
"""Bytes up to which a body is read whole, before the response begins."""

_NO_WAIT: Final = getattr(os, "RWF_NOWAIT", None)  # Linux


class ObjectBody(AsyncIterator[bytes]):
    """The bytes `span` of `file`. Whoever does not iterate to the end calls `aclose`."""

    def __init__(self, file: BinaryIO, span: ByteRange, run: Run) -> None:
        self.file = file
        self._position = span.start
        self._stop = span.start + span.length
        self._run = run
        self._descriptor = _descriptor(file)
        self.span = FileSpan(self._descriptor, span.start, span.length) if self._descriptor is not None else None

    async def __anext__(self) -> bytes:
        wanted = min(CHUNK, self._stop - self._position)
        if wanted <= 0:
            self.file.close()
            raise StopAsyncIteration
        chunk = self._cached(wanted) or await self._run(lambda: self._read(wanted))
        if not chunk:
            self.file.close()
            raise BlobError(f"content ends at byte {self._position} of {self._stop}: the file was cut from outside")
        self._position += len(chunk)
        return chunk

    async def aclose(self) -> None:
        self.file.close()

    def __del__(self) -> None:
        self.file.close()

    def _cached(self, wanted: int) -> bytes:
        """What the page cache has of it, without waiting; nothing when that cannot be told."""
        if self._descriptor is None or _NO_WAIT is None:
            return b""
        buffer = bytearray(wanted)
        try:
            count = os.preadv(self._descriptor, [buffer], self._position, _NO_WAIT)
        except OSError:
            return b""  # not in the cache, or a file system without this flag: a real error comes again in `_read`
        return bytes(memoryview(buffer)[:count])

    def _read(self, wanted: int) -> bytes:
        if self._descriptor is not None:
            return os.pread(self._descriptor, wanted, self._position)
        self.file.seek(self._position)
        return self.file.read(wanted)


async def body_of(file: BinaryIO, span: ByteRange, run: Run) -> bytes | ObjectBody:
    """Small content whole, with `file` closed; large content as an iterator that owns `file`."""
    body = ObjectBody(file, span, run)
    if span.length > SMALL:
        return body
    try:
        return b"".join([chunk async for chunk in body])
    finally:
        file.close()


def _descriptor(file: BinaryIO) -> int | None:
    try:
        return file.fileno()
    except (io.UnsupportedOperation, AttributeError):
        return None
