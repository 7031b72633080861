"""`sagewright up` to the first signed API answer: at most 1 s. Idle memory of all processes: at most 200 MiB.

Memory is PSS (shared pages counted once, /proc/PID/smaps_rollup), a few seconds after the start; RSS is printed too.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from common import Server, finish, spread, verdict

from support.server import COMMAND, plain_environment

ROUNDS = 7


def main() -> None:
    times, held, resident = [], 0.0, 0.0
    for number in range(ROUNDS):
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            server = Server(Path(folder) / "data")
            if number:  # the first round is a first start: keys and database are made, and it warms the caches
                server.start()
                server.stop()
            times.append(start_to_answer(server))
            if number == ROUNDS - 1:
                time.sleep(5)
                held, resident = memory(server)
            server.stop()
    print(f"very first start to first answer: {times[0] * 1000:.0f} ms")
    print(f"start to first answer, ms (min / median / max of {ROUNDS - 1}): {spread(times[1:])}")
    print(f"idle memory: PSS {held:.0f} MiB, sum of RSS {resident:.0f} MiB")
    finish(
        verdict("sagewright up to the first API answer", statistics.median(times[1:]), 1.0, unit=" s"),
        verdict("idle memory of all processes", held, 200, unit=" MiB"),
    )


def start_to_answer(server: Server) -> float:
    """Seconds from typing `sagewright up` until GetCallerIdentity answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    begun = time.monotonic()
    command = [*COMMAND, "up", "--detach", "--port", str(port), "--data", str(server.data)]
    up = subprocess.Popen(command, env=plain_environment(), stdout=subprocess.DEVNULL)
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as connection:
                connection.sendall(b"GET /_sagewright/health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                if connection.recv(100).startswith(b"HTTP/1.1 200"):
                    break
        except OSError:
            time.sleep(0.005)
    answered = time.monotonic() - begun
    up.wait()
    server.url = server.status()["url"]
    server.client("sts").get_caller_identity()
    return answered


def memory(server: Server) -> tuple[float, float]:
    """PSS and RSS of all processes, MiB."""
    totals = {"Pss:": 0, "Rss:": 0}
    for pid in server.status()["pids"]:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            name, value = line.split()[0], line.split()[1]
            if name in totals:
                totals[name] += int(value)
    return totals["Pss:"] / 1024, totals["Rss:"] / 1024


if __name__ == "__main__":
    main()
