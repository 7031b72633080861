"""Splitting and packing: one object becomes the bodies of requests (contract C.4). Pure, but for reading.

    Line, MultiRecord      as many whole lines as fit, line feeds kept
    Line, SingleRecord     one line without its line feed
    RecordIO | TFRecord    MultiRecord keeps framing and padding; SingleRecord has the content alone
    None                   the object

Never more than a batch is held. Owns: where records begin and end. Does not own: what is done with them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, Final, NamedTuple

NONE, LINE, RECORD_IO, TF_RECORD = "None", "Line", "RecordIO", "TFRecord"

_MAGIC: Final = 0xCED7230A
_MAGIC_BYTES: Final = struct.pack("<I", _MAGIC)
_LENGTH: Final = (1 << 29) - 1  # the upper three bits say which part of a record it is
_WHOLE, _LAST = 0, 3
_PIECE: Final = 1 << 20  # bytes of an object that is not held
_NO_LIMIT: Final = 1 << 62


class Batch(NamedTuple):
    """The body of one request. `first` is the number of its first record in the object, from 1."""

    data: bytes
    first: int
    records: int


class BadRecord(Exception):
    """The object cannot be split any further than `record`; `why` says what to change."""

    def __init__(self, record: int, why: str) -> None:
        super().__init__(why)
        self.record = record
        self.why = why


Frame = tuple[bytes, bytes]  # a record as it lies in the object, and its content


def split(source: BinaryIO, kind: str, *, multi: bool, limit: int | None) -> Iterator[Batch]:
    """The batches of one object, in order; each has at most `limit` bytes, if that is given. Raises BadRecord."""
    if limit is None and kind in {NONE, LINE} and (multi or kind == NONE):
        return _held(source, kind)
    limit = limit or _NO_LIMIT
    if kind == LINE:
        return _packed_lines(source, limit) if multi else _single_lines(source, limit)
    if kind == NONE:
        return _whole(source, limit)
    read = _record_io if kind == RECORD_IO else _tf_record
    return _packed_frames(source, read, limit) if multi else _single_frames(source, read, limit)


def pieces(source: BinaryIO, kind: str) -> Iterator[tuple[bytes, int]]:
    """The object as it lies there, piece by piece, and how many records end in each. Raises BadRecord."""
    if kind == NONE:
        yield from ((data, 0) for data in iter(lambda: source.read(_PIECE), b""))
        yield b"", 1
    elif kind == LINE:
        last = b"\n"
        while data := source.read(_PIECE):
            yield data, data.count(b"\n")
            last = data[-1:]
        if last != b"\n":
            yield b"", 1
    else:
        read = _record_io if kind == RECORD_IO else _tf_record
        for batch in _packed_frames(source, read, _PIECE, alone=True):
            yield batch.data, batch.records


def records(data: bytes, kind: str) -> Sequence[bytes]:
    """The records of a MultiRecord batch, each as it would stand in a batch of its own."""
    if kind == LINE:
        return [line + b"\n" for line in data[:-1].split(b"\n")] if data.endswith(b"\n") else _unended(data)
    if kind == NONE:
        return [data]
    read, source = _record_io if kind == RECORD_IO else _tf_record, io.BytesIO(data)
    return [frame for frame, _ in iter(lambda: read(source, 1), None) if frame]


def _unended(data: bytes) -> Sequence[bytes]:
    *ended, last = data.split(b"\n")
    return [*(line + b"\n" for line in ended), last]


def _held(source: BinaryIO, kind: str) -> Iterator[Batch]:
    data = source.read()
    if data or kind == NONE:
        yield Batch(data, 1, 1 if kind == NONE else _count(data))


def _count(data: bytes) -> int:
    return data.count(b"\n") + (not data.endswith(b"\n"))


def _whole(source: BinaryIO, limit: int) -> Iterator[Batch]:
    data = source.read(limit + 1)
    if len(data) > limit:
        raise _too_large(1, limit, "Set SplitType, or raise MaxPayloadInMB")
    yield Batch(data, 1, 1)


def _single_lines(source: BinaryIO, limit: int) -> Iterator[Batch]:
    number = 0
    while line := source.readline(limit + 1):
        number += 1
        if line.endswith(b"\n"):
            line = line[:-1]
        elif len(line) > limit:
            raise _too_large(number, limit)
        yield Batch(line, number, 1)


def _packed_lines(source: BinaryIO, limit: int) -> Iterator[Batch]:
    first, rest = 1, b""
    while True:
        data = rest + source.read(limit - len(rest))
        probe = source.read(1) if len(data) == limit else b""
        if not probe:
            if data:
                yield Batch(data, first, _count(data))
            return
        cut = data.rfind(b"\n") + 1
        if not cut:
            raise _too_large(first, limit)
        batch = Batch(data[:cut], first, data.count(b"\n", 0, cut))
        yield batch
        first, rest = first + batch.records, data[cut:] + probe
        if len(rest) > limit:  # a record of `limit` bytes whose end has yet to come
            raise _too_large(first, limit)


def _single_frames(source: BinaryIO, read: Callable[[BinaryIO, int], Frame | None], limit: int) -> Iterator[Batch]:
    number = 1
    while (frame := read(source, number)) is not None:
        if len(frame[1]) > limit:
            raise _too_large(number, limit)
        yield Batch(frame[1], number, 1)
        number += 1


def _packed_frames(
    source: BinaryIO, read: Callable[[BinaryIO, int], Frame | None], limit: int, *, alone: bool = False
) -> Iterator[Batch]:
    """`alone`: a record that is larger goes by itself."""
    first, size, held = 1, 0, list[bytes]()
    while (frame := read(source, first + len(held))) is not None:
        whole = frame[0]
        if len(whole) > limit and not alone:
            raise _too_large(first + len(held), limit)
        if held and size + len(whole) > limit:
            yield Batch(b"".join(held), first, len(held))
            first, size, held = first + len(held), 0, []
        held.append(whole)
        size += len(whole)
    if held:
        yield Batch(b"".join(held), first, len(held))


def _record_io(source: BinaryIO, number: int) -> Frame | None:
    """MXNet's RecordIO: magic, flag and length, content, padding to four bytes; long records in several parts."""
    frames, contents = list[bytes](), list[bytes]()
    while True:
        head = source.read(8)
        if not head and not frames:
            return None
        if len(head) < 8:
            raise _torn(number, "RecordIO")
        magic, word = struct.unpack("<II", head)
        if magic != _MAGIC:
            raise BadRecord(number, "it does not begin like a RecordIO record. Check SplitType")
        part, length = word >> 29, word & _LENGTH
        padded = source.read(length + (-length % 4))
        if len(padded) < length:
            raise _torn(number, "RecordIO")
        frames.append(head + padded)
        contents.append(padded[:length])
        if part in {_WHOLE, _LAST}:
            return b"".join(frames), _MAGIC_BYTES.join(contents)


def _tf_record(source: BinaryIO, number: int) -> Frame | None:
    """Length, its checksum, content, its checksum. The checksums are the reader's business, as on AWS."""
    head = source.read(12)
    if not head:
        return None
    if len(head) < 12:
        raise _torn(number, "TFRecord")
    (length,) = struct.unpack("<Q", head[:8])
    if length > 1 << 31:
        raise BadRecord(number, "it does not begin like a TFRecord record. Check SplitType")
    rest = source.read(length + 4)
    if len(rest) < length + 4:
        raise _torn(number, "TFRecord")
    return head + rest, rest[:length]


def _torn(number: int, kind: str) -> BadRecord:
    return BadRecord(number, f"the object ends in the middle of a {kind} record. Check that it was uploaded whole")


def _too_large(number: int, limit: int, instead: str = "Raise MaxPayloadInMB, or make the record smaller") -> BadRecord:
    return BadRecord(number, f"it is larger than MaxPayloadInMB ({limit >> 20} MiB). {instead}")
