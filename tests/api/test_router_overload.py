"""More requests than an instance can take: bounded waiting, a reason for who is refused, and no collapse."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sagewright.router import tokens
from support.router_bench import Bench, Conversation, Model, Received, eventually, one, running


class Slow:
    """Works on so many requests at once, each for so long."""

    def __init__(self, workers: int, seconds: float) -> None:
        self.seconds = seconds
        self.busy = self.most = 0
        self._workers = asyncio.Semaphore(workers)

    async def __call__(self, request: Received, conversation: Conversation) -> None:
        self.busy += 1
        self.most = max(self.most, self.busy)
        async with self._workers:
            await asyncio.sleep(self.seconds)
        self.busy -= 1
        await conversation.answer(request.body)


def call(bench: Bench, name: str) -> tuple[int, str]:
    """Status and message, on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=30)
    token = tokens.make(bench.keyring, name, None)
    connection.request("POST", f"/endpoints/{name}/invocations", b"x", {"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, "" if answer.status == 200 else json.loads(body)["Message"]


def test_the_queue_is_bounded_and_says_why(tmp_path: Path) -> None:
    gate = threading.Event()

    async def hold(request: Received, conversation: Conversation) -> None:
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 20)
        await conversation.answer(request.body)

    with running(Bench(tmp_path, max_concurrent=2, queue=3)) as bench, ThreadPoolExecutor(8) as pool:
        model = Model(hold)
        bench.put("bounded", one(model))
        first = [pool.submit(call, bench, "bounded") for _ in range(5)]
        eventually(lambda: bench.waiting("bounded") == 3, "full")
        eventually(lambda: len(model.requests) == 2, "two are under way")
        status, message = call(bench, "bounded")
        assert status == 429
        assert "2 requests are being answered and 3 are waiting" in message
        assert bench.client("sagemaker").describe_training_job(TrainingJobName="a")  # the control API is not stalled
        gate.set()
        assert [one_.result(20)[0] for one_ in first] == [200] * 5
        assert call(bench, "bounded")[0] == 200
        [tally] = bench.router.counters.take().values()
        assert (tally.invocations, tally.throttled) == (6, 1)
        model.close()


def test_waiting_has_a_limit(tmp_path: Path) -> None:
    gate = threading.Event()

    async def hold(request: Received, conversation: Conversation) -> None:
        await asyncio.get_running_loop().run_in_executor(None, gate.wait, 20)
        await conversation.answer(request.body)

    with running(Bench(tmp_path, max_concurrent=1, queue_wait=0.3)) as bench, ThreadPoolExecutor(4) as pool:
        model = Model(hold)
        bench.put("waiting", one(model))
        first = pool.submit(call, bench, "waiting")
        eventually(lambda: model.requests, "one is under way")
        status, message = call(bench, "waiting")
        assert status == 503
        assert "no instance was free within 0.3 seconds" in message
        gate.set()
        assert first.result(20)[0] == 200
        model.close()


def test_a_container_gets_no_more_at_once_than_the_setting_says(tmp_path: Path) -> None:
    with running(Bench(tmp_path, max_concurrent=4)) as bench, ThreadPoolExecutor(24) as pool:
        slow = Slow(4, 0.02)
        model = Model(slow)
        bench.put("few", one(model))
        found = Counter(status for status, _ in pool.map(lambda _: call(bench, "few"), range(96)))
        assert found == {200: 96}
        assert slow.most == 4
        model.close()


def test_the_least_loaded_instance_gets_the_next_request(tmp_path: Path) -> None:
    with running(Bench(tmp_path)) as bench, ThreadPoolExecutor(8) as pool:
        fast, slow = Model(Slow(8, 0.005)), Model(Slow(8, 0.4))
        bench.put("uneven", one(fast, slow))
        list(pool.map(lambda _: call(bench, "uneven"), range(120)))
        assert len(fast.requests) > 2 * len(slow.requests)
        assert slow.requests
        fast.close()
        slow.close()


def test_requests_that_run_out_of_time_do_not_bury_an_instance(tmp_path: Path) -> None:
    """A container that can do 20/s gets them at 3 times that rate with a time limit of half a second: without a window
    that closes, each request would wait for longer than its limit behind others that nobody waits for any more."""
    with running(Bench(tmp_path, model_time=0.5, queue=30, queue_wait=3.0)) as bench, ThreadPoolExecutor(60) as pool:
        model = Model(Slow(1, 0.05))
        bench.put("buried", one(model))
        end = time.monotonic() + 12
        good: list[float] = []

        def client(_: int) -> None:
            while time.monotonic() < end:
                if call(bench, "buried")[0] == 200:
                    good.append(time.monotonic())
                else:
                    time.sleep(0.1)  # a client that is refused comes back

        list(pool.map(client, range(60)))
        late = [moment for moment in good if moment > end - 4]
        assert len(late) > 40, f"{len(late)} good answers in the last 4 seconds, of 80 that were possible"
        assert bench.window(model) < 30
        model.close()
