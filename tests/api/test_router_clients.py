"""Clients that misbehave, or only are slow: every request gets exactly one answer, in turn, and others get theirs."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sagewright.router import tokens
from support.front_bench import receive_all
from support.router_bench import Bench, Conversation, Model, Received, echo, eventually, one, running

MODEL_TIME = 1.0


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("faults"), model_time=MODEL_TIME)) as made:
        yield made


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def predict(bench: Bench, name: str) -> bytes:
    answer: bytes = bench.client().invoke_endpoint(EndpointName=name, Body=b"x")["Body"].read()
    return answer


def test_a_client_that_leaves_takes_nothing_with_it(bench: Bench, model: Model) -> None:
    release = threading.Event()
    begun = threading.Event()

    async def behave(request: Received, conversation: Conversation) -> None:
        if request.body == b"wait":
            begun.set()
            await asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
        await echo(request, conversation)

    model.behaviour = behave
    bench.put("leaving", one(model))
    with bench.connect() as connection:
        connection.sendall(bearer(bench, "leaving", b"wait"))
        assert begun.wait(10)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # leave with a reset
    eventually(lambda: bench.router.in_flight == 0, "the client is forgotten")
    assert bench.outstanding(model) == 1  # the container still works on it
    release.set()
    eventually(lambda: bench.outstanding(model) == 0, "the container is free")
    assert bench.client().invoke_endpoint(EndpointName="leaving", Body=b"x")["Body"].read() == b"x"
    assert model.connections <= 2


def bearer(
    bench: Bench, name: str, body: bytes, *headers: str, path: str = "invocations", close: bool = False
) -> bytes:
    token = tokens.make(bench.keyring, name, None)
    lines = [
        f"POST /endpoints/{name}/{path} HTTP/1.1",
        "Host: a",
        f"Authorization: Bearer {token}",
        f"Content-Length: {len(body)}",
        *headers,
    ]
    if close:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode() + body


def bodies(answer: bytes) -> list[bytes]:
    """The bodies of answers that have a Content-Length."""
    found = []
    while answer:
        head, _, rest = answer.partition(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        found.append(rest[:length])
        answer = rest[length:]
    return found


def test_pipelined_requests_are_answered_in_order(bench: Bench, model: Model) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        await asyncio.sleep(0.05 if request.body == b"0" else 0)
        await echo(request, conversation)

    model.behaviour = behave
    bench.put("pipelined", one(model))
    health = b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\n\r\n"
    with bench.connect() as connection:
        connection.sendall(
            bearer(bench, "pipelined", b"0")
            + bearer(bench, "pipelined", b"1")
            + health
            + bearer(bench, "none", b"2")
            + bearer(bench, "pipelined", b"3", close=True)
        )
        found = bodies(receive_all(connection))
    assert found[:2] == [b"0", b"1"]
    assert b'"ok"' in found[2]
    assert b"not found" in found[3]
    assert found[4] == b"3"


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("end", [b"zz\r\nno chunk", b"5\r\nhal"])
def test_a_broken_request_takes_no_earlier_answer_with_it(
    bench: Bench, model: Model, end: bytes, *, at_once: bool
) -> None:
    """Its body is garbage, or ends in the middle, while the one before it is under way."""
    begun = threading.Event()

    async def behave(request: Received, conversation: Conversation) -> None:
        begun.set()
        await asyncio.sleep(0.2)
        await echo(request, conversation)

    model.behaviour = behave
    bench.put("broken", one(model))
    whole, half = bearer(bench, "broken", b"whole"), bearer(bench, "broken", b"", "Transfer-Encoding: chunked")
    half = half.replace(b"Content-Length: 0\r\n", b"") + end
    for requests in (whole, whole + whole, b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\n\r\n" + whole):
        begun.clear()
        with bench.connect() as connection:
            connection.sendall(requests + half if at_once else requests)
            if not at_once:
                assert begun.wait(10)
                connection.sendall(half)
            connection.shutdown(socket.SHUT_WR)
            answer = receive_all(connection)
        assert (answer.count(b"HTTP/1.1 200 "), answer.count(b"HTTP/1.1 ")) == (requests.count(b" HTTP/1.1\r\n"),) * 2
        assert answer.endswith(b"whole")


def test_a_thousand_pipelined_refusals_do_no_harm(bench: Bench) -> None:
    with bench.connect() as connection:
        connection.sendall(bearer(bench, "none", b"x") * 1000 + bearer(bench, "none", b"x", close=True))
        assert receive_all(connection).count(b"HTTP/1.1 400 ") == 1001


def test_heads_and_bodies_that_come_byte_by_byte(bench: Bench, model: Model) -> None:
    bench.put("bytes", one(model))
    with bench.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in bearer(bench, "bytes", b"slow", close=True):
            connection.sendall(bytes([byte]))
        assert bodies(receive_all(connection)) == [b"slow"]


def test_chunked_requests_and_those_that_expect_100_continue(bench: Bench, model: Model) -> None:
    bench.put("chunks", one(model))
    token = tokens.make(bench.keyring, "chunks", None)
    connection = http.client.HTTPConnection("127.0.0.1", bench.port, timeout=10)
    for _ in range(2):
        connection.request(
            "POST", "/endpoints/chunks/invocations", iter([b"ab", b"cd"]), {"Authorization": f"Bearer {token}"},
            encode_chunked=True,
        )  # fmt: skip
        assert connection.getresponse().read() == b"abcd"
    connection.close()
    head, body = bearer(bench, "chunks", b"12345", "Expect: 100-continue", close=True).split(b"\r\n\r\n")
    with bench.connect() as raw:
        raw.sendall(head + b"\r\n\r\n")
        assert raw.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(body)
        assert bodies(receive_all(raw)) == [b"12345"]
    wrong = head.replace(b"Bearer sgw", b"Bearer sgx")
    with bench.connect() as raw:
        raw.sendall(wrong + b"\r\n\r\n")
        answer = receive_all(raw)
        assert answer.startswith(b"HTTP/1.1 403")
        assert b"connection: close" in answer


def test_http_1_0_clients_get_answers_that_end_with_the_connection(bench: Bench, model: Model) -> None:
    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    model.behaviour = behave
    bench.put("old", one(model))
    with bench.connect() as raw:
        raw.sendall(bearer(bench, "old", b"x").replace(b"HTTP/1.1", b"HTTP/1.0"))
        answer = receive_all(raw)
    assert answer.endswith(b"\r\n\r\nabc")
    assert b"hunked" not in answer


def test_half_sent_and_broken_requests_stall_nobody(bench: Bench, model: Model) -> None:
    bench.put("patient", one(model))
    whole = bearer(bench, "patient", b"x" * 5000)
    half = [bench.connect() for _ in range(50)]
    broken = [bench.connect() for _ in range(20)]
    try:
        for number, connection in enumerate(half):
            connection.sendall(whole[: 20 + number * 20])
        for connection in broken:
            connection.sendall(whole + b"\0garbage\r\n\r\n")
        client = bench.client()
        begun = time.monotonic()
        for _ in range(20):
            assert client.invoke_endpoint(EndpointName="patient", Body=b"x")["Body"].read() == b"x"
        assert time.monotonic() - begun < 10
        for connection in broken:
            assert receive_all(connection).startswith(b"HTTP/1.1 200")
    finally:
        for connection in (*half, *broken):
            connection.close()


def test_heads_that_are_too_large_are_refused(bench: Bench) -> None:
    with bench.connect() as connection:
        connection.sendall(bearer(bench, "none", b"", "X-Filler: " + "x" * 70_000))
        assert receive_all(connection).startswith(b"HTTP/1.1 431")


def test_a_client_that_reads_nothing_does_not_occupy_the_container(bench: Bench, model: Model) -> None:
    """An answer that fits the buffers leaves the container free at once; a larger one is cut when it does not move."""
    small, large = b"s" * 200_000, b"l" * 50_000_000

    async def behave(request: Received, conversation: Conversation) -> None:
        await conversation.answer(small if request.body == b"small" else large)

    model.behaviour = behave
    bench.put("deaf", one(model))
    deaf = [bench.connect() for _ in range(4)]
    try:
        for connection in deaf[:2]:
            connection.sendall(bearer(bench, "deaf", b"small"))
        for connection in deaf[2:]:
            connection.sendall(bearer(bench, "deaf", b"large"))
        eventually(lambda: len(model.requests) == 4, "all are under way")
        eventually(lambda: bench.outstanding(model) == 0, "all are over", 20)
        assert bench.client().invoke_endpoint(EndpointName="deaf", Body=b"small")["Body"].read() == small
    finally:
        for connection in deaf:
            connection.close()


def test_large_answers_reach_slow_readers_whole(bench: Bench, model: Model) -> None:
    body = bytes(range(256)) * 40_000  # 10 MB

    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.answer(body)

    model.behaviour = behave
    bench.put("big", one(model))
    with bench.connect() as connection:
        connection.sendall(bearer(bench, "big", b"x", close=True))
        received = bytearray()
        while piece := connection.recv(300_000):
            received += piece
            time.sleep(0.01)  # slower than the container for longer than its time limit
    assert bytes(received).partition(b"\r\n\r\n")[2] == body


def test_a_stopping_server_answers_what_is_under_way(tmp_path: Path) -> None:
    begun = threading.Event()

    async def slow(request: Received, conversation: Conversation) -> None:
        begun.set()
        await asyncio.sleep(1.5)
        await echo(request, conversation)

    model = Model(slow)
    try:
        with ThreadPoolExecutor(1) as pool:
            with running(Bench(tmp_path)) as bench:
                bench.put("stopping", one(model))
                answer = pool.submit(predict, bench, "stopping")
                assert begun.wait(10)
            assert answer.result(10) == b"x"
    finally:
        model.close()
