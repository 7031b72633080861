"""Clients of the router on bare sockets: whole signed requests, and connections that are kept."""

from __future__ import annotations

import re
import socket
import time
from datetime import UTC, datetime

import botocore.auth
import botocore.awsrequest
import botocore.credentials

from support.router_bench import Bench


def signed(bench: Bench, name: str, body: bytes = b"12345", moment: datetime | None = None, **headers: str) -> bytes:
    """A whole request of a client that signs with the bench's keys at that moment."""
    keys = botocore.credentials.Credentials(
        bench.credentials.access_key, bench.credentials.secret_key, bench.credentials.session_token
    )
    given = {"Content-Type": "text/csv"} | {key.replace("_", "-"): value for key, value in headers.items()}
    url = f"{bench.url}/endpoints/{name}/invocations"
    request = botocore.awsrequest.AWSRequest("POST", url, data=body, headers=given)
    auth = botocore.auth.SigV4Auth(keys, "sagemaker", "us-east-1")
    request.context["timestamp"] = (moment or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    auth._modify_request_before_signing(request)
    canonical = auth.canonical_request(request)
    auth._inject_signature_to_request(request, auth.signature(auth.string_to_sign(request, canonical), request))
    lines = [f"POST /endpoints/{name}/invocations HTTP/1.1", f"Host: 127.0.0.1:{bench.port}"]
    lines += [f"Content-Length: {len(body)}", *(f"{key}: {value}" for key, value in request.headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Kept:
    """One connection of a client, warm: a few requests were answered."""

    def __init__(self, bench: Bench, name: str) -> None:
        self.socket = bench.connect()
        self._rest = b""
        for _ in range(3):
            self.send(signed(bench, name))
            assert self.receive()[0] == 200

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_apart(self, *pieces: bytes) -> None:
        """So that they are received apart."""
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.socket.sendall(piece)
            time.sleep(0.01)

    def receive(self) -> tuple[int, bytes, bytes]:
        """Status, head and body of the next answer."""
        while b"\r\n\r\n" not in self._rest:
            self._more()
        head, _, rest = self._rest.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)content-length: (\d+)", head)
        assert length is not None, head
        while len(rest) < int(length[1]):
            self._more()
            rest = self._rest.partition(b"\r\n\r\n")[2]
        self._rest = rest[int(length[1]) :]
        return int(head[9:12]), head, rest[: int(length[1])]

    def ask(self, data: bytes) -> tuple[int, bytes, bytes]:
        self.send(data)
        return self.receive()

    @property
    def is_closed(self) -> bool:
        return not self._rest and self.socket.recv(1) == b""

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.socket.close()

    def _more(self) -> None:
        piece = self.socket.recv(65536)
        assert piece, f"the connection was closed after {self._rest!r}"
        self._rest += piece
