"""The short way and the long one: whatever bytes a client sends, a warm connection answers as a new one does."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from support.front_bench import receive_all
from support.router_bench import Bench, Model, one, running
from support.router_clients import Kept, signed

LIMIT = 2000
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
@given(edits=EDITS, cut=st.integers(0, 600) | st.just(0) | st.just(-len(BODY)))
def test_both_ways_answer_alike(bench: Bench, model: Model, edits: list[tuple[int, int, bytes]], cut: int) -> None:
    request = signed(bench, "ways", BODY)
    for place, removed, put in edits:
        place %= len(request)  # noqa: PLW2901
        request = request[:place] + put + request[place + removed :]
    with Kept(bench, "ways") as warm:
        if cut:  # as most clients do, between head and body; and anywhere
            warm.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            warm.socket.sendall(request[:cut])
            time.sleep(0.002)
        told, seen = answer(warm.socket, request[cut:]), _last(model)
    with bench.connect() as connection:
        assert told == answer(connection, request)
        assert seen == _last(model)


INVOKE = b"POST /endpoints/ways/invocations HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer x\r\n"
PARTS = st.sampled_from(
    [
        *(b"", b"", b""),  # stands for a good request
        b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /bucket/key HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        INVOKE + b"Transfer-Encoding: chunked\r\n\r\n",
        INVOKE + b"Content-Length: 5\r\n\r\nab",
        *(b"zz\r\n", b"5\r\nhel", b"\r\n", b"Transfer-Encoding: chunked\r\n"),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    parts=st.lists(PARTS, min_size=1, max_size=5), cuts=st.lists(st.integers(0, 2000), max_size=3), warm=st.booleans()
)
def test_every_connection_comes_to_its_end(
    bench: Bench, model: Model, parts: list[bytes], cuts: list[int], *, warm: bool
) -> None:
    """Whatever is pipelined, and wherever it is broken; that nothing is left over is seen when the server stops."""
    good = signed(bench, "ways", BODY)
    data = b"".join(part or good for part in parts)
    ends = sorted({min(cut, len(data)) for cut in (0, *cuts, len(data))})
    with Kept(bench, "ways") if warm else bench.connect() as client:
        connection = client.socket if isinstance(client, Kept) else client
        connection.settimeout(30)
        try:
            for start, end in pairwise(ends):
                connection.sendall(data[start:end])
            connection.shutdown(socket.SHUT_WR)
            answers = receive_all(connection)
        except TimeoutError:
            raise
        except OSError:
            return  # it was closed before everything was sent
        assert answers.startswith(b"HTTP/1.1 ") or not answers
        if not parts[0]:
            assert answers.startswith(b"HTTP/1.1 200 ")


def answer(connection: socket.socket, request: bytes) -> bytes:
    """What the client is answered first who sends this and no more, without what differs from answer to answer: ids,
    times, and whether the client's end was seen before the answer was written."""
    try:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        whole = receive_all(connection)
    except OSError:  # it was answered, and closed, before it had sent everything
        reject()
    head, _, rest = whole.partition(b"\r\n\r\n")
    head = re.sub(rb"(?i)(x-amzn?-Request-?Id|x-amz-id-2|date): [^\r]*", rb"\1: -", head).replace(
        b"\r\nconnection: close", b""
    )
    length = re.search(rb"(?i)content-length: (\d+)", head)
    body = rest[: int(length[1])] if length is not None else rest
    return head + re.sub(rb"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9]{8}T[0-9]{6}Z|Id>[^<]*<", b"-", body)


def _last(model: Model) -> tuple[list[tuple[str, str]], bytes]:
    return model.requests[-1].headers, model.requests[-1].body
