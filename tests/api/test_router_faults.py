"""Containers that misbehave, and clients that do: every request gets exactly one answer, and others get theirs."""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagewright.router import tokens
from support.front_bench import receive_all
from support.router_bench import Bench, Conversation, Model, Received, echo, eventually, instance_id, one, running

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


def refusal(bench: Bench, name: str, body: bytes = b"x") -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        bench.client().invoke_endpoint(EndpointName=name, Body=body)
    response: dict[str, Any] = caught.value.response
    return response


def test_a_container_that_does_not_answer_in_time(bench: Bench, model: Model) -> None:
    async def hang(_request: Received, _conversation: Conversation) -> None:
        await asyncio.sleep(30)

    model.behaviour = hang
    bench.put("silent", one(model))
    response = refusal(bench, "silent")
    assert response["Error"]["Code"] == "ModelError"
    assert response["OriginalStatusCode"] == 0
    assert response["OriginalMessage"] == (
        "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
        "each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    assert response["Error"]["Message"].startswith("Received server error (0) from primary with message")
    assert len(model.requests) == 1
    assert bench.router._live.outstanding(instance_id(model)) == 0


def test_a_connection_that_is_cut_by_a_living_container_is_its_error_and_nothing_is_sent_twice(
    bench: Bench, model: Model
) -> None:
    async def cut(request: Received, conversation: Conversation) -> None:
        if request.body == b"reset":
            conversation.reset()
        else:
            conversation.close()
        raise ConnectionError

    model.behaviour = cut
    other = Model(cut)
    try:
        bench.put("cutting", one(model, other))
        for body in (b"reset", b"close"):
            response = refusal(bench, "cutting", body)
            assert response["Error"]["Code"] == "ModelError"
            assert response["OriginalStatusCode"] == 0
        assert len(model.requests) + len(other.requests) == 2
    finally:
        other.close()


@pytest.mark.parametrize(
    "answer",
    [
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nContent-Length: 11\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Header: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 300_000,
    ],
)
def test_garbage_instead_of_an_answer(bench: Bench, model: Model, answer: bytes) -> None:
    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.send(answer)

    model.behaviour = behave
    bench.put("garbage", one(model))
    assert refusal(bench, "garbage")["Error"]["Code"] == "ModelError"
    model.behaviour = echo
    assert bench.client().invoke_endpoint(EndpointName="garbage", Body=b"ok")["Body"].read() == b"ok"


def test_answers_in_every_framing(bench: Bench, model: Model) -> None:
    answers = {
        b"chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n",
        b"close": b"HTTP/1.0 200 OK\r\nContent-Type: text/csv\r\n\r\nabcdefg",
        b"closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\nabcdefg",
        b"interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg",
        b"folded": b"HTTP/1.1 200 OK\r\ncontent-LENGTH:7\r\nX-A: 1\r\nX-A: 2\r\n\r\nabcdefg",
        b"excess": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefgHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
    }

    async def behave(request: Received, conversation: Conversation) -> None:
        await conversation.send(answers[request.body])
        if request.body in {b"close", b"closing"}:
            conversation.close()
            raise ConnectionError

    model.behaviour = behave
    bench.put("framing", one(model))
    client = bench.client()
    for _ in range(2):
        for kind in answers:
            assert client.invoke_endpoint(EndpointName="framing", Body=kind)["Body"].read() == b"abcdefg", kind


def test_answers_that_come_byte_by_byte(bench: Bench, model: Model) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Amzn-SageMaker-Custom-Attributes: a\r\n\r\n12345":
            await conversation.send(bytes([byte]))
            await asyncio.sleep(0)

    model.behaviour = behave
    bench.put("drip", one(model))
    client = bench.client()
    for _ in range(3):
        answer = client.invoke_endpoint(EndpointName="drip", Body=b"x")
        assert (answer["Body"].read(), answer["CustomAttributes"]) == (b"12345", "a")


def test_an_answer_that_ends_too_early_cannot_be_taken_for_a_whole_one(bench: Bench, model: Model) -> None:
    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 1000)
        await asyncio.sleep(0.05)
        conversation.close()
        raise ConnectionError

    model.behaviour = behave
    bench.put("short", one(model))
    with pytest.raises(Exception, match="(?i)incomplete|broken|closed|bytes"):
        bench.client().invoke_endpoint(EndpointName="short", Body=b"x")["Body"].read()


def test_an_instance_that_refuses_connections_costs_nobody_a_request(bench: Bench, model: Model) -> None:
    dead = Model()
    dead.close()
    for routing in ("LEAST_OUTSTANDING_REQUESTS", "RANDOM"):
        bench.put("half-dead", one(model, dead, routing=routing))
        client = bench.client()
        for _ in range(30):
            assert client.invoke_endpoint(EndpointName="half-dead", Body=b"x")["Body"].read() == b"x"
    bench.put("dead", one(dead))
    response = refusal(bench, "dead")
    assert response["Error"]["Code"] == "ServiceUnavailable"
    assert "no connection" in response["Error"]["Message"]


def test_a_kept_connection_that_the_container_has_closed_is_not_noticed_by_clients(bench: Bench, model: Model) -> None:
    """Servers close idle connections whenever they like, also at the very moment of the next request."""

    async def behave(request: Received, conversation: Conversation) -> None:
        await echo(request, conversation)
        conversation.close()
        raise ConnectionError

    model.behaviour = behave
    bench.put("closing", one(model))
    client = bench.client()
    for number in range(200):
        body = b"%d" % number
        assert client.invoke_endpoint(EndpointName="closing", Body=body)["Body"].read() == body
    assert [request.body for request in model.requests] == [b"%d" % number for number in range(200)]


def test_the_requests_of_an_instance_that_dies_are_answered_by_another(bench: Bench, model: Model) -> None:
    begun = threading.Event()

    async def hang(_request: Received, _conversation: Conversation) -> None:
        begun.set()
        await asyncio.sleep(30)

    dying = Model(hang)
    bench.put("dying", one(dying))
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: bench.client().invoke_endpoint(EndpointName="dying", Body=b"x")["Body"].read())
        assert begun.wait(10)
        bench.put("dying", one(dying, model))
        eventually(lambda: bench.router._live.is_routable(instance_id(model)), "the table has both")
        dying.close()
        assert answer.result(10) == b"x"
    assert len(model.requests) == 1


def test_a_request_that_kills_every_instance_stops_after_two(bench: Bench) -> None:
    models = [Model() for _ in range(3)]

    def poison(model: Model) -> Any:
        async def behave(_request: Received, conversation: Conversation) -> None:
            model._server.close()
            conversation.reset()
            raise ConnectionError

        return behave

    for model in models:
        model.behaviour = poison(model)
    try:
        bench.put("poison", one(*models))
        assert refusal(bench, "poison")["Error"]["Code"] == "ModelError"
        assert sum(len(model.requests) for model in models) == 2
    finally:
        for model in models:
            model.close()


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
    assert bench.router._live.outstanding(instance_id(model)) == 1  # the container still works on it
    release.set()
    eventually(lambda: bench.router._live.outstanding(instance_id(model)) == 0, "the container is free")
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
        eventually(lambda: bench.router._live.outstanding(instance_id(model)) == 0, "all are over", 20)
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
                answer = pool.submit(
                    lambda: bench.client().invoke_endpoint(EndpointName="stopping", Body=b"x")["Body"].read()
                )
                assert begun.wait(10)
            assert answer.result(10) == b"x"
    finally:
        model.close()


def test_what_is_counted(tmp_path: Path) -> None:
    model = Model()

    async def behave(request: Received, conversation: Conversation) -> None:
        await conversation.answer(b"", f"{request.body.decode()} X")

    model.behaviour = behave
    try:
        with running(Bench(tmp_path)) as bench:
            bench.put("counted", one(model))
            client = bench.client()
            for status in (200, 200, 200, 404, 500, 503):
                if status == 200:
                    client.invoke_endpoint(EndpointName="counted", Body=b"200")
                else:
                    refusal(bench, "counted", b"%d" % status)
            [(whose, tally)] = bench.router.counters.take().items()
            assert tuple(whose) == ("us-east-1", "counted", "AllTraffic", "")
            assert (tally.invocations, tally.errors_4xx, tally.errors_5xx, tally.model_errors) == (6, 1, 2, 3)
            assert tally.per_instance == 6.0
            assert tally.model_latency.count == tally.overhead_latency.count == 6
            assert 0 < tally.model_latency.least <= tally.model_latency.most <= tally.model_latency.total
            assert not bench.router.counters.snapshot()
    finally:
        model.close()
