"""Containers that misbehave: every request gets exactly one answer, and others get theirs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.router_bench import Bench, Conversation, Fleeted, Model, Received, echo, one, running

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
    assert bench.outstanding(model) == 0


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
        b"chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: 1\r\n\r\n",
        b"close": b"HTTP/1.0 200 OK\r\nContent-Type: text/csv\r\n\r\nabcdefg",
        b"closing": b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 7\r\n\r\nabcdefg",
        b"interim": b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg",
        b"folded": b"HTTP/1.1 200 OK\r\ncontent-LENGTH:7\r\nX-A: 1\r\nX-A: 2\r\n\r\nabcdefg",
        b"excess": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdefg"
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
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
    with pytest.raises(Exception, match=r"(?i)incomplete|broken|closed|bytes"):
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
        answer = pool.submit(predict, bench, "dying")
        assert begun.wait(10)
        bench.wait_for_table("dying", bench.put("dying", one(dying, model)))
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


def test_a_container_that_answers_before_it_has_read_everything(bench: Bench, model: Model) -> None:
    """Its connection still has half of a request in it: the next request must not be taken for the rest."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        model._tasks.add(task)
        head = await reader.readuntil(b"\r\n\r\n")
        status = b"400 No" if b"Content-Length: 20000000" in head else b"200 OK"
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: 2\r\n\r\nno" % status)
        try:
            await asyncio.sleep(0.5)
        finally:
            model._tasks.discard(task)
            writer.close()

    async def listen() -> asyncio.Server:
        return await asyncio.start_server(refuse, "127.0.0.1", 0)

    server = asyncio.run_coroutine_threadsafe(listen(), model._loop).result(10)
    port = server.sockets[0].getsockname()[1]
    bench.put("early", Fleeted(instances={f"early{port}": {"primary": f"127.0.0.1:{port}"}}))
    client = bench.client()
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName="early", Body=b"x" * 20_000_000)
    assert caught.value.response["OriginalStatusCode"] == 400
    assert client.invoke_endpoint(EndpointName="early", Body=b"x")["Body"].read() == b"no"
    model.call(server.close)


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
