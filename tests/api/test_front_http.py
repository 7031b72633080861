"""HTTP on the port, byte by byte: what a hostile or half-dead client sends must not hurt others."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sagewright.gateway import front, http
from support.front_bench import Bench, receive_all, running

HEALTH = b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\n\r\n"
CLOSING = b"GET /_sagewright/health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("http"))) as made:
        yield made


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def assert_alive(bench: Bench) -> None:
    assert statuses(bench.send(CLOSING)) == [200]


def test_keep_alive_serves_many_requests_on_one_connection(bench: Bench) -> None:
    with bench.connect() as connection:
        for _ in range(5):
            connection.sendall(HEALTH)
            answer = b""
            while not answer.endswith(b"}"):
                answer += connection.recv(65536)
            assert statuses(answer) == [200]


def test_an_offer_to_upgrade_is_not_taken_up(bench: Bench) -> None:
    offer = HEALTH.replace(b"\r\n\r\n", b"\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    with bench.connect() as connection:
        for _ in range(2):
            connection.sendall(offer)
            assert statuses(connection.recv(65536)) == [200]


def test_an_absolute_target_without_a_path_is_the_root(bench: Bench) -> None:
    answer = bench.send(f"GET http://127.0.0.1:{bench.port} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert b"is running here" in answer
    assert b"connection: close" in answer


def test_a_late_absolute_target_for_another_host_is_misdirected(bench: Bench) -> None:
    answer = bench.send(HEALTH + b"GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert statuses(answer)[0] == 200
    assert b"is running here" not in answer


def test_head_and_body_come_in_one_packet_and_head_requests_get_a_head(bench: Bench) -> None:
    with bench.connect() as connection:
        connection.sendall(HEALTH)
        assert connection.recv(65536).endswith(b"}")
        connection.sendall(HEALTH.replace(b"GET", b"HEAD"))
        answer = connection.recv(65536)
        assert statuses(answer) == [200]
        assert answer.endswith(b"\r\n\r\n")


def test_pipelined_requests_are_answered_in_order(bench: Bench) -> None:
    page = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    answer = bench.send(HEALTH + page + HEALTH + CLOSING)
    assert statuses(answer) == [200] * 4
    assert answer.index(b"is running here") > answer.index(b'"ok"')


def test_a_request_that_comes_byte_by_byte_is_served(bench: Bench) -> None:
    with bench.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in CLOSING:
            connection.sendall(bytes([byte]))
        assert statuses(receive_all(connection)) == [200]


def test_a_client_may_close_its_sending_side_and_still_be_answered(bench: Bench) -> None:
    assert statuses(bench.send(HEALTH)) == [200]


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x00" * 100,
        os.urandom(200).replace(b"\x16", b"x"),
        b"HELLO\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nBad Header: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\n\r\n",
        b"CONNECT nowhere HTTP/1.1\r\n\r\n",
        b"CONNECT a:b:c HTTP/1.1\r\n\r\n",
        b"CONNECT / HTTP/1.1\r\nbroken\r\n\r\n",
    ],
)
def test_garbage_is_answered_with_400_and_the_connection_closed(bench: Bench, garbage: bytes) -> None:
    assert statuses(bench.send(garbage)) == [400]
    assert_alive(bench)


def test_garbage_after_a_good_request_does_not_spoil_its_answer(bench: Bench) -> None:
    answer = bench.send(HEALTH + b"\x00\x01\x02 garbage\r\n\r\n")
    assert statuses(answer)[0] == 200
    assert answer.count(b'"ok"') == 1


def test_garbage_inside_a_chunked_body_ends_the_request(bench: Bench) -> None:
    target = bench.client("s3", config={"proxies": {}, "s3": {"addressing_style": "path"}}).generate_presigned_url(
        "put_object", {"Bucket": "b", "Key": "garbage"}
    )
    path = target.removeprefix(bench.url)
    head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    failed = len(bench.objects.failed_uploads)
    bench.objects.upload_started.clear()
    with bench.connect() as connection:
        connection.sendall(head + b"3\r\nabc\r\n")
        assert bench.objects.upload_started.wait(10)
        connection.sendall(b"not a chunk\r\n")
        assert statuses(receive_all(connection)) == [400]
    deadline = time.monotonic() + 10
    while len(bench.objects.failed_uploads) == failed:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "b/garbage" not in bench.objects.objects


@pytest.mark.parametrize("step", [1 << 20, 4096])
def test_huge_headers_are_refused(bench: Bench, step: int) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: " + b"x" * (http.LONGEST_HEAD + 10_000) + b"\r\n\r\n"
    with bench.connect() as connection:
        for at in range(0, len(head), step):
            connection.sendall(head[at : at + step])
        assert statuses(receive_all(connection)) == [431]
    assert_alive(bench)


def test_an_endless_head_is_refused_before_it_ends(bench: Bench) -> None:
    for start in (b"GET / HTTP/1.1\r\n", b"CONNECT a:1 HTTP/1.1\r\n", b"GET /" + b"x" * 1000):
        with bench.connect() as connection:
            connection.sendall(start)
            answer = b""
            with suppress(OSError):  # it may have had enough
                for _ in range(200):
                    connection.sendall(b"X-A: " + b"y" * 2000 + b"\r\n" if start.endswith(b"\n") else b"x" * 2000)
            try:
                answer = receive_all(connection)
            except ConnectionResetError:
                continue
            assert statuses(answer) in ([431], [])
    assert_alive(bench)


def test_a_tls_hello_on_the_plain_port_is_closed_at_once(bench: Bench) -> None:
    import ssl

    context = ssl.create_default_context()
    with bench.connect() as connection, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(connection, server_hostname="localhost")
    assert_alive(bench)


def test_slow_heads_and_silent_connections_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (front, http):
        monkeypatch.setattr(module, "HEAD_LIMIT", 0.2)
        monkeypatch.setattr(module, "KEEP_ALIVE", 0.5)
        monkeypatch.setattr(module, "_LINGER", 0.2)
    monkeypatch.setattr(http, "_BODY_LIMIT", 0.2)
    with running(Bench(tmp_path)) as bench:
        for start in (b"GE", b"GET / HTTP/1.1\r\nHost:", b"CONNECT a:1 HTTP/1.1\r\nHo", b""):
            with bench.connect() as connection:
                connection.sendall(start)
                assert statuses(receive_all(connection)) == ([408] if start else []), start
        with bench.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            answer = receive_all(connection)
            assert statuses(answer) == [403], "refused unread; then the stalled body's connection is closed"


def test_a_stalled_upload_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "_BODY_LIMIT", 0.2)
    with running(Bench(tmp_path)) as bench:
        s3 = bench.client("s3", config={"proxies": {}, "s3": {"addressing_style": "path"}})
        path = s3.generate_presigned_url("put_object", {"Bucket": "b", "Key": "stalled"}).removeprefix(bench.url)
        with bench.connect() as connection:
            head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nContent-Length: 10\r\n\r\n"
            connection.sendall(head.encode() + b"abc")
            with suppress(ConnectionResetError):
                assert connection.recv(1000) == b""
        assert not bench.objects.objects


def test_stopping_answers_the_request_under_way_and_closes_the_rest(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    answers: list[bytes] = []
    with running(bench):
        s3 = bench.client("s3", config={"proxies": {}, "s3": {"addressing_style": "path"}})
        path = s3.generate_presigned_url("put_object", {"Bucket": "b", "Key": "late"}).removeprefix(bench.url)
        idle, busy = bench.connect(), bench.connect()
        idle.sendall(HEALTH)
        assert statuses(idle.recv(65536)) == [200]
        head = f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1:{bench.port}\r\nContent-Length: 10\r\n\r\n"
        busy.sendall(head.encode() + b"01234")
        assert bench.objects.upload_started.wait(10)

        def finish() -> None:
            assert idle.recv(100) == b"", "idle connections close first"
            busy.sendall(b"56789")
            answers.append(receive_all(busy))

        finishing = threading.Thread(target=finish)
        finishing.start()
    finishing.join(10)
    idle.close()
    busy.close()
    assert statuses(answers[0]) == [200]
    assert bench.objects.objects == {"b/late": b"0123456789"}


def test_sigterm_ends_a_server_process_with_exit_code_zero(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from support.front_bench import Bench
from sagewright.gateway.server import run
bench = Bench(Path(sys.argv[1]))
run(bench.gateway, bench.listener, bench.settings, bench.authority, ready=lambda: print(bench.port, flush=True))
bench.gateway.close()
print("closed", flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with socket.create_connection(("127.0.0.1", port), 5) as connection:
            connection.sendall(HEALTH)
            assert statuses(connection.recv(65536)) == [200]
            process.send_signal(signal.SIGTERM)
            assert process.wait(15) == 0
        assert process.stdout.read() == "closed\n"


def test_two_servers_may_share_one_inherited_socket(tmp_path: Path) -> None:
    first, second = Bench(tmp_path / "1"), Bench(tmp_path / "2")
    second.listener.close()
    second.listener = first.listener.dup()
    second.port = first.port
    with running(first), running(second):
        for _ in range(20):
            assert_alive(first)
