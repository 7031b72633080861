"""The port as a forward proxy: tunnels to foreign hosts, an outer proxy, and what it refuses."""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import requests

from sagewright.gateway import front as front_module
from sagewright.gateway.authority import Authority
from support.front_bench import Bench, receive_all, running

Handler = Callable[[socket.socket], None]


@contextmanager
def listening(handler: Handler) -> Iterator[int]:
    """A foreign server: `handler` gets each connection, in a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threads: list[threading.Thread] = []

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                thread = threading.Thread(target=serve, args=(connection,))
                threads.append(thread)
                thread.start()

        def serve(connection: socket.socket) -> None:
            with connection:
                connection.settimeout(10)
                handler(connection)

        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(10)
            for thread in threads:
                thread.join(10)
                assert not thread.is_alive()


def read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(1)
        if not piece:
            break
        head += piece
    return head


def connect_through(bench: Bench, target: str) -> tuple[socket.socket, bytes]:
    connection = bench.connect()
    connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    return connection, read_head(connection)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("proxy"))) as made:
        yield made


def echo_digest(connection: socket.socket) -> None:
    """Reads to the end of input, then tells its digest: needs a half-close that passes through."""
    digest = hashlib.sha256()
    while piece := connection.recv(65536):
        digest.update(piece)
    connection.sendall(digest.hexdigest().encode())


def test_a_tunnel_carries_bytes_both_ways_and_half_closes(bench: Bench) -> None:
    content = os.urandom(3_000_000)
    with listening(echo_digest) as port:
        connection, head = connect_through(bench, f"127.0.0.1:{port}")
        with connection:
            assert head.startswith(b"HTTP/1.1 200 ")
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            assert receive_all(connection).decode() == hashlib.sha256(content).hexdigest()


def test_a_server_that_speaks_first_is_heard(bench: Bench) -> None:
    with listening(lambda connection: connection.sendall(b"220 hello\r\n")) as port:
        connection, head = connect_through(bench, f"localhost:{port}")
        with connection:
            assert head.startswith(b"HTTP/1.1 200 ")
            assert receive_all(connection) == b"220 hello\r\n"


def test_bytes_sent_with_the_connect_are_not_lost(bench: Bench) -> None:
    with listening(echo_digest) as port, bench.connect() as connection:
        connection.sendall(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\n\r\nearly".encode())
        connection.shutdown(socket.SHUT_WR)
        assert receive_all(connection).endswith(hashlib.sha256(b"early").hexdigest().encode())


def test_a_slow_reader_slows_the_sender_down(bench: Bench) -> None:
    sent = []

    def pour(connection: socket.socket) -> None:
        connection.settimeout(1)
        try:
            for _ in range(1000):
                connection.sendall(b"x" * 65536)
                sent.append(65536)
        except TimeoutError:
            sent.append(-1)

    with listening(pour) as port:
        connection, _ = connect_through(bench, f"127.0.0.1:{port}")
        with connection:
            deadline = threading.Event()
            while not sent or sent[-1] != -1:
                assert not deadline.wait(0.05)
            assert sum(sent) < 32 << 20, "the relay took in what nobody read"


def test_foreign_tls_is_untouched(bench: Bench, tmp_path: Path) -> None:
    """The client sees the foreign server's own certificate, not one of ours."""
    other = Authority(tmp_path / "other")
    other.prepare()
    context = other.context("localhost")

    def serve(connection: socket.socket) -> None:
        with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as tls:
            read_head(tls)
            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nforeign")

    with listening(serve) as port:
        url = f"https://localhost:{port}/"
        answer = requests.get(url, proxies={"https": bench.url}, verify=str(other.certificate), timeout=10)
        assert answer.text == "foreign"
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(url, proxies={"https": bench.url}, verify=str(bench.authority.bundle), timeout=10)


def test_plain_http_to_a_foreign_host_is_passed_on(bench: Bench) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(read_head(connection) + connection.recv(5))
        connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    with listening(serve) as port:
        url = f"http://127.0.0.1:{port}/path?x=1"
        answer = requests.post(url, data=b"bytes", proxies={"http": bench.url}, timeout=10)
    assert (answer.status_code, answer.text) == (201, "ok")
    assert seen[0].startswith(b"POST /path?x=1 HTTP/1.1\r\n")
    assert seen[0].endswith(b"\r\n\r\nbytes")
    assert b"\r\nConnection: close\r\n" in seen[0]


def test_a_second_request_on_a_forwarded_connection_does_not_reach_the_first_host(bench: Bench) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        connection.settimeout(0.5)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except TimeoutError:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        seen.append(received)

    with listening(serve) as port, bench.connect() as connection:
        head = f"POST http://127.0.0.1:{port}/ HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
        connection.sendall(head.encode() + b"GET http://other.example/secret HTTP/1.1\r\nHost: other.example\r\n\r\n")
        assert receive_all(connection).startswith(b"HTTP/1.1 200 OK")
    assert seen[0].endswith(b"\r\n\r\nabc")


def test_a_host_that_does_not_answer_is_a_502_that_names_it(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    connection, _ = connect_through(bench, f"127.0.0.1:{port}")
    with connection:
        assert f"127.0.0.1:{port} cannot be reached" in receive_all(connection).decode()


def test_a_name_that_does_not_resolve_is_a_502(bench: Bench) -> None:
    connection, head = connect_through(bench, "no-such-host.invalid:443")
    with connection:
        assert head.startswith(b"HTTP/1.1 502 ")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])
def test_a_loop_through_ourselves_is_refused(bench: Bench, host: str) -> None:
    connection, head = connect_through(bench, f"{host}:{bench.port}")
    with connection:
        assert head.startswith(b"HTTP/1.1 508 ")


def test_aws_hosts_on_other_ports_are_not_taken_for_apis(bench: Bench) -> None:
    connection, head = connect_through(bench, "db.cluster.us-east-1.rds.amazonaws.com:5432")
    with connection:
        assert not head.startswith(b"HTTP/1.1 200 ")


def test_clients_from_elsewhere_may_not_use_the_proxy_but_the_api(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front_module, "may_use_proxy", lambda *_: False)
    for request in (b"CONNECT sts.us-east-1.amazonaws.com:443", b"CONNECT h.example:1", b"GET http://h.example/"):
        with bench.connect() as connection:
            connection.sendall(request + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            answer = receive_all(connection)
            assert answer.startswith(b"HTTP/1.1 403 "), request
            assert b"proxy_networks" in answer
    assert bench.client("sts").get_caller_identity()["Account"] == "000000000000"


def test_containers_may_not_reach_this_machine_through_the_proxy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "is_loopback", lambda _: False)
    with listening(echo_digest) as port:
        for host in ("127.0.0.1", "localhost", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"):
            connection, head = connect_through(bench, f"{host}:{port}")
            with connection:
                assert head.startswith(b"HTTP/1.1 403 "), host


def test_a_client_that_does_not_trust_us_hurts_nobody(bench: Bench) -> None:
    connection, head = connect_through(bench, "sts.us-east-1.amazonaws.com:443")
    assert head.startswith(b"HTTP/1.1 200 ")
    with connection, pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(connection, server_hostname="sts.us-east-1.amazonaws.com")
    connection, _ = connect_through(bench, "sts.us-east-1.amazonaws.com:443")
    with connection:
        connection.sendall(b"this is not TLS at all, is it?\r\n\r\n")
        with suppress(ConnectionResetError):
            assert not connection.recv(1000).startswith(b"HTTP")
    connection, _ = connect_through(bench, "sts.us-east-1.amazonaws.com:443")
    connection.close()
    assert bench.client("sts").get_caller_identity()["Account"] == "000000000000"


class OuterProxy:
    """A corporate proxy: wants a login, joins what it is asked to, remembers what it was asked."""

    def __init__(self, answer: bytes = b"HTTP/1.1 200 OK\r\nX-Proxy: corp\r\n\r\n") -> None:
        self.heads: list[bytes] = []
        self._answer = answer

    def __call__(self, connection: socket.socket) -> None:
        head = read_head(connection)
        self.heads.append(head)
        if head.startswith(b"CONNECT "):
            connection.sendall(self._answer + b"first words")
            if b" 200 " in self._answer:
                echo_digest(connection)
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ncorp")


def test_foreign_hosts_go_through_the_outer_proxy(tmp_path: Path) -> None:
    outer = OuterProxy()
    with listening(outer) as port, running(Bench(tmp_path), f"http://me:p%40ss@127.0.0.1:{port}") as bench:
        connection, head = connect_through(bench, "registry.example:443")
        with connection:
            assert head.startswith(b"HTTP/1.1 200 ")
            connection.sendall(b"bytes")
            connection.shutdown(socket.SHUT_WR)
            expected = b"first words" + hashlib.sha256(b"bytes").hexdigest().encode()
            assert receive_all(connection) == expected
        plain = requests.get("http://plain.example/x", proxies={"http": bench.url}, timeout=10)
        assert plain.text == "corp"
    assert outer.heads[0].startswith(b"CONNECT registry.example:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in outer.heads[0]
    assert outer.heads[1].startswith(b"GET http://plain.example/x HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic bWU6cEBzcw==\r\n" in outer.heads[1]


def test_aws_hosts_and_this_machine_never_go_through_the_outer_proxy(tmp_path: Path) -> None:
    outer = OuterProxy()
    with (
        listening(outer) as port,
        listening(echo_digest) as own,
        running(Bench(tmp_path), f"127.0.0.1:{port}") as bench,
    ):
        connection, head = connect_through(bench, f"127.0.0.1:{own}")
        connection.close()
        assert head.startswith(b"HTTP/1.1 200 ")
        connection, head = connect_through(bench, "sts.us-east-1.amazonaws.com:443")
        connection.close()
        assert head.startswith(b"HTTP/1.1 200 ")
    assert not outer.heads


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", 407),
        (b"HTTP/1.1 403 Blocked\r\n\r\n", 403),
        (b"SSH-2.0-OpenSSH\r\n\r\n", 502),
        (b"", 502),
        (b"x" * 100_000, 502),
    ],
)
def test_an_outer_proxy_that_refuses_is_reported(tmp_path: Path, answer: bytes, status: int) -> None:
    with listening(OuterProxy(answer)) as port, running(Bench(tmp_path), f"http://127.0.0.1:{port}") as bench:
        connection, head = connect_through(bench, "registry.example:443")
        with connection:
            assert head.startswith(f"HTTP/1.1 {status} ".encode())
            assert f"127.0.0.1:{port}".encode() in receive_all(connection)


def test_open_tunnels_do_not_keep_a_stopping_server_alive(tmp_path: Path) -> None:
    with listening(lambda connection: connection.recv(1)) as port:
        with running(Bench(tmp_path)) as bench:
            connection, head = connect_through(bench, f"127.0.0.1:{port}")
            assert head.startswith(b"HTTP/1.1 200 ")
        with connection:
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""
