"""Log streams: every line once, in order, found by time, whoever dies when."""

from __future__ import annotations

import os
import random
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sagewright.blobs.streams import LogStreams, StreamRecord
from sagewright.core.errors import BlobNotFound

G, S = "/aws/sagemaker/TrainingJobs", "job/algo-1-170"


@pytest.fixture
def streams(tmp_path: Path) -> LogStreams:
    return LogStreams(tmp_path / "streams")


def record(number: int, message: bytes | None = None, timestamp: int | None = None) -> StreamRecord:
    return StreamRecord(
        f"c{number}",
        number if timestamp is None else timestamp,
        f"line {number}".encode() if message is None else message,
    )


def messages(streams: LogStreams, **bounds: int | None) -> list[bytes]:
    return [event.message for event in streams.read(G, S, **bounds).events]


def file_of(streams: LogStreams) -> Path:
    return streams._path(G, S)


# -- format


def test_the_file_is_what_the_format_says(streams: LogStreams, tmp_path: Path) -> None:
    streams.append(
        G, S, [StreamRecord("c:1", 5, b"hello world"), StreamRecord("c:2", 7, b""), StreamRecord("-", 7, b"a\nb\\")]
    )
    path = tmp_path / "streams" / "%2Faws%2Fsagemaker%2FTrainingJobs" / "job+" / "algo-1-170.log"
    assert path.read_bytes() == b"c:1 5 hello world\nc:2 7 \n- 7+ a\\nb\\\\\n"
    assert messages(streams) == [b"hello world", b"", b"a\nb\\"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b"\\n", b"\r", b" ", b"x\n\n", b"\\"]), max_size=12))
def test_any_bytes_come_back_as_they_were(streams: LogStreams, written: list[bytes]) -> None:
    streams.remove(G, S)
    streams.append(G, S, [record(number, message) for number, message in enumerate(written)])
    assert messages(streams) == written
    assert streams.tail(G, S, 100) == written


@pytest.mark.parametrize("cursor", ["", " ", "a b", "a\n", "\t"])
def test_a_cursor_that_would_break_the_format_is_refused_and_nothing_is_written(
    streams: LogStreams, cursor: str
) -> None:
    with pytest.raises(ValueError, match="cursor"):
        streams.append(G, S, [record(1), StreamRecord(cursor, 1, b"x")])
    assert messages(streams) == []


def test_lines_longer_than_any_buffer_come_back(streams: LogStreams) -> None:
    written = [b"x" * size for size in (4095, 4096, 4097, 262_144, 700_000, 0, 1)]
    streams.append(G, S, [record(number, message) for number, message in enumerate(written)])
    forward = [event.message for event in streams.read_all(G, S)]
    assert forward == written
    assert streams.tail(G, S, 3) == written[-3:]
    for number, message in enumerate(written):
        assert streams.read(G, S, start_ms=number, limit_events=1).events[0].message == message


# -- names

NAMES = [
    "a", "b/c", "a/b/c", "a/b", "/", "//", "a/", "/a", ".", "..", "../..", ".log", "a.log", "a.log/b", "a+", "a+/b",
    "a~", "%2F", "%", "ü/é", ".created", ".retention", "x" * 512, "y/" * 256, "/" * 512, "job/algo-1-170",
    "~" * 300, ".x" * 200,
]  # fmt: skip


def test_any_name_has_its_own_file_inside_the_folder_and_is_listed(streams: LogStreams, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        streams.append(G, name, [record(number)])
    assert streams.names(G) == sorted(NAMES)
    assert [streams.tail(G, name, 9) for name in NAMES] == [[f"line {n}".encode()] for n in range(len(NAMES))]
    assert [each.name for each in tmp_path.iterdir()] == ["streams"]
    assert [each.name for each in (tmp_path / "streams").iterdir()] == ["%2Faws%2Fsagemaker%2FTrainingJobs"]


@pytest.mark.parametrize(
    "prefix", ["", "a", "a/", "a/b", "job/", "job/algo", "y/y", "~", "x" * 300, "nothing", "/", "..", "ü"]
)
def test_streams_are_found_by_any_prefix(streams: LogStreams, prefix: str) -> None:
    for name in NAMES:
        streams.append(G, name, [])
    assert streams.names(G, prefix) == sorted(name for name in NAMES if name.startswith(prefix))


def test_groups_of_any_name_are_listed(streams: LogStreams) -> None:
    for name in NAMES:
        assert streams.create_group(name)
        assert not streams.create_group(name)
    assert streams.groups() == sorted(NAMES)
    assert streams.groups("a/") == sorted(name for name in NAMES if name.startswith("a/"))
    for name in NAMES:
        streams.remove_group(name)
    assert streams.groups() == []


# -- groups and streams


def test_an_empty_stream_is_listed(streams: LogStreams) -> None:
    streams.append(G, S, [])
    [info] = streams.streams(G)
    assert (info.name, info.first_ts, info.last_ts, info.bytes) == (S, None, None, 0)
    assert info.created > 1_600_000_000_000
    assert not streams.create_stream(G, S)


def test_a_stream_says_when_it_began_and_ended(streams: LogStreams) -> None:
    streams.append(G, S, [record(3), record(9)])
    info = streams.info(G, S)
    assert info is not None
    assert (info.created, info.first_ts, info.last_ts, info.bytes) == (3, 3, 9, file_of(streams).stat().st_size)
    assert streams.size(G) == info.bytes


def test_retention_is_kept_until_taken_back(streams: LogStreams) -> None:
    with pytest.raises(BlobNotFound):
        streams.set_retention(G, 7)
    streams.create_group(G)
    assert streams.group(G) == (made := streams.group(G))
    assert made is not None
    assert made.retention_days is None
    streams.set_retention(G, 7)
    found = streams.group(G)
    assert found is not None
    assert (found.retention_days, found.created) == (7, made.created)
    streams.set_retention(G, None)
    assert streams.group(G) == made


def test_what_is_unknown_is_not_found_or_empty(streams: LogStreams) -> None:
    assert (streams.groups(), streams.names(G), streams.streams(G), streams.group(G)) == ([], [], [], None)
    assert (streams.info(G, S), streams.last_cursor(G, S), streams.tail(G, S, 3)) == (None, None, [])
    with pytest.raises(BlobNotFound):
        streams.read(G, S)
    with pytest.raises(BlobNotFound):
        next(streams.read_all(G, S))
    streams.remove(G, S)
    streams.remove_group(G)
    assert streams.groups() == []


def test_a_removed_stream_is_gone_and_can_begin_again(streams: LogStreams) -> None:
    streams.append(G, S, [record(5)])
    streams.append(G, "job/algo-2", [record(5)])
    streams.remove(G, S)
    assert streams.names(G) == ["job/algo-2"]
    streams.append(G, S, [record(1)])
    assert [event.timestamp for event in streams.read(G, S).events] == [1]


# -- reading


@pytest.fixture
def long(streams: LogStreams) -> Iterator[tuple[LogStreams, list[tuple[int, bytes]]]]:
    """A thousand lines of uneven length with many equal timestamps."""
    chance = random.Random(3)
    timestamp, written = 0, []
    for number in range(1000):
        timestamp += chance.choice([0, 0, 0, 1, 5, 100])
        written.append((timestamp, b"%d " % number + b"x" * chance.choice([0, 10, 300])))
    streams.append(G, S, [StreamRecord(f"c{n}", time, message) for n, (time, message) in enumerate(written)])
    return streams, written


@pytest.mark.parametrize("limit", [1, 7, 300, 2000])
def test_walking_forward_gives_every_event_once(long: tuple[LogStreams, list[tuple[int, bytes]]], limit: int) -> None:
    streams, written = long
    found, offset = [], None
    while (page := streams.read(G, S, offset=offset, limit_events=limit)).events:
        found += [(event.timestamp, event.message) for event in page.events]
        offset = page.forward
    assert found == written
    assert page.forward == page.backward == offset


@pytest.mark.parametrize("limit", [1, 7, 300, 2000])
def test_walking_backward_gives_every_event_once(long: tuple[LogStreams, list[tuple[int, bytes]]], limit: int) -> None:
    streams, written = long
    found: list[tuple[int, bytes]] = []
    offset = None
    while (page := streams.read(G, S, offset=offset, from_head=False, limit_events=limit)).events:
        found = [(event.timestamp, event.message) for event in page.events] + found
        offset = page.backward
    assert found == written
    assert page.forward == page.backward == 0


def test_any_window_of_time_is_found_from_both_ends(long: tuple[LogStreams, list[tuple[int, bytes]]]) -> None:
    streams, written = long
    last, chance = written[-1][0], random.Random(4)
    bounds = [0, 1, last, last + 1, *(chance.randrange(last) for _ in range(30)), *(written[n][0] for n in (10, 500))]
    for start, end in ((chance.choice(bounds), chance.choice(bounds)) for _ in range(60)):
        expected = [message for time, message in written if start <= time < end]
        assert messages(streams, start_ms=start, end_ms=end) == expected
        backward = streams.read(G, S, start_ms=start, end_ms=end, from_head=False).events
        assert [event.message for event in backward] == expected


def test_the_end_seen_from_behind_can_be_read_on_from(streams: LogStreams) -> None:
    streams.append(G, S, [record(number) for number in range(10)])
    page = streams.read(G, S, from_head=False, limit_events=3)
    assert [event.timestamp for event in page.events] == [7, 8, 9]
    streams.append(G, S, [record(10)])
    assert [event.timestamp for event in streams.read(G, S, offset=page.forward).events] == [10]
    assert [event.timestamp for event in streams.read(G, S, offset=page.backward, from_head=False).events] == list(
        range(7)
    )


def test_a_page_ends_at_its_bytes_but_holds_one_event(streams: LogStreams) -> None:
    streams.append(G, S, [record(number, b"x" * 74) for number in range(10)])
    assert len(streams.read(G, S, limit_bytes=250).events) == 2
    assert len(streams.read(G, S, limit_bytes=1).events) == 1
    assert [event.timestamp for event in streams.read(G, S, limit_bytes=250, from_head=False).events] == [8, 9]


def test_timestamps_never_go_back(streams: LogStreams) -> None:
    streams.append(G, S, [record(1, timestamp=10), record(2, timestamp=5)])
    streams.append(G, S, [record(3, timestamp=7)])
    LogStreams(streams._root).append(G, S, [record(4, timestamp=9), record(5, timestamp=11)])
    assert [event.timestamp for event in streams.read(G, S).events] == [10, 10, 10, 10, 11]


def test_reading_by_time_touches_little_of_a_long_file(streams: LogStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    for start in range(0, 100_000, 10_000):
        streams.append(G, S, [record(number, b"x" * 60) for number in range(start, start + 10_000)])
    real, touched = os.pread, []

    def counting(descriptor: int, size: int, offset: int) -> bytes:
        touched.append(len(found := real(descriptor, size, offset)))
        return found

    monkeypatch.setattr(os, "pread", counting)
    [event] = streams.read(G, S, start_ms=77_777, limit_events=1).events
    assert event.timestamp == 77_777
    assert sum(touched) < 500_000 < file_of(streams).stat().st_size


def test_a_million_lines_stay_flat_in_memory(streams: LogStreams) -> None:
    for start in range(0, 200_000, 20_000):
        streams.append(G, S, [record(number, b"x" * 40) for number in range(start, start + 20_000)])
    tracemalloc.start()
    assert sum(1 for _ in streams.read_all(G, S)) == 200_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000 < file_of(streams).stat().st_size
