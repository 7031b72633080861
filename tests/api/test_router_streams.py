"""InvokeEndpointWithResponseStream with real botocore clients."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, EventStreamError

from support.router_bench import Bench, Conversation, Model, Received, eventually, one, running


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("streams"), stream_time=2.0, model_time=0.5)) as made:
        yield made


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def invoke(bench: Bench, name: str, body: bytes = b"x", **call: Any) -> Any:
    return bench.client().invoke_endpoint_with_response_stream(EndpointName=name, Body=body, **call)


async def chunk(conversation: Conversation, data: bytes) -> None:
    await conversation.send(b"%x\r\n%b\r\n" % (len(data), data))


def streaming(*pieces: bytes, pause: float = 0.0, end: bool = True) -> Any:
    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n"
            b"X-Amzn-SageMaker-Custom-Attributes: streamed\r\n\r\n"
        )
        for piece in pieces:
            await chunk(conversation, piece)
            await asyncio.sleep(pause)
        if end:
            await conversation.send(b"0\r\n\r\n")

    return behave


def test_parts_arrive_as_the_container_sent_them(bench: Bench, model: Model) -> None:
    pieces = [b"one", b"two ", bytes(range(256)), b"\r\n\r\n", b"last"]
    model.behaviour = streaming(*pieces, pause=0.02)
    bench.put("parts", one(model))
    answer = invoke(bench, "parts", ContentType="text/csv", Accept="text/plain", CustomAttributes="in")
    assert answer["ContentType"] == "text/plain"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "streamed"
    assert [event["PayloadPart"]["Bytes"] for event in answer["Body"]] == pieces
    got = model.requests[0]
    assert (got.header("Accept"), got.header("Content-Type")) == ("text/plain", "text/csv")
    assert got.header("X-Amzn-SageMaker-Accept") is None


def test_the_first_part_does_not_wait_for_the_second(bench: Bench, model: Model) -> None:
    release = threading.Event()

    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await chunk(conversation, b"first")
        assert await asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
        await chunk(conversation, b"second")
        await conversation.send(b"0\r\n\r\n")

    model.behaviour = behave
    bench.put("first", one(model))
    events = iter(invoke(bench, "first")["Body"])
    assert next(events)["PayloadPart"]["Bytes"] == b"first"
    release.set()
    assert [event["PayloadPart"]["Bytes"] for event in events] == [b"second"]


def test_whole_answers_and_empty_ones_are_streams_too(bench: Bench, model: Model) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        await conversation.answer(request.body)

    model.behaviour = behave
    bench.put("whole", one(model))
    body = os.urandom(3_000_000)
    assert b"".join(event["PayloadPart"]["Bytes"] for event in invoke(bench, "whole", body)["Body"]) == body
    assert list(invoke(bench, "whole", b"")["Body"]) in ([], [{"PayloadPart": {"Bytes": b""}}])


def test_an_error_before_the_first_byte_is_an_ordinary_error(bench: Bench, model: Model) -> None:
    async def behave(_request: Received, conversation: Conversation) -> None:
        await conversation.answer(b"too hot", "503 Busy")

    model.behaviour = behave
    bench.put("hot", one(model))
    with pytest.raises(ClientError) as caught:
        invoke(bench, "hot")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert caught.value.response["OriginalStatusCode"] == 503


def broken(bench: Bench, name: str) -> tuple[list[bytes], dict[str, Any]]:
    """The parts before the exception, and the exception."""
    parts: list[bytes] = []
    body = invoke(bench, name)["Body"]
    try:
        for event in body:
            parts.append(event["PayloadPart"]["Bytes"])
    except EventStreamError as error:
        return parts, error.response
    finally:
        body.close()
    raise AssertionError("the stream ended well")


def test_a_container_that_breaks_off_is_told_in_the_stream(bench: Bench, model: Model) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        await streaming(b"a", b"b", end=False)(request, conversation)
        conversation.reset()
        raise ConnectionError

    model.behaviour = behave
    bench.put("broken", one(model))
    parts, response = broken(bench, "broken")
    assert b"".join(parts) in {b"", b"a", b"ab"}
    assert response["Error"]["Code"] == "ModelStreamError"


def test_a_stream_that_does_not_end_in_time_is_ended(bench: Bench, model: Model) -> None:
    """Its limit is its own: a stream may last longer than an ordinary answer."""
    model.behaviour = streaming(*[b"tick"] * 1000, pause=0.1)
    bench.put("endless", one(model))
    parts, response = broken(bench, "endless")
    assert len(parts) > 7  # more than model_time would have let through
    assert response["Error"]["Code"] == "ModelStreamError"


def test_a_client_that_leaves_ends_the_container_s_work(bench: Bench, model: Model) -> None:
    model.behaviour = streaming(*[b"x" * 1000] * 100_000, pause=0.001)
    bench.put("leave", one(model))
    client = bench.client()
    body = client.invoke_endpoint_with_response_stream(EndpointName="leave", Body=b"x")["Body"]
    next(iter(body))
    body.close()
    client.close()
    eventually(lambda: bench.outstanding(model) == 0, "the container is free")


def test_a_stream_does_not_grow_in_memory(tmp_path: Path, model: Model) -> None:
    """128 MB at the pace of a reader that stops: what is not read stays with the container."""
    sent = 0

    async def behave(_request: Received, conversation: Conversation) -> None:
        nonlocal sent
        await conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"y" * 65536
        for _ in range(2048):
            await chunk(conversation, piece)
            sent += len(piece)
        await conversation.send(b"0\r\n\r\n")

    model.behaviour = behave
    with running(Bench(tmp_path)) as bench:
        bench.put("flat", one(model))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        events = iter(invoke(bench, "flat")["Body"])
        received = len(next(events)["PayloadPart"]["Bytes"])
        ceiling = 0
        while sent > ceiling:  # until it stands still
            ceiling = sent
            threading.Event().wait(0.3)
        assert sent < 32 * 1024 * 1024, "somebody holds what the client does not read"
        received += sum(len(event["PayloadPart"]["Bytes"]) for event in events)
        assert received == 2048 * 65536
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024  # KiB
