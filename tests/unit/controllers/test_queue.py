"""The queue of keys, on a real event loop."""

from __future__ import annotations

import asyncio

import pytest

from sagewright.controllers.queue import KeyQueue
from suites.training import job_key

A, B = job_key("a"), job_key("b")


async def nothing(queue: KeyQueue) -> bool:
    """Whether nothing is handed out now."""
    taking = asyncio.ensure_future(queue.take())
    for _ in range(5):
        await asyncio.sleep(0)
    if taking.done():
        return False
    taking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await taking
    return True


async def test_a_key_is_in_the_queue_once() -> None:
    queue = KeyQueue()
    queue.add(A)
    queue.add(A)
    assert (len(queue), await queue.take()) == (1, A)
    queue.done(A)
    assert await nothing(queue)


async def test_a_key_that_is_out_is_not_handed_out_again_until_it_is_done() -> None:
    queue = KeyQueue()
    queue.add(A)
    await queue.take()
    queue.add(A)
    assert await nothing(queue)
    queue.done(A)
    assert await queue.take() == A


async def test_other_keys_go_on_meanwhile() -> None:
    queue = KeyQueue()
    queue.add(A)
    queue.add(B)
    assert [await queue.take(), await queue.take()] == [A, B]


async def test_the_earliest_time_wins() -> None:
    queue = KeyQueue()
    queue.add(A, 3600)
    queue.add(B, 3600)
    assert await nothing(queue)
    queue.add(B, 0)
    queue.add(B, 3600)
    assert await queue.take() == B
    queue.done(B)
    assert await nothing(queue)


async def test_a_delay_passes() -> None:
    queue = KeyQueue()
    queue.add(A, 0.01)
    async with asyncio.timeout(60):
        assert await queue.take() == A


async def test_a_key_added_while_somebody_waits_is_handed_out() -> None:
    queue = KeyQueue()
    queue.add(A, 3600)
    taking = asyncio.ensure_future(queue.take())
    await asyncio.sleep(0)
    queue.add(B)
    async with asyncio.timeout(60):
        assert await taking == B


async def test_a_delay_asked_for_while_out_is_kept() -> None:
    queue = KeyQueue()
    queue.add(A)
    await queue.take()
    queue.add(A, 0.01)
    queue.done(A)
    async with asyncio.timeout(60):
        assert await queue.take() == A
