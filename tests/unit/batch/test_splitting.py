"""Splitting and packing, exactly to the byte."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.batch.splitting import LINE, NONE, RECORD_IO, TF_RECORD, BadRecord, Batch, pieces, records, split
from support.transform_runs import record_io, tf_record


def batches(data: bytes, kind: str, limit: int = 100, *, multi: bool = True) -> list[Batch]:
    return list(split(io.BytesIO(data), kind, multi=multi, limit=limit))


def test_lines_are_packed_to_the_byte() -> None:
    assert batches(b"ab\ncd\nef\n", LINE, 6) == [Batch(b"ab\ncd\n", 1, 2), Batch(b"ef\n", 3, 1)]
    assert batches(b"ab\ncd\nef", LINE, 5) == [Batch(b"ab\n", 1, 1), Batch(b"cd\nef", 2, 2)]


def test_a_line_of_exactly_the_limit_fits() -> None:
    assert batches(b"abc", LINE, 3) == [Batch(b"abc", 1, 1)]
    assert batches(b"ab\nabc", LINE, 3) == [Batch(b"ab\n", 1, 1), Batch(b"abc", 2, 1)]


@pytest.mark.parametrize("multi", [True, False])
def test_a_line_above_the_limit_is_named(multi: bool) -> None:
    with pytest.raises(BadRecord) as caught:
        batches(b"a\nb\nabcdef\n", LINE, 4, multi=multi)
    assert caught.value.record == 3
    assert "MaxPayloadInMB" in caught.value.why


def test_single_lines_lose_their_line_feed() -> None:
    assert batches(b"ab\n\ncd", LINE, multi=False) == [Batch(b"ab", 1, 1), Batch(b"", 2, 1), Batch(b"cd", 3, 1)]


def test_an_empty_object_has_no_lines() -> None:
    assert batches(b"", LINE) == []


def test_none_is_the_object_up_to_the_limit() -> None:
    assert batches(b"a\nb", NONE, 3) == [Batch(b"a\nb", 1, 1)]
    with pytest.raises(BadRecord, match="SplitType"):
        batches(b"a\nbc", NONE, 3)


@pytest.mark.parametrize(("kind", "framed"), [(RECORD_IO, record_io), (TF_RECORD, tf_record)])
def test_frames_are_kept_or_taken_off(kind: str, framed: type[bytes]) -> None:
    one, two = framed(b"abcde"), framed(b"xy")
    assert batches(one + two, kind, len(one + two)) == [Batch(one + two, 1, 2)]
    assert batches(one + two, kind, len(one + two) - 1) == [Batch(one, 1, 1), Batch(two, 2, 1)]
    assert batches(one + two, kind, multi=False) == [Batch(b"abcde", 1, 1), Batch(b"xy", 2, 1)]
    assert list(records(one + two, kind)) == [one, two]
    with pytest.raises(BadRecord, match="middle"):
        batches(one + two[: -1 if kind == TF_RECORD else -3], kind)


def test_a_record_io_record_in_several_parts_is_one() -> None:
    data = record_io(b"ab", 1) + record_io(b"cd", 2) + record_io(b"ef", 3)
    magic = struct.pack("<I", 0xCED7230A)
    assert batches(data, RECORD_IO, multi=False) == [Batch(magic.join((b"ab", b"cd", b"ef")), 1, 1)]


@given(st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b""))), st.booleans(), st.integers(7, 40))
def test_packing_loses_nothing_and_wastes_nothing(lines: list[bytes], ended: bool, limit: int) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    found = batches(data, LINE, limit)
    assert b"".join(each.data for each in found) == data
    assert all(0 < len(each.data) <= limit for each in found)
    number = 1
    for each in found:
        assert each.first == number
        assert len(records(each.data, LINE)) == each.records
        number += each.records
    for one, two in itertools.pairwise(found):
        assert len(one.data) + len(records(two.data, LINE)[0]) > limit, "the next record would have fitted"


@pytest.mark.parametrize(("kind", "framed"), [(RECORD_IO, record_io), (TF_RECORD, tf_record)])
@given(contents=st.lists(st.binary(max_size=30)), limit=st.integers(60, 200))
def test_frames_are_packed_as_tightly(
    kind: str, framed: Callable[[bytes], bytes], contents: list[bytes], limit: int
) -> None:
    frames = [framed(each) for each in contents]
    found = batches(b"".join(frames), kind, limit)
    assert [frame for each in found for frame in records(each.data, kind)] == frames
    assert all(0 < len(each.data) <= limit for each in found)
    for one, two in itertools.pairwise(found):
        assert two.first == one.first + one.records
        assert len(one.data) + len(records(two.data, kind)[0]) > limit, "the next record would have fitted"
    assert [each.data for each in batches(b"".join(frames), kind, limit, multi=False)] == contents


@given(st.lists(st.binary(max_size=6).map(lambda line: line.replace(b"\n", b""))), st.booleans())
def test_without_a_limit_an_object_is_one_batch(lines: list[bytes], ended: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    found = list(split(io.BytesIO(data), LINE, multi=True, limit=None))
    assert [each.data for each in found] == ([data] if data else [])
    alone = list(split(io.BytesIO(data), LINE, multi=False, limit=None))
    assert sum(each.records for each in found) == len(alone)
    streamed = list(pieces(io.BytesIO(data), LINE))
    assert b"".join(piece for piece, _ in streamed) == data
    assert sum(count for _, count in streamed) == len(alone)


@pytest.mark.parametrize("limit", [None, 1 << 20])
def test_what_is_no_frame_is_named(limit: int | None) -> None:
    data = record_io(b"x") + b"no magic here"
    for read in (
        lambda: list(split(io.BytesIO(data), RECORD_IO, multi=True, limit=limit)),
        lambda: list(pieces(io.BytesIO(data), RECORD_IO)),
    ):
        with pytest.raises(BadRecord, match="Check SplitType") as caught:
            read()
        assert caught.value.record == 2
