"""One channel of the record: which bytes an epoch of it is, in which order.

Order: as recorded; with a seed, another order per epoch, the same one for everybody who has the seed. A share is taken
after that, so that with a seed what a host gets changes from epoch to epoch (contract A.8).
"""

from __future__ import annotations

import json
import os
import random
import zlib
from array import array
from collections.abc import Iterator
from typing import Any

from .pipe import SMALL, Pipe, Unreadable, headers, record

_AHEAD = 64 << 10  # bytes of entries
_CHUNK = 256 << 10  # bytes of a compressed object read at a time, and of what they become
_WHOLE = 4 << 20  # bytes; what unpacks to no more is unpacked once, and held until its length is known
_GZIP = 31  # zlib's name for: gzip, and nothing else


class Channel:
    """`folder` is the channel's part of the record."""

    def __init__(self, folder: str) -> None:
        with open(f"{folder}/channel.json", encoding="utf-8") as file:
            config: dict[str, Any] = json.load(file)
        self.name: str = config["channel"]
        self._records: bool = config["records"]
        self._gunzip: bool = config["gunzip"]
        self._seed: int | None = config["seed"]
        self._shard: int = config["shard"]
        self._shards: int = config["shards"]
        self._objects = f"{folder}/objects"
        self._entries = open(f"{folder}/entries", "rb")  # noqa: SIM115 - read for as long as the process lives
        self._starts = array("Q", _starts(self._entries))
        self._at, self._ahead = 0, b""

    def order(self, epoch: int) -> array[int]:
        """The units of an epoch, as numbers of lines."""
        units = array("Q", range(len(self._starts) - 1))
        if self._seed is not None:
            random.Random(f"{self._seed} {epoch}").shuffle(units)
        return units[self._shard :: self._shards]

    def feed(self, units: array[int], pipe: Pipe) -> None:
        """Raises BrokenPipeError (the reader has left), Unreadable, OSError."""
        for unit in units:
            for part in self._parts(unit):
                if isinstance(part, str):
                    self._send_whole(part.encode(), pipe)
                else:
                    number, uri = part
                    self._send_object(number, uri, pipe)
        pipe.flush()

    def _parts(self, unit: int) -> list[Any]:
        """Read ahead, which pays where units come in their order."""
        start, end = self._starts[unit], self._starts[unit + 1]
        if not self._at <= start <= end <= self._at + len(self._ahead):
            self._at, self._ahead = start, os.pread(self._entries.fileno(), max(end - start, _AHEAD), start)
        parts: list[Any] = json.loads(self._ahead[start - self._at : end - self._at])
        return parts

    def _send_whole(self, content: bytes, pipe: Pipe) -> None:
        pipe.write(record(content) if self._records else content)

    def _send_object(self, number: int, uri: str, pipe: Pipe) -> None:
        descriptor = os.open(f"{self._objects}/{number}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self._gunzip:
                self._send_unpacked(descriptor, pipe)
            else:
                self._send_stored(descriptor, pipe)
        except EOFError:
            raise Unreadable(f"Object {uri} became shorter while it was read: its file was changed.") from None
        except zlib.error as error:
            raise Unreadable(
                f"Object {uri} cannot be unpacked, although CompressionType is Gzip: {error}. Compress it with gzip, "
                "or leave CompressionType out."
            ) from None
        finally:
            os.close(descriptor)

    def _send_stored(self, descriptor: int, pipe: Pipe) -> None:
        """Most objects are small, and then one read is all."""
        begin = os.pread(descriptor, SMALL, 0)
        if len(begin) < SMALL:
            self._send_whole(begin, pipe)
            return
        size = os.fstat(descriptor).st_size
        if not self._records:
            pipe.send_file(descriptor, 0, size)
            return
        offset = 0
        for header, length, padding in headers(size):
            pipe.write(header)
            pipe.send_file(descriptor, offset, length)
            pipe.write(padding)
            offset += length

    def _send_unpacked(self, descriptor: int, pipe: Pipe) -> None:
        """With records the length comes first, so that what is long has to be unpacked twice."""
        content = unpacked(descriptor)
        if not self._records:
            for piece in content:
                pipe.write(piece)
            return
        held, size = [], 0
        for piece in content:
            size += len(piece)
            if size <= _WHOLE:
                held.append(piece)
        source = iter(held) if size <= _WHOLE else unpacked(descriptor)
        rest = b""
        for header, length, padding in headers(size):
            pipe.write(header)
            left = length
            while left:
                rest = rest or next(source)
                piece, rest = rest[:left], rest[left:]
                pipe.write(piece)
                left -= len(piece)
            pipe.write(padding)


def unpacked(descriptor: int) -> Iterator[bytes]:
    """What a gzip file of one or several members holds, in pieces; an empty file holds nothing. Raises zlib.error."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    member: Any = None
    later, data = False, b""
    while True:
        data = data or os.read(descriptor, _CHUNK)
        if member is None:
            data = data.lstrip(b"\0") if later else data  # some writers fill up their last block
            if not data:
                if os.lseek(descriptor, 0, os.SEEK_CUR) >= os.fstat(descriptor).st_size:
                    return
                continue
            member, later = zlib.decompressobj(_GZIP), True
        piece = member.decompress(data, _CHUNK)
        if piece:
            yield piece
        elif not data:
            raise zlib.error("it ends too early")
        if member.eof:
            member, data = None, member.unused_data
        else:
            data = member.unconsumed_tail


def _starts(file: Any) -> Iterator[int]:
    """Where each line begins, and where the last one ends."""
    place = 0
    yield place
    for line in file:
        place += len(line)
        yield place
