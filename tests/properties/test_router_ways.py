"""The short way and the long one: whatever bytes a client sends, a warm connection answers as a new one does."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.test_router_warm import LIMIT, Kept, signed
from support.front_bench import receive_all
from support.router_bench import Bench, Model, one, running

BODY = b'{"instances": [[1.0, 2.0, 5.0]]}'
PIECES = st.sampled_from(
    [
        *(b"", b" ", b"  ", b"\t", b"\r\n", b"\n", b"\0", b":", b"0", b"1", b"a", b"Z", b"\xff", b"/", b"%2F", b"-"),
        *(b"X-Amz-Extra: 1\r\n", b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Content-Length: 3\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"X-Amzn-SageMaker-Target-Variant: none\r\n", b"x" * LIMIT),
    ]
)
EDITS = st.lists(st.tuples(st.integers(0, 1400), st.integers(0, 3), PIECES), max_size=3)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("router"), max_payload=LIMIT)) as made:
        yield made


@pytest.fixture(scope="module")
def model(bench: Bench) -> Iterator[Model]:
    made = Model()
    bench.wait_for_table("ways", bench.put("ways", one(made)))
    yield made
    made.close()


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=EDITS)
def test_both_ways_answer_alike(bench: Bench, model: Model, edits: list[tuple[int, int, bytes]]) -> None:
    request = signed(bench, "ways", BODY)
    for place, removed, put in edits:
        request = request[:place] + put + request[place + removed :]
    with Kept(bench, "ways") as warm:
        told, seen = answer(warm.socket, request), _last(model)
    with bench.connect() as connection:
        assert told == answer(connection, request)
        assert seen == _last(model)


def answer(connection: socket.socket, request: bytes) -> bytes:
    """All that the client gets who sends this and no more, without what differs from answer to answer: ids, times,
    and whether the client's end was seen before the answer was written."""
    connection.sendall(request)
    connection.shutdown(socket.SHUT_WR)
    whole = receive_all(connection)
    whole = whole.replace(b"connection: close\r\n", b"")
    whole = re.sub(rb"(?i)(x-amzn-RequestId|date): [^\r]*", rb"\1: -", whole)
    return re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]{8}T[0-9]{6}Z", b"-", whole)


def _last(model: Model) -> tuple[list[tuple[str, str]], bytes]:
    return model.requests[-1].headers, model.requests[-1].body
