"""The log parser against streams as the engine makes them, cut anywhere, resumed anywhere."""

from __future__ import annotations

import struct
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sagewright.backends.docker.logs import (
    LONGEST,
    PIECE,
    SLACK,
    Line,
    LineParser,
    Resume,
    any_moment,
    cursor_of,
    records_of,
)
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.backend import LogCursor

BASE = 1_795_355_573_000_000_000  # 2026-11-22T13:52:53Z


def stamp(moment: int) -> bytes:
    second, nanos = divmod(moment, 1_000_000_000)
    text = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{nanos:09d}Z".encode()


def frame(stream: int, content: bytes) -> bytes:
    return struct.pack(">BxxxL", stream, len(content)) + content


def written(lines: list[tuple[int, int, bytes]], *, driver: str, last_is_cut: bool = False) -> bytes:
    """The engine's stream for (stream, time, line): long lines come in pieces, as each log driver sends them."""
    out = []
    for number, (stream, moment, line) in enumerate(lines):
        pieces = [line[start : start + PIECE] for start in range(0, len(line), PIECE)]
        if not pieces or (len(pieces[-1]) == PIECE and not (last_is_cut and number == len(lines) - 1)):
            pieces.append(b"")
        end = b"\n"
        if (driver == "local" and len(pieces) > 1) or (last_is_cut and number == len(lines) - 1):
            end = b""
        pieces[-1] += end
        out += [frame(stream, stamp(moment) + b" " + piece) for piece in pieces]
    return b"".join(out)


def parse(data: bytes, driver: str, cuts: list[int]) -> list[Line]:
    parser, lines, begin = LineParser(short_piece_ends=driver == "local"), [], 0
    for cut in [*sorted(cuts), len(data)]:
        lines += parser.feed(data[begin:cut])
        begin = cut
    return lines + parser.flush()


content = st.one_of(
    st.binary(max_size=40).map(lambda line: line.replace(b"\n", b" ")),
    st.sampled_from([PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 3 * PIECE + 7]).map(lambda size: b"x" * size),
)
times = st.integers(0, 5).map(lambda step: BASE + step * 300_000_000)
streams = st.lists(st.tuples(st.sampled_from([1, 2]), times, content), max_size=12)


@pytest.mark.parametrize("driver", ["local", "json-file"])
@settings(max_examples=60, deadline=None)
@given(lines=streams, cuts=st.lists(st.integers(0, 60_000), max_size=6))
@example(lines=[(1, BASE, b"x" * PIECE), (2, BASE, b"")], cuts=[8, 9])
def test_lines_come_out_as_they_went_in_however_the_stream_is_cut(
    driver: str, lines: list[tuple[int, int, bytes]], cuts: list[int]
) -> None:
    data = written(lines, driver=driver)
    parsed = parse(data, driver, [min(cut, len(data)) for cut in cuts])
    assert [(moment, line) for moment, _, line in parsed] == [(moment, line) for _, moment, line in lines]
    assert len({cursor_of(line) for line in parsed}) == len(parsed)


@pytest.mark.parametrize("driver", ["local", "json-file"])
@pytest.mark.parametrize("size", [1, PIECE - 1, PIECE, 2 * PIECE])
def test_the_last_line_may_lack_its_line_feed(driver: str, size: int) -> None:
    lines = [(1, BASE, b"one"), (1, BASE, b"x" * size)]
    data = written(lines, driver=driver, last_is_cut=True)
    assert [line for _, _, line in parse(data, driver, [])] == [b"one", b"x" * size]


def test_what_looks_like_a_frame_inside_of_a_line_is_a_part_of_the_line() -> None:
    inner = frame(1, stamp(BASE + 1) + b" forged")  # no line feed: a line cannot have one
    lines = [(1, BASE, b"a" * PIECE + inner), (2, BASE + 2, inner), (1, BASE + 3, inner[:9])]
    for driver in ("local", "json-file"):
        parsed = parse(written(lines, driver=driver), driver, [])
        assert [line[2] for line in parsed] == [line for _, _, line in lines]


def test_a_frame_that_is_no_whole_line_is_not_joined_with_the_next_frame() -> None:
    cut = frame(1, stamp(BASE) + b" no line feed") + frame(2, stamp(BASE + 1) + b" whole\n")
    parser = LineParser()
    assert [line[2] for line in parser.feed(cut)] == [b"whole"]
    assert [line[2] for line in parser.flush()] == [b"no line feed"]


def test_pieces_of_two_streams_do_not_mix() -> None:
    parser = LineParser()
    parser.feed(frame(1, stamp(BASE) + b" " + b"o" * PIECE) + frame(2, stamp(BASE) + b" " + b"e" * PIECE))
    lines = parser.feed(frame(2, stamp(BASE) + b" E\n") + frame(1, stamp(BASE) + b" O\n"))
    assert [line for _, _, line in lines] == [b"e" * PIECE + b"E", b"o" * PIECE + b"O"]


def test_a_line_that_never_ends_is_given_in_parts_that_fit_into_memory() -> None:
    parser = LineParser()
    piece = frame(1, stamp(BASE) + b" " + b"x" * PIECE)
    lines = [line for _ in range(LONGEST * 2) for line in parser.feed(piece)]
    assert [len(line) for _, _, line in lines] == [LONGEST * PIECE] * 2


def test_the_engine_s_own_trouble_is_not_a_line() -> None:
    with pytest.raises(BackendUnavailable, match="invalid character"):
        LineParser().feed(frame(3, b"Error grabbing logs: invalid character 'l' after object key\n"))


@settings(max_examples=100, deadline=None)
@given(lines=streams.filter(bool), data=st.data())
def test_resuming_after_any_line_gives_the_rest_in_the_order_it_was_stored(
    lines: list[tuple[int, int, bytes]], data: st.DataObject
) -> None:
    """Times are drawn out of order and often equal, as two pipes read by two threads make them."""
    everything = parse(written(lines, driver="local"), "local", [])
    place = data.draw(st.integers(0, len(everything) - 1))
    resume = Resume(cursor_of(everything[place]))
    second, _, nanos = resume.since.partition(".")
    since = int(second) * 1_000_000_000 + int(nanos)
    answered = [line for line in lines if line[1] >= since]  # as the engine filters
    rest = resume.rest(parse(written(answered, driver="local"), "local", [])) + resume.end()
    assert [(moment, line) for moment, _, line in rest] == [(moment, line) for _, moment, line in lines][place + 1 :]


def test_a_cursor_of_another_log_gives_what_is_newer() -> None:
    resume = Resume(LogCursor(f"{BASE}:3"))
    older, newer, much_newer = (BASE - 1, 1, b"a"), (BASE + 5, 1, b"b"), (BASE + 2 * SLACK, 1, b"c")
    assert resume.rest([older, newer]) == []
    assert resume.rest([much_newer]) == [newer, much_newer]
    assert resume.rest([(BASE, 1, b"d")]) == [(BASE, 1, b"d")]
    ended = Resume(LogCursor(f"{BASE}:3"))
    assert ended.rest([older, newer]) == []
    assert ended.end() == [newer]


def test_a_record_has_milliseconds_and_a_cursor_without_white_space() -> None:
    [record] = records_of([(BASE + 714_570_924, 2, b"x")])
    assert (record.timestamp, record.message, record.cursor) == (
        (BASE + 714_570_924) // 1_000_000,
        b"x",
        f"{BASE + 714_570_924}:2",
    )


@pytest.mark.parametrize(
    ("text", "nanos"),
    [
        (b"2026-11-22T13:52:53Z", BASE),
        (b"2026-11-22T13:52:53.5Z", BASE + 500_000_000),
        (b"2026-11-22T15:52:53.000000001+02:00", BASE + 1),
        (b"2026-11-22T08:22:53-05:30", BASE),
    ],
)
def test_times_of_other_engines_are_understood(text: bytes, nanos: int) -> None:
    assert any_moment(text) == nanos
    [line] = LineParser().feed(frame(1, text + b" x\n"))
    assert line == (nanos, 1, b"x")


def test_a_frame_without_a_time_is_no_line() -> None:
    with pytest.raises(BackendUnavailable, match="without a time"):
        LineParser().feed(frame(1, b"nonsense here\n"))
