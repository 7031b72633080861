"""Questions to gateways over real unix sockets: who answers, who is gone, who says no."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from sagewright.controllers import draining
from sagewright.controllers.controller import Drain
from sagewright.controllers.draining import Announcer, DrainWatch
from sagewright.core.ids import Key
from sagewright.store.changes import ChangeReceiver
from suites.hosting import endpoint_key

KEY = endpoint_key()
Gateway = Callable[[dict[str, Any], int], Awaitable[bytes]]


class Bench:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.woken: asyncio.Queue[Key] = asyncio.Queue()
        self.watch = DrainWatch(folder, self.woken.put_nowait)
        self.questions: list[dict[str, Any]] = []

    @asynccontextmanager
    async def gateway(self, name: str, answer: Gateway) -> AsyncIterator[None]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.questions.append(orjson.loads(await reader.readline()))
            writer.write(await answer(self.questions[-1], len(self.questions)))
            writer.close()

        server = await asyncio.start_unix_server(serve, self.folder / f"{name}.drain")
        try:
            yield
        finally:
            server.close()

    def ask(self) -> bool:
        return self.watch.follow("i1", Drain(KEY, 7))

    async def drained(self) -> None:
        async with asyncio.timeout(30):
            assert await self.woken.get() == KEY
        assert self.ask()


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    yield made
    await made.watch.aclose()


async def yes(question: dict[str, Any], number: int) -> bytes:
    return b'{"drained": true}\n'


async def test_without_gateways_there_is_nothing_to_wait_for(bench: Bench) -> None:
    assert not bench.ask()
    await bench.drained()


async def test_every_gateway_is_asked_and_all_must_agree(bench: Bench) -> None:
    last = asyncio.Event()

    async def later(question: dict[str, Any], number: int) -> bytes:
        await last.wait()
        return b'{"drained": true}\n'

    async with bench.gateway("1", yes), bench.gateway("2", later):
        assert not bench.ask()
        async with asyncio.timeout(30):
            while len(bench.questions) < 2:
                await asyncio.sleep(0.002)
        assert not bench.ask()
        last.set()
        await bench.drained()
    assert bench.questions[0] == {
        "account": KEY.account,
        "region": KEY.region,
        "endpoint": "e",
        "instance": "i1",
        "table_at_least": 7,
    }


async def test_a_gateway_that_says_no_is_asked_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draining, "_ASK_AGAIN", 0.01)

    async def no_at_first(question: dict[str, Any], number: int) -> bytes:
        return b'{"drained": false}\n' if number < 3 else b'{"drained": true}\n'

    async with bench.gateway("1", no_at_first):
        bench.ask()
        await bench.drained()
    assert len(bench.questions) == 3


async def test_a_gateway_that_is_gone_or_dies_does_not_count(bench: Bench) -> None:
    async def dies(question: dict[str, Any], number: int) -> bytes:
        return b""

    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(bench.folder / "0.drain"))
    stale.close()
    async with bench.gateway("1", dies):
        bench.ask()
        await bench.drained()


async def test_gateways_hear_of_changes_and_missing_ones_do_no_harm(tmp_path: Path) -> None:
    announce = Announcer(tmp_path)
    announce((KEY,))
    (tmp_path / "1.sock").touch()
    receiver = ChangeReceiver(tmp_path / "2.sock")
    announce((KEY,))
    async with asyncio.timeout(30):
        assert await anext(receiver) == KEY
    receiver.close()
