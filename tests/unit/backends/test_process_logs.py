"""The log reader alone, on files written as programs write them: any pieces, any restarts, any clock."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.backends.process import logs
from sagewright.backends.process.records import Record
from sagewright.workloads.backend import LogCursor, LogRecord

MOST = 1024 * 1024


def ended(folder: Path, content: bytes) -> Record:
    folder.mkdir(exist_ok=True)
    (folder / "log").write_bytes(content)
    end(folder)
    return Record(folder, {})


def end(folder: Path) -> None:
    (folder / "exit.json").write_text(json.dumps({"cause": "exit", "exit_code": 0, "ended_at": 1.0}))


async def read(record: Record, after: LogCursor | None = None) -> list[LogRecord]:
    async with asyncio.timeout(30):
        return [line async for line in logs.follow(record, after)]


@settings(max_examples=60, deadline=None)
@given(
    content=st.lists(st.sampled_from([b"\n", b"\r", b"a", b"long line ", b"\0", b"\xff"]), max_size=40).map(b"".join),
    resume=st.integers(min_value=0, max_value=40),
)
def test_any_content_comes_whole_and_once_wherever_the_reader_is_cut(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, resume: int
) -> None:
    record = ended(tmp_path_factory.mktemp("log") / "record", content)
    whole = asyncio.run(read(record))
    lines = content.split(b"\n")
    assert [line.message for line in whole] == (lines if lines[-1] else lines[:-1])
    if whole:
        position = resume % len(whole)
        assert asyncio.run(read(record, whole[position].cursor)) == whole[position + 1 :]


@pytest.mark.parametrize("size", [MOST - 1, MOST, MOST + 1, 2 * MOST, 2 * MOST + 1, 5 * MOST + 7])
@pytest.mark.parametrize("tail", [b"", b"\n", b"\nafter\n"])
async def test_a_line_beyond_all_bounds_comes_in_pieces_that_are_the_same_for_every_reader(
    tmp_path: Path, size: int, tail: bytes
) -> None:
    record = ended(tmp_path / "record", b"before\n" + b"x" * size + tail)
    whole = await read(record)
    pieces = [len(line.message) for line in whole[1:] if line.message.startswith(b"x")]
    assert sum(pieces) == size
    assert pieces == [MOST] * ((size - 1) // MOST) + [(size - 1) % MOST + 1]
    assert len(whole) == 1 + len(pieces) + (tail == b"\nafter\n")
    for position, line in enumerate(whole):
        assert await read(record, line.cursor) == whole[position + 1 :]


async def test_a_growing_file_read_by_readers_cut_at_random_loses_and_doubles_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    lines = [b"line %d %s" % (number, b"." * chance.randrange(200)) for number in range(3000)]
    folder = tmp_path / "record"
    folder.mkdir()
    (folder / "log").touch()
    alive = json.dumps([os.getpid(), _own_start(), _boot()])
    (folder / "runner").write_text(alive)
    record = Record(folder, {})

    async def write() -> None:
        content = b"\n".join(lines)
        with (folder / "log").open("ab", buffering=0) as log:
            while content:
                size = chance.randrange(1, 5000)
                log.write(content[:size])
                content = content[size:]
                await asyncio.sleep(0)
        end(folder)

    writing = asyncio.create_task(write())
    seen: list[LogRecord] = []
    async with asyncio.timeout(60):
        while len(seen) < len(lines):
            reading = logs.follow(record, seen[-1].cursor if seen else None)
            async for line in reading:
                seen.append(line)
                if chance.random() < 0.01:
                    break
            await reading.aclose()  # an async generator
    await writing
    assert [line.message for line in seen] == lines
    times = [line.timestamp for line in seen]
    assert times == sorted(times)


def _own_start() -> int:
    from sagewright.backends.process.runner.processes import start_time

    start = start_time(os.getpid())
    assert start
    return start


def _boot() -> str:
    from sagewright.backends.process.runner.processes import boot_id

    return boot_id()


async def test_times_never_go_backwards_for_a_resumed_reader_whose_clock_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = ended(tmp_path / "record", b"one\ntwo\n")
    first = (await read(record))[0]
    real = time.time()
    monkeypatch.setattr(time, "time", lambda: real - 3600)
    later = await read(record, first.cursor)
    assert later[0].timestamp >= first.timestamp


async def test_lines_written_while_nobody_read_are_not_dated_now(tmp_path: Path) -> None:
    record = ended(tmp_path / "record", b"one\n")
    hour_ago = time.time() - 3600
    os.utime(record.file("log"), (hour_ago, hour_ago))
    assert (await read(record))[0].timestamp == int(hour_ago * 1000)
