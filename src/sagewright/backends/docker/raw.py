"""One streamed answer from the engine's socket, at the speed of the socket.

The engine sends each log line as an HTTP chunk of its own. A general client does some work for each chunk, which for
100,000 lines a second is more than all the rest; here what gathered in the socket is read and taken apart at once.
Owns: the request's bytes, chunked bodies. Does not own: what an answer means (`engine`).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from typing import Final

_READ: Final = 1 << 16  # bytes at a time, at most
_GATHER: Final = (
    0.001  # seconds between reads: the engine writes each line by itself, and to be woken for each costs most
)
_HEAD: Final = 1 << 16


class Answered(Exception):
    """The engine gave another status than 200. `body` has its words."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Chunks:
    """A chunked body, piece by piece (RFC 9112, section 7.1). `ended` once the last chunk came."""

    def __init__(self) -> None:
        self.ended = False
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The content of the chunks that are whole. Raises ValueError for what is no chunk."""
        data = self._rest + data if self._rest else data
        parts: list[bytes] = []
        position, size = 0, len(data)
        while (feed := data.find(b"\r\n", position)) >= 0:
            length = int(data[position:feed].partition(b";")[0], 16)
            start = feed + 2
            if start + length + 2 > size:
                break
            parts.append(data[start : start + length])
            position = start + length + 2
            if not length:
                self.ended = True
                break
        self._rest = data[position:]
        return b"".join(parts)


async def get(path: str, target: str, connect: float) -> AsyncGenerator[bytes, None]:
    """The body of `GET target` from the socket at `path`, as it comes.

    Raises Answered, OSError (also when the answer is cut before its end), TimeoutError when there is no connection
    within `connect` seconds, ValueError when it is no HTTP.
    """
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        async with asyncio.timeout(connect):
            await loop.sock_connect(connection, path)
        await loop.sock_sendall(
            connection, f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        status, chunked, length, rest = await _head(connection)
        if status != 200:
            raise Answered(status, (await _whole(connection, rest, chunked=chunked)).decode("utf-8", "replace"))
        if rest == b"" and length == 0:
            return  # Podman, of a log without lines
        if not chunked:
            raise ValueError("a stream that is not chunked: its end could not be told from a cut")
        chunks = Chunks()
        while True:
            if content := chunks.feed(rest):
                yield content
            if chunks.ended:
                return
            await asyncio.sleep(_GATHER)
            if not (rest := await loop.sock_recv(connection, _READ)):
                raise ConnectionResetError("the connection was closed before the stream's end")


async def _head(connection: socket.socket) -> tuple[int, bool, int | None, bytes]:
    """The status, whether the body is chunked, its length where it is told, and what came of it already."""
    got = b""
    while b"\r\n\r\n" not in got:
        if len(got) > _HEAD or not (more := await asyncio.get_running_loop().sock_recv(connection, _READ)):
            raise ConnectionResetError("the connection was closed before an answer")
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    protocol, status = first.split(b" ", 2)[:2]
    if not protocol.startswith(b"HTTP/1."):
        raise ValueError(f"no HTTP: {first[:40]!r}")
    fields = [line.lower().replace(b" ", b"") for line in lines]
    length = next((int(each.partition(b":")[2]) for each in fields if each.startswith(b"content-length:")), None)
    return int(status), b"transfer-encoding:chunked" in fields, length, rest


async def _whole(connection: socket.socket, body: bytes, *, chunked: bool) -> bytes:
    while more := await asyncio.get_running_loop().sock_recv(connection, _READ):
        body += more
    return Chunks().feed(body) if chunked else body
