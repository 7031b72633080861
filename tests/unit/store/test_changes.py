"""Change hints: they arrive, and nothing that goes wrong with them hurts anyone."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sagewright.core.ids import Key
from sagewright.store.changes import ChangeReceiver, ChangeSender
from sagewright.store.db import Database
from suites.store_suite import add, key


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "changes.sock"


@pytest.fixture
async def receiver(path: Path) -> AsyncIterator[ChangeReceiver]:
    made = ChangeReceiver(path)
    yield made
    made.close()


async def take(receiver: ChangeReceiver, number: int) -> list[Key]:
    return [await asyncio.wait_for(anext(receiver), 10) for _ in range(number)]


async def test_a_commit_in_another_process_is_heard(receiver: ChangeReceiver, path: Path, tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from datetime import UTC, datetime\n"
        "from sagewright.core.ids import *\n"
        "from sagewright.store.changes import ChangeSender\n"
        "from sagewright.store.db import Database\n"
        "store = Database.open(sys.argv[1], listener=ChangeSender(Path(sys.argv[2])))\n"
        "key = Key(Kind('training-job'), Account('000000000000'), Region('us-east-1'), ResourceName('a'))\n"
        "store.write(lambda tx: tx.insert(key, {}, {}, 'X', now=datetime.now(UTC), wake=True))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "rows.db"), str(path)])
    assert await asyncio.wait_for(anext(receiver), 30) == key("a")
    assert process.wait(30) == 0


async def test_many_keys_of_one_commit_arrive(receiver: ChangeReceiver, path: Path) -> None:
    keys = [key(f"{number}-" + "x" * 50) for number in range(2000)]
    sender = ChangeSender(path)
    sender.send(keys[:1000])
    assert await take(receiver, 1000) == keys[:1000]
    sender.send(keys[1000:])
    assert await take(receiver, 1000) == keys[1000:]
    sender.close()


async def test_a_key_that_waits_already_is_not_queued_again(receiver: ChangeReceiver, path: Path) -> None:
    sender = ChangeSender(path)
    for name in ("a", "b", "a", "c"):
        sender.send([key(name)])
    assert await take(receiver, 3) == [key("a"), key("b"), key("c")]
    sender.close()


async def test_garbage_is_ignored(receiver: ChangeReceiver, path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as raw:
        for garbage in (b"", b"\xff\xfe", b"{}", b"[1,2]", b"5", b"null", b'["a"', b"\n\n", b"x" * 100_000):
            raw.sendto(garbage, str(path))
    sender = ChangeSender(path)
    sender.send([key("a")])
    assert await take(receiver, 1) == [key("a")]
    sender.close()


async def test_a_sender_without_a_receiver_does_not_care(path: Path, tmp_path: Path) -> None:
    sender = ChangeSender(path)
    store = Database.open(tmp_path / "rows.db", listener=sender)
    add(store, "a", wake=True)
    path.write_text("not a socket")
    add(store, "b", wake=True)
    path.unlink()
    receiver = ChangeReceiver(path)
    add(store, "c", wake=True)
    assert await take(receiver, 1) == [key("c")]
    receiver.close()
    assert not path.exists()
    add(store, "d", wake=True)
    store.close()
    sender.close()


async def test_a_receiver_that_does_not_read_never_blocks_the_sender(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(str(path))
        sender = ChangeSender(path)
        for number in range(5000):
            sender.send([key(f"j{number}")])
        sender.close()


async def test_the_latest_receiver_takes_over_and_the_older_one_does_not_remove_its_socket(path: Path) -> None:
    older = ChangeReceiver(path)
    newer = ChangeReceiver(path)
    older.close()
    sender = ChangeSender(path)
    sender.send([key("a")])
    assert await take(newer, 1) == [key("a")]
    newer.close()
    newer.close()
    sender.close()


async def test_iteration_ends_when_it_is_closed(receiver: ChangeReceiver) -> None:
    async def collect() -> list[Key]:
        return [each async for each in receiver]

    task = asyncio.create_task(collect())
    await asyncio.sleep(0)
    receiver.close()
    assert await asyncio.wait_for(task, 10) == []


async def test_the_socket_may_lie_deeper_than_an_address_is_long(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 20) / ("deeper" * 20)
    folder.mkdir(parents=True)
    receiver, sender = ChangeReceiver(folder / "changes.sock"), ChangeSender(folder / "changes.sock")
    sender.send([key("a")])
    assert await take(receiver, 1) == [key("a")]
    receiver.close()
    sender.close()
