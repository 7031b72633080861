"""One gzip stream made by several threads, straight into an object.

    tarfile ─► blocks ─► deflate, one thread a core ─► in order ─► object writer

The stream carries no time, and its blocks depend on the content alone: equal folders give equal bytes.
Owns: the compressor and its level. Does not own: what goes in (`collect`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from isal import igzip_threaded

from sagewright.staging.meter import Meter
from sagewright.staging.source import ObjectWriter

if TYPE_CHECKING:
    from typing_extensions import Buffer  # collections.abc has it from 3.12 on

PIECE: Final = 1 << 20  # bytes read, and handed to the compressor, at once
LEVEL: Final = 1  # of 0 to 3: weights hardly shrink further
_MOST_THREADS: Final = 8  # beyond, the reader and the one who writes are what takes time


@contextmanager
def packed(writer: ObjectWriter, meter: Meter) -> Iterator[BinaryIO]:
    """What is written to it arrives in `writer` as gzip, all of it once the block has ended. Raises what the writer
    raises, and Cancelled."""
    threads = max(1, min(_MOST_THREADS, len(os.sched_getaffinity(0))))
    sink = cast("BinaryIO", _Sink(writer))
    make = cast("Callable[..., BinaryIO]", igzip_threaded.open)
    with make(sink, "wb", compresslevel=LEVEL, threads=threads, block_size=PIECE) as gzip:
        yield cast("BinaryIO", _Counted(gzip, meter))


class _Sink(io.RawIOBase):
    """The object writer as a file that can only be written."""

    def __init__(self, writer: ObjectWriter) -> None:
        super().__init__()
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        piece = bytes(data)
        if piece:
            self._writer.write(piece)
        return len(piece)


class _Counted:
    """What `tarfile` writes into. It reads nothing back and never seeks."""

    def __init__(self, stream: BinaryIO, meter: Meter) -> None:
        self._stream = stream
        self._meter = meter
        self._written = 0

    def write(self, data: bytes) -> int:
        self._meter.add(len(data))
        self._written += len(data)
        return self._stream.write(data)

    def tell(self) -> int:
        return self._written
