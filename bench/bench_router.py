"""Signed InvokeEndpoint of 1 KiB through the router, against nginx in front of the same upstream, unsigned.

wrk ─▶ nginx, one worker ─▶ upstream        the same bytes, the same upstream, one run, in turn
wrk ─▶ router, signed    ─▶ upstream        requests per second: at least 0.6 of nginx
500 requests/s ─▶ upstream; ─▶ router ─▶ upstream: added latency p50 at most 0.5 ms, p99 at most 1.5 ms
3 times what a slow upstream can do: the goodput is at least 0.9 of its peak
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import uvloop
from common import finish, verdict
from router_parts import BODY, credentials, field, folder, free_port, gateway, process, signed

ROUNDS, SECONDS = 5, 4
CONNECTIONS = 64
RATE, RATE_SECONDS = 500, 3
SLICES = 11  # in turn direct and through the router; the figure is the median of the differences
WARM = 3  # requests of each connection that are not counted
WORKERS, WORK = 4, 0.02  # a slow upstream: so many at once, so many seconds each


def main() -> None:
    with folder() as place:
        holds = [*throughput(place), goodput(place)]
    finish(*holds)


def throughput(place: Path) -> list[bool]:
    with field(place) as (upstream, proxy, router, ours):
        bodies = [os.urandom(BODY // 2).hex().encode() for _ in range(64)]
        script = place / "requests.lua"
        script.write_text(lua([signed(router, body, credentials(place)) for body in bodies]))
        theirs = int((place / "proxy.pid").read_text())
        pairs = [(wrk(script, router, ours.pid), wrk(script, proxy, theirs)) for _ in range(ROUNDS)]
        print("router", [round(a.rate) for a, _ in pairs], "nginx", [round(b.rate) for _, b in pairs])
        ratio = statistics.median(a.rate / b.rate for a, b in pairs)
        spent = [round(statistics.median(run.cpu for run in runs)) for runs in zip(*pairs, strict=True)]
        print("CPU of the process per request, µs: router", spent[0], "nginx", spent[1])
        request = signed(router, bodies[0], credentials(place))
        slices = [(latencies(request, upstream), latencies(request, router)) for _ in range(SLICES)]
        added = [
            statistics.median(percentile(ours, share) - percentile(direct, share) for direct, ours in slices)
            for share in (0.5, 0.99)
        ]
        p50, p99 = (statistics.median(percentile(direct, share) for direct, _ in slices) for share in (0.5, 0.99))
        print(f"at {RATE}/s: direct p50 {p50:.2f} p99 {p99:.2f} ms")
    return [
        verdict("signed requests/s against nginx", ratio, 0.6, at_most=False, unit="x"),
        verdict(f"added latency at {RATE}/s, p50", added[0], 0.5, unit=" ms"),
        verdict(f"added latency at {RATE}/s, p99", added[1], 1.5, unit=" ms"),
    ]


def lua(requests: list[bytes]) -> str:
    """A wrk script that sends these bytes in turn."""
    listed = ",\n".join('"' + "".join(f"\\{byte:03d}" for byte in request) + '"' for request in requests)
    return (
        f"local requests = {{ {listed} }}\nlocal n = 0\n"
        "request = function() n = n % #requests + 1; return requests[n] end\n"
        "local bad = 0\nresponse = function(status) if status ~= 200 then os.exit(9) end end\n"
    )


class Run(NamedTuple):
    """`rate` in requests per second, `cpu` in microseconds per request."""

    rate: float
    cpu: float


def wrk(script: Path, port: int, server: int) -> Run:
    """Fails on any answer but 200. `server`: the process that answers, whose children count, too."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s", "-s", str(script), f"http://127.0.0.1:{port}"]
    before = cpu(server)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = cpu(server) - before
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(done.stdout)
    found = re.search(r"(\d+) requests in[^$]*Requests/sec:\s+([0-9.]+)", done.stdout)
    assert found, done.stdout
    return Run(float(found[2]), spent / int(found[1]))


def cpu(process: int) -> float:
    """Microseconds that the threads of a process and of its children have run."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return sum(
        int(stat.read_text().split()[0]) / 1e3
        for each in (process, *children)
        for stat in Path(f"/proc/{each}/task").glob("*/schedstat")
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def latencies(request: bytes, port: int) -> list[float]:
    """Milliseconds from the first byte out to the last byte in, at a steady rate that does not wait for answers."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(steady(request, port))


async def steady(request: bytes, port: int) -> list[float]:
    loop = asyncio.get_running_loop()
    clients = [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(16)]
    begun = time.perf_counter()
    for number in range(RATE * RATE_SECONDS):
        while (wait := begun + number / RATE - time.perf_counter()) > 0:
            await asyncio.sleep(wait if wait > 0.002 else 0)
        free = next((client for client in clients if not client.busy), None)
        if free is not None:
            free.send(request)
    await asyncio.sleep(0.2)
    return [took for client in clients for took in client.took[WARM:]]


class Client(asyncio.Protocol):
    """One connection: an answer is whole when its 1 KiB has come."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport
        self.busy, self.received = False, b""
        self.took: list[float] = []

    def send(self, request: bytes) -> None:
        self.busy, self.received = True, b""
        self.sent_at = time.perf_counter()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self.received += data
        _, end, body = self.received.partition(b"\r\n\r\n")
        if end and len(body) >= BODY:
            assert self.received.startswith(b"HTTP/1.1 200"), self.received
            self.busy = False
            self.took.append((time.perf_counter() - self.sent_at) * 1000)


def goodput(place: Path) -> bool:
    """Clients that come whether or not there are answers, at the capacity and at three times the capacity."""
    port = free_port()
    with (
        process(sys.executable, __file__, "slow", str(port), port=port),
        gateway(place, f"127.0.0.1:{port}", max_concurrent=16, queue=32) as (router, _),
    ):
        request = signed(router, b"x" * BODY, credentials(place))
        capacity = WORKERS / WORK
        rates = {}
        for times in (0.7, 1.0, 1.5, 3.0):
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rates[times] = runner.run(open_loop(request, router, capacity * times, 6))
        print("goodput per s at", {times: round(rate, 1) for times, rate in rates.items()}, "of", round(capacity))
        return verdict("goodput at 3 times capacity", rates[3.0] / max(rates.values()), 0.9, at_most=False, unit="x")


async def open_loop(request: bytes, port: int, rate: float, seconds: float) -> float:
    """Good answers per second; each request on a connection of its own."""
    good = 0

    async def ask() -> None:
        nonlocal good
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        if b" 200 " in await reader.readline():
            good += 1
        writer.close()

    asking: list[asyncio.Task[None]] = []
    begun = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        asking.append(asyncio.create_task(ask()))
        await asyncio.sleep(max(0.0, random.expovariate(rate)))
    counted = good / (now - begun)
    await asyncio.gather(*asking, return_exceptions=True)
    return counted


async def slow(port: int) -> None:
    """A model server that can do WORKERS / WORK requests per second, however many come."""
    workers = asyncio.Semaphore(WORKERS)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(BODY)
                async with workers:
                    await asyncio.sleep(WORK)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    if sys.argv[1:2] == ["slow"]:
        asyncio.run(slow(int(sys.argv[2])))
    else:
        main()
