"""Pings against real servers on real sockets: what counts as healthy, how often, what is told of a failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from sagewright.controllers import health as module
from sagewright.controllers.controller import Health
from sagewright.controllers.health import HealthWatch
from sagewright.core.clock import SystemClock
from sagewright.core.ids import WorkloadId

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
ONE = WorkloadId("one")


class Bench:
    def __init__(self) -> None:
        self.woken: asyncio.Queue[WorkloadId] = asyncio.Queue()
        self.watch = HealthWatch(SystemClock(), self.woken.put_nowait)
        self.requests: list[bytes] = []

    @asynccontextmanager
    async def server(self, answer: Answer, port: int = 0) -> AsyncIterator[str]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                self.requests.append(await reader.readuntil(b"\r\n\r\n"))
                await answer(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", port)
        try:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()

    async def until(self, holds: Callable[[Health], bool]) -> Health:
        async with asyncio.timeout(30):
            while (found := self.watch.state(ONE)) is None or not holds(found):
                await asyncio.sleep(0.005)
        return found


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.watch.aclose()


def says(*pieces: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_200_is_a_success_and_the_first_one_wakes(bench: Bench) -> None:
    async with bench.server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as address:
        assert bench.watch.state(ONE) is None
        bench.watch.follow(ONE, address, eager=True)
        async with asyncio.timeout(30):
            assert await bench.woken.get() == ONE
        found = await bench.until(lambda health: health.successes >= 3)
        assert found.failures == 0
        assert bench.woken.empty()
    assert bench.requests[0].startswith(b"GET /ping HTTP/1.1\r\n")
    assert b"User-Agent: AHC/2.0\r\n" in bench.requests[0]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.0 200 fine\r\n\r\n",),
        (b"HTTP/1.1 200\r\n\r\nbody that goes on and on",),
        (b"HTTP/1.1 20", b"0 OK\r\nX: y\r\n", b"\r\n"),
    ],
)
async def test_every_form_of_a_200_counts(bench: Bench, pieces: tuple[bytes, ...]) -> None:
    async with bench.server(says(*pieces)) as address:
        bench.watch.follow(ONE, address, eager=True)
        await bench.until(lambda health: health.successes > 0)


@pytest.mark.parametrize(
    ("pieces", "status", "error", "body"),
    [
        ((b"HTTP/1.1 503 no\r\n\r\nloading the model",), 503, "", "loading the model"),
        ((b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",), 404, "", ""),
        ((b"HTTP/1.1 204 No Content\r\n\r\n",), 204, "", ""),
        ((b"SSH-2.0-OpenSSH\r\n\r\n",), None, "the answer is not HTTP", ""),
        ((b"HTTP/1.1 abc\r\n\r\n",), None, "the answer is not HTTP", ""),
        ((b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,), None, "the answer is not HTTP", ""),
        ((), None, "the connection was closed without an answer", ""),
    ],
)
async def test_everything_else_is_a_miss_that_is_told(
    bench: Bench, pieces: tuple[bytes, ...], status: int | None, error: str, body: str
) -> None:
    async with bench.server(says(*pieces)) as address:
        bench.watch.follow(ONE, address, eager=True)
        found = await bench.until(lambda health: health.failures >= 3)
        told = found.transcript[-1]
        assert (told.status, told.error, told.body) == (status, error, body)
        assert bench.woken.qsize() == 1


async def test_a_server_that_does_not_answer_in_time_misses(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ANSWER", 0.2)
    async with bench.server(silent) as address:
        bench.watch.follow(ONE, address, eager=True)
        found = await bench.until(lambda health: health.failures >= 1)
        assert found.transcript[0].error == "no answer within 0.2 s"
        bench.watch.release(ONE)


async def test_nobody_listening_is_told_and_recovery_wakes_again(bench: Bench) -> None:
    async with bench.server(silent) as address:
        pass
    bench.watch.follow(ONE, address, eager=True)
    found = await bench.until(lambda health: health.failures >= 3)
    assert found.transcript[-1].error == "connection refused"
    async with asyncio.timeout(30):
        await bench.woken.get()
        async with bench.server(says(b"HTTP/1.1 200 OK\r\n\r\n"), int(address.rpartition(":")[2])):
            await bench.woken.get()
    found = bench.watch.state(ONE)
    assert found.transcript[-1].status == 200


async def test_what_has_answered_is_left_in_peace(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ping may run a sample through a model: eagerness is for those that do not answer yet."""
    monkeypatch.setattr(module, "_PATIENT", 3600.0)
    async with bench.server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as address:
        bench.watch.follow(ONE, address, eager=True)
        await bench.until(lambda health: health.successes > 0)
        await asyncio.sleep(0.5)
        assert len(bench.requests) == 1


async def test_another_address_is_another_container(bench: Bench) -> None:
    async with bench.server(says(b"HTTP/1.1 200 OK\r\n\r\n")) as good, bench.server(says()) as bad:
        bench.watch.follow(ONE, good, eager=True)
        await bench.until(lambda health: health.successes > 0)
        bench.watch.follow(ONE, bad, eager=True)
        assert bench.watch.state(ONE) is None
        await bench.until(lambda health: health.failures > 0)


async def test_a_transcript_keeps_the_last_pings_only(bench: Bench) -> None:
    async with bench.server(says(b"HTTP/1.1 500 no\r\n\r\n")) as address:
        bench.watch.follow(ONE, address, eager=True)
        found = await bench.until(lambda health: health.failures > module.TRANSCRIPT)
        assert len(found.transcript) == module.TRANSCRIPT


async def test_what_is_released_is_not_pinged_any_more(bench: Bench) -> None:
    async with bench.server(says(b"HTTP/1.1 200 OK\r\n\r\n")) as address:
        bench.watch.follow(ONE, address, eager=True)
        await bench.until(lambda health: health.successes > 0)
        bench.watch.release(ONE)
        bench.watch.release(ONE)
        assert bench.watch.state(ONE) is None
