"""Batch transform's driver against wrk on the same container, and over a million lines and one very large object.

wrk ─▶ container;  driver ─▶ container     the same payloads, the same concurrency, one run, in turn: at least 0.9 of
                                           its records/s when a request costs the container 0.2 ms; and, to be seen
                                           but no claim, when it costs nothing but HTTP
1,000,000 lines, MultiRecord: driver CPU at most 25 µs a record, and at most 1.1 times the memory of 500,000
one object of 2 GB, MaxPayloadInMB=0: memory flat there too

The container is uvicorn with one worker that echoes. wrk is a Debian package of that name.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from common import finish, verdict
from router_parts import free_port, process

from support.transform_runs import BUCKET, Runs

ROUNDS, SECONDS, CONCURRENCY = 7, 2, 8
WORK = 0.0002  # seconds of CPU that a small model takes
LINES = [os.urandom(50).hex() for _ in range(100)]  # 100 bytes each
MILLION = 1_000_000
HUGE = 2 << 30
BLOCK = os.urandom(1 << 20)


def main() -> None:
    port, other = free_port(), free_port()
    with process(sys.executable, __file__, "serve", str(other), str(WORK), port=other):
        ratio = rate(other)
        holds = [verdict("records/s against wrk, a small model", ratio, 0.9, at_most=False, unit="x")]
    with process(sys.executable, __file__, "serve", str(port), "0", port=port):
        print(f"      records/s against wrk, no model at all: {rate(port):.3g}x")
        holds += [*million(port), huge(port)]
    finish(*holds)


@contextmanager
def runs() -> Iterator[Runs]:
    with tempfile.TemporaryDirectory(prefix="bench-transform-") as folder:
        made = Runs(Path(folder) / "data")
        try:
            yield made
        finally:
            made.store.close()


def rate(port: int) -> float:
    """Ours by theirs, with SingleRecord: the most requests there can be for the bytes."""
    ratios = []
    with runs() as made, tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua())
        script.flush()
        made.put({"in/a.csv": lines(10_000)})
        warm = drive(made, port, BatchStrategy="SingleRecord")
        count = round(warm["records_per_second"] * SECONDS)
        made.put({"in/a.csv": lines(count)})
        for _ in range(ROUNDS):
            theirs = wrk(script.name, port)
            ours = drive(made, port, BatchStrategy="SingleRecord")["records_per_second"]
            ratios.append(ours / theirs)
            print(f"wrk {theirs:.0f}/s, driver {ours:.0f}/s, {CONCURRENCY} at once")
    return statistics.median(ratios)


def million(port: int) -> list[bool]:
    with runs() as made:
        made.put({"in/a.csv": lines(MILLION // 2)})
        small = drive(made, port, concurrency=1)
        made.put({"in/a.csv": lines(MILLION)})
        large = drive(made, port, concurrency=1)
        assert large["records"] == MILLION
    print(
        f"{large['records_per_second']:.0f} records/s, {large['rss']:.0f} MB ({small['rss']:.0f} MB for half of them)"
    )
    return [
        verdict("driver CPU per record, MultiRecord", large["cpu"] / MILLION * 1e6, 25, unit=" µs"),
        verdict("memory for a million lines against half of them", large["rss"] / small["rss"], 1.1, unit="x"),
    ]


def huge(port: int) -> bool:
    with runs() as made:
        with made.objects.put_stream(BUCKET, "in/a.bin") as writer:
            for _ in range(HUGE // len(BLOCK)):
                writer.write(BLOCK)
            writer.commit()
        found = drive(made, port, MaxPayloadInMB=0, TransformInput={"SplitType": "None"})
        (size,) = [each.size for each in made.objects.list(BUCKET, "out/")]
        assert size >= HUGE
    print(f"{found['bytes'] / found['seconds'] / 1e6:.0f} MB/s both ways, {found['rss']:.0f} MB")
    return verdict(f"memory for one object of {HUGE >> 30} GiB", found["rss"], 150, unit=" MB")


def drive(made: Runs, port: int, concurrency: int = CONCURRENCY, **more: Any) -> dict[str, Any]:
    """One run of a driver's process: its last progress, its CPU and wall seconds, its largest memory in MB."""
    output = {"AssembleWith": "Line"}
    job = made.job(f"127.0.0.1:{port}", MaxConcurrentTransforms=concurrency, TransformOutput=output, **more)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = made.run(job)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    shutil.rmtree(job.root.parent)
    if result["error"]:
        sys.exit(result["error"])
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**result["progress"], "cpu": cpu, "rss": result["rss"], "seconds": result["seconds"]}


def lines(count: int) -> bytes:
    whole, rest = divmod(count, len(LINES))
    return ("\n".join(LINES) + "\n").encode() * whole + "".join(f"{line}\n" for line in LINES[:rest]).encode()


def lua() -> str:
    listed = ",".join(f'"{line}"' for line in LINES)
    return (
        f'local bodies, n = {{{listed}}}, 0\nlocal headers = {{["Content-Type"] = "text/csv"}}\n'
        'request = function() n = n % #bodies + 1\nreturn wrk.format("POST", "/invocations", headers, bodies[n]) end\n'
    )


def wrk(script: str, port: int) -> float:
    """Requests per second; fails on any answer but 200."""
    command = ["wrk", "-t1", f"-c{CONCURRENCY}", f"-d{SECONDS}s", "-s", script, f"http://127.0.0.1:{port}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        sys.exit(done.stdout)
    found = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application. Large bodies are echoed piece by piece."""
    if scope["type"] != "http":
        return
    found = scope["path"] == "/invocations"
    work()
    head = {"type": "http.response.start", "status": 200 if found else 404, "headers": [(b"content-type", b"text/csv")]}
    begun = False
    while True:
        message = await receive()
        more = message.get("more_body", False)
        if not begun and not more:
            head["headers"].append((b"content-length", b"%d" % len(message["body"])))
        if not begun:
            await send(head)
            begun = True
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})
        if not more:
            return


def work() -> None:
    """What a model does, as far as HTTP sees it."""
    until = time.perf_counter() + float(sys.argv[3])
    while time.perf_counter() < until:
        pass


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        uvicorn.run(echo, port=int(sys.argv[2]), log_level="error", access_log=False, lifespan="off", loop="uvloop")
    else:
        main()
