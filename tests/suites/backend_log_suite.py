"""The log part of the backend contract: every line from the first byte, in order, exactly once, resumable anywhere."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import ComputeBackend, LogCursor, LogRecord
from suites.backend_bench import (
    PATIENCE,
    Bench,
    Exit,
    IgnoreTerm,
    Mark,
    Print,
    PrintLines,
    PrintLong,
    WaitFor,
    exited,
    marked,
)

BINARY = bytes(byte for byte in range(256) if byte not in b"\n")


async def records_of(backend: ComputeBackend, workload: WorkloadId, after: LogCursor | None = None) -> list[LogRecord]:
    """All records until the reader is told that there will be no more."""
    async with asyncio.timeout(PATIENCE):
        return [record async for record in backend.logs(workload, after=after)]


async def lines_of(backend: ComputeBackend, workload: WorkloadId, after: LogCursor | None = None) -> list[bytes]:
    return [record.message for record in await records_of(backend, workload, after)]


async def next_of(records: AsyncIterator[LogRecord]) -> LogRecord:
    async with asyncio.timeout(PATIENCE):
        return await anext(records)


class BackendLogSuite:
    async def test_lines_come_in_order_with_plausible_times(self, bench: Bench, backend: ComputeBackend) -> None:
        before = int(time.time() * 1000) - 2000
        work = bench.workload(Print(b"one\ntwo\n\n  three \n"), Print(b"four\n"))
        await backend.submit(work)
        records = await records_of(backend, work.id)
        assert [record.message for record in records] == [b"one", b"two", b"", b"  three ", b"four"]
        times = [record.timestamp for record in records]
        assert times == sorted(times)
        assert before <= times[0]
        assert times[-1] <= int(time.time() * 1000) + 2000

    async def test_both_streams_are_merged_in_order(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(
            Print(b"to stdout\n"), WaitFor("1"), Print(b"to stderr\n", stderr=True), WaitFor("2"), Print(b"again\n")
        )
        await backend.submit(work)
        reading = backend.logs(work.id)
        seen = [(await next_of(reading)).message]
        bench.open_gate("1")
        seen.append((await next_of(reading)).message)
        bench.open_gate("2")
        seen += [record.message async for record in reading]
        assert seen == [b"to stdout", b"to stderr", b"again"]
        assert await lines_of(backend, work.id) == seen

    async def test_lines_are_given_while_the_program_runs(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(Print(b"first\n"), WaitFor("gate"), Print(b"last\n"))
        await backend.submit(work)
        reading = backend.logs(work.id)
        assert (await next_of(reading)).message == b"first"
        bench.open_gate("gate")
        assert [record.message async for record in reading] == [b"last"]

    @pytest.mark.parametrize(
        ("written", "lines"),
        [
            (b"no line feed", [b"no line feed"]),
            (b"one\nno line feed", [b"one", b"no line feed"]),
            (b"\n\n", [b"", b""]),
            (b"", []),
            (b"10%\r50%\r100%\ndone\r\n", [b"10%\r50%\r100%", b"done\r"]),
            (b"\ttab \x1b[31mred\x1b[0m\n", [b"\ttab \x1b[31mred\x1b[0m"]),
            ("grüße ☃\n".encode(), ["grüße ☃".encode()]),
            (BINARY + b"\n" + BINARY[::-1], [BINARY, BINARY[::-1]]),
        ],
        ids=["cut", "cut-after-a-line", "empty-lines", "nothing", "progress-bar", "colours", "unicode", "binary"],
    )
    async def test_bytes_arrive_as_they_were_written(
        self, bench: Bench, backend: ComputeBackend, written: bytes, lines: list[bytes]
    ) -> None:
        work = bench.workload(Print(written))
        await backend.submit(work)
        await exited(backend, work.id)
        assert await lines_of(backend, work.id) == lines

    @pytest.mark.parametrize("size", [16383, 16384, 16385, 32768, 100_000, 1_000_000])
    async def test_a_long_line_is_one_record(self, bench: Bench, backend: ComputeBackend, size: int) -> None:
        work = bench.workload(Print(b"before\n"), PrintLong(size), Print(b"after\n"))
        await backend.submit(work)
        records = await records_of(backend, work.id)
        assert [len(record.message) for record in records] == [6, size, 5]
        assert await lines_of(backend, work.id, records[0].cursor) == [b"x" * size, b"after"]
        assert await lines_of(backend, work.id, records[1].cursor) == [b"after"]

    async def test_five_thousand_quick_lines_are_all_there_for_every_reader(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(PrintLines(5000))
        await backend.submit(work)
        expected = [b"line %d" % number for number in range(5000)]
        live, second = await asyncio.gather(lines_of(backend, work.id), lines_of(backend, work.id))
        assert live == second == expected
        await exited(backend, work.id)
        assert await lines_of(backend, work.id) == expected

    async def test_resuming_after_any_record_gives_exactly_the_rest(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(PrintLines(300), Print(b"same\nsame\nsame\nend"))
        await backend.submit(work)
        await exited(backend, work.id)
        records = await records_of(backend, work.id)
        assert len(records) == 304
        assert not any(re.search(r"\s", record.cursor) for record in records)
        reborn = await bench.connect()
        for position in [0, 1, 7, 150, *range(290, 304)]:
            rest = await records_of(reborn, work.id, records[position].cursor)
            assert rest == records[position + 1 :]

    async def test_a_reader_that_is_cut_again_and_again_loses_and_doubles_nothing(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(PrintLines(400), Mark("half"), WaitFor("gate"), PrintLines(400, "more "))
        await backend.submit(work)
        seen: list[LogRecord] = []
        while len(seen) < 400:
            await self._read_some(await bench.connect(), work.id, seen, min(90, 400 - len(seen)))
        await marked(bench, "half")
        bench.open_gate("gate")
        while len(seen) < 800:
            await self._read_some(backend, work.id, seen, min(90, 800 - len(seen)))
        expected = [b"line %d" % number for number in range(400)] + [b"more %d" % number for number in range(400)]
        assert [record.message for record in seen] == expected
        await exited(backend, work.id)
        assert await records_of(backend, work.id, seen[-1].cursor) == []

    @staticmethod
    async def _read_some(backend: ComputeBackend, workload: WorkloadId, seen: list[LogRecord], count: int) -> None:
        reading = backend.logs(workload, after=seen[-1].cursor if seen else None)
        for _ in range(count):
            seen.append(await next_of(reading))
        await reading.aclose()  # every backend's reader is an async generator

    async def test_logs_stay_readable_after_the_end_and_end_at_once_when_unknown(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Print(b"x\n"), Exit(1))
        await backend.submit(work)
        await exited(backend, work.id)
        assert await lines_of(backend, work.id) == [b"x"]
        assert await lines_of(await bench.connect(), work.id) == [b"x"]
        assert await lines_of(backend, WorkloadId("sagewright-test-never-submitted")) == []

    async def test_a_reader_of_a_removed_workload_comes_to_an_end(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(IgnoreTerm(), Print(b"up\n"), WaitFor("never"))
        await backend.submit(work)
        reading = backend.logs(work.id)
        assert (await next_of(reading)).message == b"up"
        await backend.remove(work.id)
        async with asyncio.timeout(PATIENCE):
            assert [record async for record in reading] == []

    async def test_what_a_killed_program_had_written_is_kept(self, bench: Bench, backend: ComputeBackend) -> None:
        written = Print(b"complete\nhalf a li")
        work = bench.workload(IgnoreTerm(), written, Mark("up"), WaitFor("never"), stop_grace=timedelta(0))
        await backend.submit(work)
        await marked(bench, "up")
        await backend.stop(work.id)
        assert (await exited(backend, work.id)).exit_code == 137
        assert await lines_of(backend, work.id) == [b"complete", b"half a li"]
