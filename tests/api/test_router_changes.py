"""Nothing is lost or failed while endpoints change under constant load from several clients."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.ids import Key
from sagewright.store.changes import ChangeSender
from sagewright.store.kinds import endpoint
from support.router_bench import (
    Bench,
    Conversation,
    Fleeted,
    Model,
    Received,
    eventually,
    instance_id,
    one,
    running,
    saying,
)

_SERVER = """
import http.server, os, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.01)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 64
server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with running(Bench(tmp_path)) as made:
        yield made


class Load:
    """Clients that call without a pause, and without retries, until they are told to stop."""

    def __init__(self, bench: Bench, name: str, clients: int = 4) -> None:
        self.answers: Counter[bytes] = Counter()
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(bench.client(), name)) for _ in range(clients)]

    def _call(self, client: Any, name: str) -> None:
        while not self._stop.is_set():
            try:
                self.answers[client.invoke_endpoint(EndpointName=name, Body=b"x")["Body"].read()] += 1
            except Exception as error:
                self.failures.append(str(error))

    @contextmanager
    def applied(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join(30)

    def wait_for(self, more: int) -> None:
        """So many more answers."""
        wanted = sum(self.answers.values()) + more
        eventually(lambda: sum(self.answers.values()) >= wanted or self.failures, "the load goes on", 60)


def ask(bench: Bench, name: str, instance: str, version: int) -> dict[str, Any]:
    """What the controller does before it stops an instance."""
    path = bench.settings.data.gateways / f"{os.getpid()}.drain"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(str(path))
        question = {"endpoint": name, "region": "us-east-1", "instance": instance, "table_at_least": version}
        connection.sendall(json.dumps(question).encode() + b"\n")
        answer: dict[str, Any] = json.loads(connection.recv(1000))
        return answer


def slowly(name: bytes, seconds: float = 0.005) -> Any:
    async def behave(_request: Received, conversation: Conversation) -> None:
        await asyncio.sleep(seconds)
        await conversation.answer(name)

    return behave


def test_blue_green_again_and_again(bench: Bench) -> None:
    """The new fleet takes over in one swap; the old one is drained, then really stopped."""
    current = [Model(slowly(b"0")), Model(slowly(b"0"))]
    bench.put("blue-green", one(*current))
    with Load(bench, "blue-green").applied() as load:
        for number in range(1, 6):
            load.wait_for(40)
            new = [Model(slowly(b"%d" % number)), Model(slowly(b"%d" % number))]
            version = bench.put("blue-green", one(*new))
            for model in current:
                assert ask(bench, "blue-green", instance_id(model), version) == {"drained": True}
                model.close()
            current = new
        load.wait_for(40)
    assert not load.failures
    assert set(load.answers) == {b"%d" % number for number in range(6)}
    for model in current:
        model.close()


def test_scaling_in_and_out_with_draining(bench: Bench) -> None:
    models = [Model(slowly(b"a")) for _ in range(4)]
    bench.put("scaled", one(*models))
    with Load(bench, "scaled").applied() as load:
        for keep in (1, 3, 2, 4):
            load.wait_for(30)
            phases = {instance_id(model): endpoint.DRAINING for model in models[keep:]}
            version = bench.put("scaled", one(*models, phases=phases))
            for model in models[keep:]:
                assert ask(bench, "scaled", instance_id(model), version) == {"drained": True}
                before = len(model.requests)
                load.wait_for(10)
                assert len(model.requests) == before, "a drained instance got a request"
    assert not load.failures
    for model in models:
        model.close()


def test_one_of_two_instances_is_killed(bench: Bench) -> None:
    """With requests under way in it, without a word to anybody, several times."""
    started = [_start() for _ in range(2)]
    processes, ports = [process for process, _ in started], [port for _, port in started]

    def put() -> None:
        bench.put("killed", Fleeted(instances={f"p{port}": {"primary": f"127.0.0.1:{port}"} for port in ports}))

    put()
    try:
        with Load(bench, "killed", clients=6).applied() as load:
            for number in range(4):
                load.wait_for(60)
                victim = processes[number % 2]
                victim.send_signal(signal.SIGKILL)
                victim.wait(10)
                load.wait_for(60)
                processes[number % 2], ports[number % 2] = _start()
                put()
        assert not load.failures
    finally:
        for process in processes:
            process.kill()
            process.wait(10)


def _start() -> tuple[subprocess.Popen[bytes], int]:
    """A model server in a process of its own, and its port."""
    process = subprocess.Popen([sys.executable, "-c", _SERVER], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as told:
        return process, int(told.readline())


def test_the_answer_to_draining_waits_for_what_is_under_way(bench: Bench) -> None:
    begun, release = threading.Event(), threading.Event()

    async def hold(_request: Received, conversation: Conversation) -> None:
        begun.set()
        await asyncio.get_running_loop().run_in_executor(None, release.wait, 20)
        await conversation.answer(b"late")

    old, new = Model(hold), Model(saying(b"new"))
    try:
        bench.put("draining", one(old))
        answers: list[bytes] = []
        client = bench.client()
        caller = threading.Thread(
            target=lambda: answers.append(client.invoke_endpoint(EndpointName="draining", Body=b"x")["Body"].read())
        )
        caller.start()
        assert begun.wait(10)
        version = bench.put("draining", one(new))
        told: list[Any] = []
        asker = threading.Thread(target=lambda: told.append(ask(bench, "draining", instance_id(old), version)))
        asker.start()
        assert bench.client().invoke_endpoint(EndpointName="draining", Body=b"x")["Body"].read() == b"new"
        asker.join(0.3)
        assert not told, "drained, with a request under way"
        release.set()
        asker.join(10)
        caller.join(10)
        assert told == [{"drained": True}]
        assert answers == [b"late"]
    finally:
        old.close()
        new.close()


def test_an_instance_that_is_still_routable_is_not_drained(bench: Bench) -> None:
    model = Model()
    try:
        version = bench.put("busy", one(model))
        assert ask(bench, "busy", instance_id(model), version) == {"drained": False}
        assert ask(bench, "busy", "never-heard-of", version) == {"drained": True}
    finally:
        model.close()


def test_garbage_on_the_drain_socket_harms_nobody(bench: Bench) -> None:
    path = bench.settings.data.gateways / f"{os.getpid()}.drain"
    for garbage in (b"garbage\n", b"[]\n", b"{}\n", b"x" * 200_000):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(path))
            with pytest.MonkeyPatch.context():
                try:
                    connection.sendall(garbage)
                    connection.shutdown(socket.SHUT_WR)
                    assert connection.recv(1000) == b""
                except ConnectionError:
                    pass
    assert ask(bench, "any", "any", 0) == {"drained": True}


def test_a_datagram_makes_the_table_new_at_once(tmp_path: Path) -> None:
    with running(Bench(tmp_path, refresh=3600.0)) as bench:
        first, second = Model(saying(b"1")), Model(saying(b"2"))
        bench.put("hinted", one(first))
        client = bench.client()
        assert client.invoke_endpoint(EndpointName="hinted", Body=b"x")["Body"].read() == b"1"
        bench.put("hinted", one(second))
        assert client.invoke_endpoint(EndpointName="hinted", Body=b"x")["Body"].read() == b"1"  # nobody told
        sender = ChangeSender(bench.settings.data.gateways / f"{os.getpid()}.sock")
        sender.send([endpoint.key(bench.settings.account, bench.settings.region, "hinted")])
        sender.send([Key(*(["other"] * 4))])
        eventually(lambda: client.invoke_endpoint(EndpointName="hinted", Body=b"x")["Body"].read() == b"2", "the swap")
        sender.close()
        first.close()
        second.close()


def test_waiting_requests_survive_a_swap_of_their_fleet(tmp_path: Path) -> None:
    """Full instances, a queue, and then another fleet: those who wait are answered by it."""
    release = threading.Event()

    async def hold(_request: Received, conversation: Conversation) -> None:
        await asyncio.get_running_loop().run_in_executor(None, release.wait, 20)
        await conversation.answer(b"old")

    with running(Bench(tmp_path, max_concurrent=1, queue=8)) as bench:
        old, new = Model(hold), Model(saying(b"new"))
        bench.put("queued", one(old))
        answers: list[bytes] = []
        callers = [
            threading.Thread(
                target=lambda: answers.append(
                    bench.client().invoke_endpoint(EndpointName="queued", Body=b"x")["Body"].read()
                )
            )
            for _ in range(4)
        ]
        for caller in callers:
            caller.start()
        eventually(lambda: bench.waiting("queued") == 3, "three wait")
        bench.put("queued", one(new))
        eventually(lambda: len(answers) == 3, "those who waited are answered")
        release.set()
        for caller in callers:
            caller.join(10)
        assert Counter(answers) == {b"new": 3, b"old": 1}
        old.close()
        new.close()


def test_sockets_are_gone_after_the_server(tmp_path: Path) -> None:
    with running(Bench(tmp_path)) as bench:
        folder = bench.settings.data.gateways
        assert {path.suffix for path in folder.iterdir()} == {".sock", ".drain"}
    assert not list(folder.iterdir())


def test_the_table_is_derived_again_without_any_hint(bench: Bench) -> None:

    first, second = Model(saying(b"1")), Model(saying(b"2"))
    bench.put("timed", one(first))
    client = bench.client()
    assert client.invoke_endpoint(EndpointName="timed", Body=b"x")["Body"].read() == b"1"
    bench.put("timed", one(second))
    begun = time.monotonic()
    eventually(lambda: client.invoke_endpoint(EndpointName="timed", Body=b"x")["Body"].read() == b"2", "the swap")
    assert time.monotonic() - begun < 10
    first.close()
    second.close()
