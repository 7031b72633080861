"""Connections whose earlier requests were good, where the short way is taken: nothing that holds elsewhere is lost."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.core.ids import DEFAULT_REGION
from sagewright.gateway import http
from sagewright.router.exchange import Exchange
from support.router_bench import Bench, Conversation, Model, Received, echo, eventually, one, running, saying
from support.router_clients import Kept, signed

LIMIT = 2000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("router"), max_payload=LIMIT, max_concurrent=2)) as made:
        yield made


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def test_it_is_the_short_way_that_these_tests_go(bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others rest on: a warm connection does without the long way."""
    bench.put("short", one(model))
    with Kept(bench, "short") as client:
        monkeypatch.setattr(bench.router, "take_whole", lambda turn, data: pytest.fail("the long way"))
        for size in (5, 6, 9, 5):
            status, head, body = client.ask(signed(bench, "short", b"x" * size))
            assert (status, body) == (200, b"x" * size)
            assert b"\r\nx-Amzn-Invoked-Production-Variant: AllTraffic\r\n" in head
            assert b"\r\nContent-Type: text/csv\r\n" in head


def test_every_answer_has_an_id_of_its_own(bench: Bench, model: Model) -> None:
    bench.put("ids", one(model))
    with Kept(bench, "ids") as client:
        heads = [client.ask(signed(bench, "ids"))[1] for _ in range(20)]
    found = {match[1] for head in heads if (match := re.search(rb"x-amzn-RequestId: ([0-9a-f-]{36})\r\n", head))}
    assert len(found) == 20


def test_the_payload_limit(bench: Bench, model: Model) -> None:
    bench.put("limited", one(model))
    with Kept(bench, "limited") as client:
        client.ask(signed(bench, "limited", b"x" * LIMIT))
        assert client.ask(signed(bench, "limited", b"y" * LIMIT))[0] == 200
        status, _, body = client.ask(signed(bench, "limited", b"z" * (LIMIT + 1)))
    assert status == 413
    assert str(LIMIT).encode() in body
    assert str(LIMIT + 1).encode() in body
    assert max(len(request.body) for request in model.requests) == LIMIT


@pytest.mark.parametrize("minutes", [-16, 16])
def test_the_time_of_a_signature(bench: Bench, model: Model, minutes: int) -> None:
    bench.put("timely", one(model))
    with Kept(bench, "timely") as client:
        moment = datetime.now(UTC) + timedelta(minutes=minutes)
        status, _, body = client.ask(signed(bench, "timely", moment=moment))
        assert status == 403
        assert b"ignature" in body
        assert client.ask(signed(bench, "timely", moment=datetime.now(UTC) + timedelta(minutes=minutes / 2)))[0] == 200


def test_a_signed_header_that_is_left_out(bench: Bench, model: Model) -> None:
    bench.put("left-out", one(model))
    with Kept(bench, "left-out") as client:
        whole = signed(bench, "left-out")
        status, _, body = client.ask(whole.replace(b"Content-Type: text/csv\r\n", b""))
        assert status == 403
        assert b"ignature" in body
        assert client.ask(whole)[0] == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"amz-sdk-invocation-id": "11111111-1111-1111-1111-111111111111", "amz-sdk-request": "attempt=1"},
        {"amz-sdk-invocation-id": "22222222-1111-1111-1111-111111111111", "Content-Length": "5"},
    ],
)
def test_values_that_change_with_every_request_are_signed_too(
    bench: Bench, model: Model, headers: dict[str, str]
) -> None:
    bench.put("holes", one(model))
    with Kept(bench, "holes") as client:
        for digit in "34567":
            changed = headers | {"amz-sdk-invocation-id": headers["amz-sdk-invocation-id"].replace("1", digit)}
            request = signed(bench, "holes", **changed)
            if "Content-Length" in headers:
                request = request.replace(b"Content-Length: 5\r\n", b"", 1)
            assert client.ask(request)[0] == 200
        spoilt = request.replace(digit.encode() * 4, b"abcd", 1)
        assert spoilt != request
        assert client.ask(spoilt)[0] == 403


def test_packets_that_hold_more_or_less_than_one_request(bench: Bench, model: Model) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        await asyncio.sleep(0.05 if request.body == b"first" else 0)
        await echo(request, conversation)

    model.behaviour = behave
    bench.put("packets", one(model))
    health = b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\n\r\n"
    first, second = signed(bench, "packets", b"first"), signed(bench, "packets", b"other")
    with Kept(bench, "packets") as client:
        client.send(first)
        client.send(second)  # while the first is under way
        assert [client.receive()[2] for _ in range(2)] == [b"first", b"other"]
        client.send(first + second + health + second)
        found = [client.receive()[2] for _ in range(4)]
        assert (found[:2], found[3]) == ([b"first", b"other"], b"other")
        client.send(second[:40])
        client.send(second[40:-2])
        client.send(second[-2:])
        assert client.receive()[2] == b"other"
        assert [client.ask(second)[2] for _ in range(3)] == [b"other"] * 3
        client.send(first)
        client.send(b"no HTTP at all\r\n\r\n")
        assert client.receive()[2] == b"first"  # a good request is before it
        assert client.is_closed


def test_heads_that_come_before_their_bodies(bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """As boto3 sends them."""
    bench.put("pieces", one(model))
    with Kept(bench, "pieces") as client:
        with monkeypatch.context() as patched:
            patched.setattr(bench.router, "take_whole", lambda turn, data: pytest.fail("the long way"))
            for pieces in (1, 2, 7):
                request = signed(bench, "pieces", bytes(range(49, 56)))
                head, body = request[:-7], request[-7:]
                client.send_apart(head, *(body[at : at + 7 // pieces + 1] for at in range(0, 7, 7 // pieces + 1)))
                assert client.receive()[::2] == (200, body)
        client.send_apart(head, body + request, request[:100], request[100:])
        assert [client.receive()[2] for _ in range(3)] == [body] * 3
        client.send_apart(head, b"GARBAGE" + b"NO HTTP\r\n\r\n")
        assert [client.receive()[0] for _ in range(2)] == [403, 400]
        assert client.is_closed


def test_a_head_that_announces_too_much_is_refused_before_its_body(bench: Bench, model: Model) -> None:
    bench.put("announced", one(model))
    with Kept(bench, "announced") as client:
        request = signed(bench, "announced", b"x" * (LIMIT + 1))
        client.send(request[: -(LIMIT + 1)])
        status, _, body = client.receive()
    assert (status, str(LIMIT + 1).encode() in body) == (413, True)


def test_a_head_without_its_body(bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BODY_LIMIT", 0.2)
    bench.put("half", one(model))
    with Kept(bench, "half") as client:
        client.send(signed(bench, "half")[:-2])
        with suppress(ConnectionError):
            assert client.is_closed
    with Kept(bench, "half") as client:
        client.send(signed(bench, "half")[:-2])
        client.reset()
    assert bench.router.in_flight == 0


def test_real_clients_go_the_short_way(bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.put("real", one(model))
    client = bench.client()

    def predict(size: int) -> bytes:
        answer = client.invoke_endpoint(EndpointName="real", Body=b"1" * size, ContentType="text/csv")
        return bytes(answer["Body"].read())

    for size in (10, 11, 12):
        predict(size)
    monkeypatch.setattr(Exchange, "start", lambda exchange: pytest.fail("the long way"))
    for size in range(20, 40):
        assert predict(size) == b"1" * size


def test_answers_with_something_to_pass_on_or_to_explain(bench: Bench, model: Model) -> None:
    bench.put("special", one(model))
    request = signed(bench, "special")
    with Kept(bench, "special") as client:
        model.behaviour = saying(b"a", X_Amzn_SageMaker_Custom_Attributes="trace=1")
        status, head, body = client.ask(request)
        assert (status, body) == (200, b"a")
        assert b"\r\nX-Amzn-SageMaker-Custom-Attributes: trace=1\r\n" in head
        model.behaviour = saying(b"b", X_Amzn_SageMaker_Session_Id="s; Expires=2030-01-01T00:00:00Z")
        status, head, body = client.ask(request)
        assert (status, body) == (200, b"b")
        assert b"\r\nX-Amzn-SageMaker-New-Session-Id: s; Expires=2030-01-01T00:00:00Z\r\n" in head
        assert bench.router._shared.sessions.instance(DEFAULT_REGION, "special", "s") is not None

        async def fail(_request: Received, conversation: Conversation) -> None:
            await conversation.answer(b"no", "500 Internal Server Error")

        model.behaviour = fail
        status, _, body = client.ask(request)
        assert (status, b'"OriginalStatusCode":500' in body) == (424, True)

        async def created(_request: Received, conversation: Conversation) -> None:
            await conversation.answer(b"made", "201 Created")

        model.behaviour = created
        assert client.ask(request)[::2] == (200, b"made")

        async def leave(_request: Received, conversation: Conversation) -> None:
            conversation.close()

        model.behaviour = leave
        status, _, body = client.ask(request)
        assert (status, b"closed the connection" in body) == (424, True)
        model.behaviour = echo
        assert [client.ask(request)[0] for _ in range(3)] == [200] * 3


def test_answers_whose_heads_come_before_their_bodies(bench: Bench, model: Model) -> None:
    """As most model servers write them; and what becomes of those that never come to their end."""

    async def apart(request: Received, conversation: Conversation) -> None:
        await conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        await asyncio.sleep(0.01)
        if request.body == b"leave":
            conversation.close()
        elif request.body == b"three":
            for piece in (b"th", b"re", b"e"):
                await conversation.send(piece)
                await asyncio.sleep(0.01)
        else:
            await conversation.send(request.body)

    bench.put("apart", one(model))
    with Kept(bench, "apart") as client:
        model.behaviour = apart
        for _ in range(3):
            for body in (b"12345", b"three", b"54321"):
                assert client.ask(signed(bench, "apart", body))[::2] == (200, body)
            seen = len(model.requests)
            status, _, said = client.ask(signed(bench, "apart", b"leave"))
            assert (status, b"closed the connection" in said) == (424, True)
            assert len(model.requests) == seen + 1, "it has begun to answer, so it is not asked again"


def test_a_client_that_leaves_while_its_request_is_under_way(bench: Bench, model: Model) -> None:
    begun, release = threading.Event(), threading.Event()

    async def behave(request: Received, conversation: Conversation) -> None:
        if request.body == b"stay!":
            begun.set()
            await asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
        await echo(request, conversation)

    model.behaviour = behave
    bench.put("deserted", one(model))
    with Kept(bench, "deserted") as client:
        client.send(signed(bench, "deserted", b"stay!"))
        assert begun.wait(10)
        client.reset()
    eventually(lambda: bench.router.in_flight == 0, "the client is forgotten")
    assert bench.outstanding(model) == 1  # the container still works on it
    release.set()
    eventually(lambda: bench.outstanding(model) == 0, "the container is free")


def test_a_new_table_is_seen_by_the_next_request(bench: Bench, model: Model) -> None:
    bench.put("moved", one(model))
    other = Model(saying(b"other"))
    with Kept(bench, "moved") as client:
        bench.wait_for_table("moved", bench.put("moved", one(other)))
        assert client.ask(signed(bench, "moved"))[2] == b"other"
        bench.remove("moved")
        eventually(lambda: (DEFAULT_REGION, "moved") not in bench.router._live.versions(), "the endpoint is gone")
        status, _, body = client.ask(signed(bench, "moved"))
        assert (status, b"not found" in body) == (400, True)
    other.close()


def test_variants_get_their_shares(bench: Bench, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    other, never = Model(), Model()
    variants = [one(model, name="v1"), one(other, name="v2", weight=3.0), one(never, name="v3", weight=0.0)]
    bench.put("shared", *variants)
    with Kept(bench, "shared") as client:
        eventually(lambda: client.ask(signed(bench, "shared")) and model.requests and other.requests, "both are warm")
        before = len(model.requests), len(other.requests)
        monkeypatch.setattr(bench.router, "take_whole", lambda turn, data: pytest.fail("the long way"))
        heads = [client.ask(signed(bench, "shared"))[1] for _ in range(200)]
    named = [sum(f"Production-Variant: {name}\r\n".encode() in head for head in heads) for name in ("v1", "v2")]
    assert named == [len(model.requests) - before[0], len(other.requests) - before[1]]
    assert 20 < named[0] < 90
    assert never.requests == []
    other.close()
    never.close()


def test_a_full_instance_gets_no_more(bench: Bench, model: Model) -> None:
    """`max_concurrent` is 2 here."""
    most = 0

    async def behave(request: Received, conversation: Conversation) -> None:
        nonlocal most
        most = max(most, bench.outstanding(model))
        await asyncio.sleep(0.02)
        await echo(request, conversation)

    bench.put("full", one(model))
    clients = [Kept(bench, "full") for _ in range(6)]
    model.behaviour = behave
    for _ in range(3):
        for client in clients:
            client.send(signed(bench, "full"))
        assert [client.receive()[0] for client in clients] == [200] * 6
    for client in clients:
        client.reset()
    assert most == 2


def test_an_instance_that_once_refused_is_trusted_again(bench: Bench, model: Model) -> None:
    """Its suspicion ends with time, not only with an answer that it would have to be asked for."""
    other = Model()
    bench.put("trusted", one(model, other))
    with Kept(bench, "trusted") as client:
        for _ in range(6):
            client.ask(signed(bench, "trusted"))
        suspect = bench.router._live._instances[f"i{other.port:07d}"]
        suspect.suspect_until = 1e-9  # long ago
        before = len(other.requests)
        for _ in range(6):
            client.ask(signed(bench, "trusted"))
        assert len(other.requests) - before == 3
    other.close()


def test_a_stopping_server_says_that_it_closes(tmp_path: Path, model: Model) -> None:
    release, begun = threading.Event(), threading.Event()

    async def behave(request: Received, conversation: Conversation) -> None:
        if request.body == b"last!":
            begun.set()
            await asyncio.get_running_loop().run_in_executor(None, release.wait, 10)
        await echo(request, conversation)

    model.behaviour = behave
    bench = Bench(tmp_path)
    client: Kept | None = None
    with running(bench):
        bench.put("stopping", one(model))
        client = Kept(bench, "stopping")
        client.send(signed(bench, "stopping", b"last!"))
        assert begun.wait(10)
        threading.Timer(0.3, release.set).start()
    with client:
        status, head, body = client.receive()
        assert (status, body) == (200, b"last!")
        assert b"\r\nconnection: close\r\n" in head + b"\r\n"
        assert client.is_closed


def test_all_requests_are_counted(tmp_path: Path, model: Model) -> None:
    with running(Bench(tmp_path)) as bench:
        bench.put("counted", one(model))
        with Kept(bench, "counted") as client:
            for _ in range(17):
                client.ask(signed(bench, "counted"))
            [tally] = bench.router.counters.take().values()
            assert (tally.invocations, tally.per_instance) == (20, 20.0)
            assert (tally.model_latency.count, tally.overhead_latency.count) == (20, 20)
            assert 0 < tally.model_latency.least <= tally.model_latency.most < 20_000_000
            client.ask(signed(bench, "counted"))
        [tally] = bench.router.counters.take().values()
        assert (tally.invocations, tally.model_latency.count) == (1, 1)
