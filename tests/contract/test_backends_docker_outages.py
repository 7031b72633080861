"""The Docker backend through lost replies, cut connections, outages, and things that are no engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sagewright.backends.docker import engine as engine_module
from sagewright.backends.docker.backend import DockerBackend
from sagewright.core.errors import BackendUnavailable
from suites.backend_bench import (
    Exit,
    Mark,
    Print,
    PrintLines,
    WaitFor,
    exited,
    marked,
)
from suites.backend_log_suite import lines_of, next_of, records_of
from support.docker_bench import DockerBench
from support.images import need

pytestmark = pytest.mark.docker


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DockerBench]:
    need()
    bench = DockerBench(tmp_path)
    yield bench
    await bench.aclose()


@pytest.fixture
async def backend(bench: DockerBench) -> DockerBackend:
    return await bench.connect()


class TestInterruptions:
    async def test_a_submit_that_was_cut_before_the_start_is_absent_and_runs_once_when_repeated(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(Mark("runs"))
        bench.tunnel.refuse = b"/start"
        with pytest.raises(BackendUnavailable):
            await backend.submit(work)
        reborn = await bench.connect()
        assert await reborn.observe() == {}
        await reborn.submit(work)
        await exited(reborn, work.id)
        assert bench.marks("runs") == 1

    @pytest.mark.parametrize("request_part", [b"/containers/create", b"/start"])
    async def test_a_submit_whose_reply_was_lost_runs_once_when_repeated(
        self, bench: DockerBench, backend: DockerBackend, request_part: bytes
    ) -> None:
        work = bench.workload(Mark("runs"), WaitFor("gate"))
        bench.tunnel.lose_reply = request_part
        with pytest.raises(BackendUnavailable):
            await backend.submit(work)
        await backend.submit(work)
        await marked(bench, "runs")
        bench.open_gate("gate")
        await exited(backend, work.id)
        assert bench.marks("runs") == 1

    async def test_a_log_reader_lives_through_cut_connections(self, bench: DockerBench, backend: DockerBackend) -> None:
        work = bench.workload(PrintLines(3000), WaitFor("gate"), PrintLines(3000, "more "))
        await backend.submit(work)
        seen = []
        async for record in backend.logs(work.id):
            seen.append(record)
            if len(seen) in (1, 700, 2999, 3500):
                bench.tunnel.cut_connections()
            if len(seen) == 3000:
                bench.open_gate("gate")
        expected = [b"line %d" % each for each in range(3000)] + [b"more %d" % each for each in range(3000)]
        assert [record.message for record in seen] == expected
        assert await records_of(backend, work.id) == seen

    async def test_a_log_reader_in_an_outage_is_told_and_resumes(
        self, bench: DockerBench, backend: DockerBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sagewright.backends.docker.follow.PAUSES", (0.01,))
        work = bench.workload(Print(b"one\n"), WaitFor("gate"), Print(b"two\n"))
        await backend.submit(work)
        reading = backend.logs(work.id)
        first = await next_of(reading)
        async with bench.outage():
            with pytest.raises(BackendUnavailable):
                await next_of(reading)
        bench.open_gate("gate")
        assert await lines_of(backend, work.id, first.cursor) == [b"two"]

    async def test_a_silent_engine_is_unavailable(
        self, bench: DockerBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(engine_module, "ANSWER", 0.3)
        await self._all_verbs_are_unavailable(bench, tmp_path / "silent.sock", None)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops",
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: 17\r\n\r\n"
            b'{"message":"bad"}',
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{}",
            b"not HTTP at all\r\n\r\n",
            b"",
        ],
        ids=["502", "500", "html", "json", "cut", "garbage", "nothing"],
    )
    async def test_what_is_no_engine_is_unavailable(self, bench: DockerBench, tmp_path: Path, answer: bytes) -> None:
        await self._all_verbs_are_unavailable(bench, tmp_path / "odd.sock", answer)

    @staticmethod
    async def _all_verbs_are_unavailable(bench: DockerBench, path: Path, answer: bytes | None) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            if answer is None:
                await reader.read(1000)
            writer.write(answer or b"")
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        backend = DockerBackend("test", host=f"unix://{path}")
        work = bench.workload(Exit(0))
        calls = (backend.submit(work), backend.observe(), backend.stop(work.id), backend.remove(work.id))
        for call in calls:
            with pytest.raises(BackendUnavailable):
                await call
        with pytest.raises(BackendUnavailable):
            await next_of(backend.logs(work.id))
        described = await backend.describe()
        assert not described.available
        assert str(path) in described.problem
        await backend.aclose()
        server.close()
