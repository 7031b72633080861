"""Log streams when writers die, disks fill up, and many write, read and remove at once."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path

import pytest

from sagewright.blobs.streams import LogStreams, StreamRecord
from sagewright.core.errors import BlobStoreFull
from support.small_disk import fill, small_disk

G, S = "/aws/sagemaker/TrainingJobs", "job/algo-1-170"


@pytest.fixture
def streams(tmp_path: Path) -> LogStreams:
    return LogStreams(tmp_path / "streams")


def record(number: int, message: bytes | None = None) -> StreamRecord:
    return StreamRecord(f"c{number}", number, f"line {number}".encode() if message is None else message)


def messages(streams: LogStreams) -> list[bytes]:
    return [event.message for event in streams.read(G, S).events]


def file_of(streams: LogStreams) -> Path:
    return streams._path(G, S)


@pytest.mark.parametrize("torn", [b"c", b"c9 9", b"c9 9 half a li", b"x" * 300_000])
def test_a_torn_line_is_never_seen_and_is_cut_off_before_going_on(streams: LogStreams, torn: bytes) -> None:
    streams.append(G, S, [record(1), record(2)])
    whole = file_of(streams).stat().st_size
    with file_of(streams).open("ab") as file:
        file.write(torn)
    assert messages(streams) == [b"line 1", b"line 2"]
    assert streams.tail(G, S, 1) == [b"line 2"]
    assert streams.last_cursor(G, S) == "c2"
    assert file_of(streams).stat().st_size == whole
    with file_of(streams).open("ab") as file:
        file.write(torn)
    streams.append(G, S, [record(3)])
    assert messages(streams) == [b"line 1", b"line 2", b"line 3"]


def test_a_stream_of_nothing_but_a_torn_line_is_empty(streams: LogStreams) -> None:
    streams.append(G, S, [])
    file_of(streams).write_bytes(b"c1 1 hal")
    assert messages(streams) == []
    assert streams.last_cursor(G, S) is None
    assert file_of(streams).stat().st_size == 0


def test_blocks_that_never_reached_the_disk_are_cut_off(streams: LogStreams) -> None:
    streams.append(G, S, [record(1)])
    with file_of(streams).open("ab") as file:
        file.write(b"\0" * 5000 + b"\n" + b"\0" * 100)
    assert messages(streams) == [b"line 1"]
    assert streams.last_cursor(G, S) == "c1"
    streams.append(G, S, [record(2)])
    assert file_of(streams).read_bytes() == b"c1 1 line 1\nc2 2 line 2\n"


COPIER = """
import sys
from pathlib import Path
from sagewright.blobs.streams import LogStreams, StreamRecord
streams = LogStreams(Path(sys.argv[1]))
G, S = "/aws/sagemaker/TrainingJobs", "job/algo-1-170"
last = streams.last_cursor(G, S)
start = int(last[1:]) + 1 if last else 0
print("from", start, flush=True)
for first in range(start, 200_000, 50):
    batch = [StreamRecord(f"c{n}", n, b"line %d " % n + b"x" * (n % 700)) for n in range(first, first + 50)]
    streams.append(G, S, batch)
    print(flush=True)
"""


def test_a_copier_that_is_killed_again_and_again_keeps_every_line_once(streams: LogStreams) -> None:
    for life in range(6):
        command = [sys.executable, "-c", COPIER, str(streams._root)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(3 + 11 * life):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
    numbers = [int(event.message.split()[1]) for event in streams.read_all(G, S)]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 1000
    assert streams.last_cursor(G, S) == f"c{len(numbers) - 1}"


def test_a_full_disk_keeps_what_was_there_and_takes_the_lines_later(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        streams = LogStreams(disk)
        streams.append(G, S, [record(1)])
        ballast = fill(disk, leave=20_000)
        with pytest.raises(BlobStoreFull, match="No space"):
            streams.append(G, S, [record(2, b"x" * 100_000)])
        assert messages(streams) == [b"line 1"]
        assert streams.last_cursor(G, S) == "c1"
        ballast.unlink()
        streams.append(G, S, [record(2)], durable=True)
        assert messages(streams) == [b"line 1", b"line 2"]


# -- several at once


def test_readers_never_see_half_a_line_while_it_is_written(streams: LogStreams) -> None:
    streams.append(G, S, [])
    done = threading.Event()

    def write() -> None:
        for number in range(0, 4000, 20):
            streams.append(G, S, [record(n, b"%d " % n + b"y" * 900 + b" end") for n in range(number, number + 20)])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    offset, seen = 0, 0
    while not (done.is_set() and seen == 4000):
        page = streams.read(G, S, offset=offset)
        for event in page.events:
            assert event.message.startswith(b"%d y" % seen)
            assert event.message.endswith(b"y end")
            seen += 1
        offset = page.forward
    writer.join()


def test_writers_of_one_stream_keep_their_lines_whole_and_the_times_in_order(streams: LogStreams) -> None:
    others = [streams, LogStreams(streams._root), LogStreams(streams._root)]

    def write(which: int) -> None:
        for number in range(100):
            others[which].append(G, S, [StreamRecord("-", number * 3 - which, b"%d:%d" % (which, number))])

    threads = [threading.Thread(target=write, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = streams.read(G, S).events
    assert sorted(event.message for event in events) == sorted(b"%d:%d" % (w, n) for w in range(3) for n in range(100))
    assert all(one.timestamp <= other.timestamp for one, other in pairwise(events))


def test_appending_to_a_stream_that_is_being_removed_loses_no_line_written_after(streams: LogStreams) -> None:
    def remove() -> None:
        for _ in range(200):
            streams.remove(G, S)

    remover = threading.Thread(target=remove)
    remover.start()
    for number in range(200):
        streams.append(G, S, [record(number)])
    remover.join()
    streams.append(G, S, [record(1000)])
    assert streams.tail(G, S, 1) == [b"line 1000"]


def test_groups_come_and_go_under_writers_without_an_error(streams: LogStreams) -> None:
    failed: list[BaseException] = []

    def write(which: int) -> None:
        try:
            for number in range(150):
                streams.append(G, f"job-{which}/deep/er", [record(number)])
                streams.remove(G, f"job-{which}/deep/er")
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(which,)) for which in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        streams.remove_group(G)
    assert failed == []
