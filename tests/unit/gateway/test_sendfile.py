"""Files on their way out through the kernel: whole, in ranges, slowly, cut off on either side."""

from __future__ import annotations

import hashlib
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sagewright.gateway import sendfile
from sagewright.registry.files import FileBody
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from support.front_bench import Bench, receive_all, running

pytestmark = pytest.mark.skipif(not sendfile.SUPPORTED, reason="files are sent this way on Linux only")
SIZE = 12_345_678
CONTENT = hashlib.shake_128(b"content").digest(SIZE)


class Shop:
    """GET /START-STOP of one file; `bodies` are those that were given out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.bodies: list[FileBody] = []

    async def handle(self, request: HttpRequest) -> HttpResponse:
        start, stop = map(int, request.raw_path[1:].split("-"))
        body = FileBody(os.open(self.path, os.O_RDONLY), start, stop - start)
        self.bodies.append(body)
        return HttpResponse(200, Headers(), body, stop - start)

    def close(self) -> None:
        pass

    @property
    def all_closed(self) -> bool:
        return all(body._descriptor is None for body in self.bodies)


class Place:
    def __init__(self, bench: Bench, shop: Shop, calls: list[int]) -> None:
        self.bench, self.shop, self.calls = bench, shop, calls
        self.stuck: socket.socket | None = None

    def get(self, *spans: tuple[int, int]) -> list[bytes]:
        """Bodies of the answers to pipelined requests."""
        requests = [f"GET /{start}-{stop} HTTP/1.1\r\nHost: a\r\n\r\n" for start, stop in spans]
        requests[-1] = requests[-1].replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n")
        with self.bench.connect() as connection:
            connection.sendall("".join(requests).encode())
            rest, bodies = receive_all(connection), []
        for start, stop in spans:
            head, _, rest = rest.partition(b"\r\n\r\n")
            assert f"content-length: {stop - start}".encode() in head.lower()
            bodies.append(rest[: stop - start])
            rest = rest[stop - start :]
        assert rest == b""
        return bodies


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    real, calls = os.sendfile, []

    def counted(out: int, source: int, offset: int, count: int) -> int:
        calls.append(sent := real(out, source, offset, count))
        return sent

    monkeypatch.setattr(sendfile.os, "sendfile", counted)
    bench = Bench(tmp_path)
    shop = Shop(path)
    bench.gateway = shop  # an application by shape
    made = Place(bench, shop, calls)
    with running(bench):
        yield made
    if made.stuck:
        made.stuck.close()
    assert shop.all_closed


def test_whole_files_and_spans_one_after_the_other(place: Place) -> None:
    spans = [(0, SIZE), (5, 6), (1_000_000, 4_000_001), (SIZE - 3, SIZE)]
    for span in spans:
        assert place.get(span) == [CONTENT[slice(*span)]]
    assert sum(place.calls) == sum(stop - start for start, stop in spans)
    assert place.get(*spans) == [CONTENT[start:stop] for start, stop in spans]  # pipelined


@pytest.mark.parametrize("cached", [True, False])
def test_bytes_that_the_disk_must_bring(place: Place, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    monkeypatch.setattr(sendfile, "_is_cached", lambda _descriptor, _position: cached)
    assert place.get((0, SIZE)) == [CONTENT]
    assert sum(place.calls) == SIZE


def test_a_slow_reader_gets_it_all_and_keeps_nobody_waiting(place: Place) -> None:
    with place.bench.connect() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        slow.sendall(f"GET /0-{SIZE} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        first = slow.recv(1000)
        for _ in range(3):
            assert place.get((7, 2_000_000)) == [CONTENT[7:2_000_000]]
        assert sum(place.calls) - 3 * 1_999_993 < SIZE  # it has not gone somewhere else
        assert (first + receive_all(slow)).endswith(CONTENT[-100_000:])


def test_a_client_that_leaves_ends_it(place: Place) -> None:
    with place.bench.connect() as leaving:
        leaving.sendall(f"GET /0-{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        leaving.recv(1000)
    deadline = time.monotonic() + 10
    while not place.shop.all_closed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert place.shop.all_closed
    assert place.get((0, 10)) == [CONTENT[:10]]


def test_a_file_that_was_cut_from_outside_cuts_the_answer(place: Place) -> None:
    os.truncate(place.shop.path, 1_000_000)
    with place.bench.connect() as connection:
        connection.sendall(b"GET /0-3000000 HTTP/1.1\r\nHost: a\r\n\r\n")
        received = b""
        with suppress(ConnectionResetError):
            while piece := connection.recv(65536):
                received += piece
    assert len(received) < 3_000_000
    assert place.get((0, 10)) == [CONTENT[:10]]


def test_a_stop_does_not_wait_for_a_reader_that_does_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    from sagewright.gateway import server

    monkeypatch.setattr(server, "DRAIN_LIMIT", 0.5)
    place.stuck = stuck = place.bench.connect()
    stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    stuck.sendall(f"GET /0-{SIZE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    stuck.recv(100)
    # The fixture's end fails if the server does not stop or a file stays open.
