"""Streaming through the router: the first byte at most 2 ms later than direct, and memory flat for a stream of 1 GB.

client ─▶ upstream;  client ─▶ router, signed ─▶ upstream       in turn, on kept connections
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import uvloop
from common import finish, paired, spread, verdict
from router_parts import credentials, folder, free_port, gateway, process, signed

ROUNDS = 400
SIZE = 1 << 30
PIECE = 256 * 1024


def main() -> None:
    port = free_port()
    with (
        folder() as place,
        process(sys.executable, __file__, "serve", str(port), port=port),
        gateway(place, f"127.0.0.1:{port}") as (router, running),
    ):
        request = signed(router, b"short", credentials(place), "invocations-response-stream")
        holds = [first_byte(request, router, port)]
        request = signed(router, b"long", credentials(place), "invocations-response-stream")
        holds += flat(request, router, running.pid)
    finish(*holds)


def first_byte(request: bytes, router: int, direct: int) -> bool:
    with (
        socket.create_connection(("127.0.0.1", router)) as ours,
        socket.create_connection(("127.0.0.1", direct)) as bare,
    ):
        for connection in (ours, bare):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            seconds_to_first_byte(connection, request)
        mine, theirs = paired(
            lambda: seconds_to_first_byte(ours, request), lambda: seconds_to_first_byte(bare, request), ROUNDS
        )
    print("first byte, ms (least / median / most): router", spread(mine), "direct", spread(theirs))
    later = statistics.median(a - b for a, b in zip(mine, theirs, strict=True)) * 1000
    p99 = (sorted(mine)[int(ROUNDS * 0.99)] - sorted(theirs)[int(ROUNDS * 0.99)]) * 1000
    print(f"p99 is {p99:.2f} ms later")
    return verdict("first streamed byte later than direct", later, 2.0, unit=" ms")


def seconds_to_first_byte(connection: socket.socket, request: bytes) -> float:
    """Until something of the body has come; then the rest is read, too."""
    begun = time.perf_counter()
    connection.sendall(request)
    received = b""
    while b"first" not in received:
        received += connection.recv(65536)
    took = time.perf_counter() - begun
    while not received.endswith(b"0\r\n\r\n"):
        received += connection.recv(65536)
    return took


def flat(request: bytes, router: int, pid: int) -> list[bool]:
    """Bytes and resident memory while a gigabyte passes, at full speed and then past a reader that dawdles."""
    before = resident(pid)
    highest, received, begun = before, 0, time.perf_counter()
    for total in receive(request, router):
        received, highest = total, max(highest, resident(pid))
    took = time.perf_counter() - begun
    print(f"{received / 1e9:.2f} GB in {took:.1f} s ({received / took / 1e6:.0f} MB/s), {before} -> {highest} KiB")
    return [
        verdict("bytes received of a 1 GB stream", received / SIZE, 1.0, at_most=False, unit="x"),
        verdict("growth of the router's memory", (highest - before) / 1024, 16.0, unit=" MiB"),
    ]


def receive(request: bytes, port: int) -> Iterator[int]:
    """Totals, one for about every 16 MB."""
    total, told = 0, 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(request)
        last = b""
        while not last.endswith(b"0\r\n\r\n"):
            piece = connection.recv(1 << 20)
            if not piece:
                raise AssertionError("the stream was cut")
            last = (last + piece)[-5:] if len(piece) < 5 else piece[-5:]
            total += len(piece)
            if total - told > 16_000_000:
                told = total
                time.sleep(0.02)  # now and then the reader dawdles
                yield total
    yield total


def resident(pid: int) -> int:
    """KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


async def serve(port: int) -> None:
    """A model server that streams."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(x.split(b":")[1]) for x in head.split(b"\r\n") if x.lower().startswith(b"content-length")
                )
                body = await reader.readexactly(length)
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
                piece = b"x" * PIECE
                for _ in range(SIZE // PIECE if body == b"long" else 1):
                    writer.writelines((b"%x\r\n" % PIECE, piece, b"\r\n"))
                    await writer.drain()
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(int(sys.argv[2])))
    else:
        main()
