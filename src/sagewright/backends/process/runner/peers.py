"""The hosts of one job, by name: each has a hosts file of its own, and whoever arrives is written into all of them.

    own network      the address on the bridge, and a link between each two (`links`); known once the host has moved in,
                     so names may come a little late
    shared network   127.A.B.N for algo-N: the loopback has sixteen million addresses, and each job gets 254 of them

The file is written in place, because it is bound over /etc/hosts by then. A lock makes sure that of two hosts which
arrive at the same time, the later one finds the earlier one's file.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from contextlib import suppress

from . import links, network, processes
from .task import Task

PATIENCE = 10.0  # seconds that a program's start waits for the names of the others; they may resolve later all the same
_PAUSE = 0.005


def write_hosts(task: Task, record: str, path: str, rest: bytes) -> None:
    """The hosts file of this host at `path`: the hosts that are known, then `rest`."""
    if not task.bridge:
        _write(path, b"".join(_line(_loopback(task, name), name) for name in task.peers) + rest)
        return
    with network.alone():
        folder = os.path.dirname(record)
        own = _line(_address(record), task.hostname)
        known = {name: f"{folder}/{peer}" for name, peer in task.peers.items() if name != task.hostname}
        # Who has no hosts file has not been here: it will find this one, and make the link.
        there = {name: _address(peer) for name, peer in known.items() if os.path.exists(f"{peer}/hosts")}
        _write(path, own + b"".join(_line(address, name) for name, address in there.items()) + rest)
        for name, address in there.items():
            if pid := _pid(known[name]):
                links.join((task.hostname, _address(record)), (name, address), pid)
        for peer in known.values():
            _append(f"{peer}/hosts", own)


def gather(task: Task, hosts: str) -> None:
    """Wait a moment until every name is in the hosts file."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and not task.peers.keys() <= _names(hosts):
        time.sleep(_PAUSE)


def _names(hosts: str) -> set[str]:
    with open(hosts, errors="replace") as file:
        return {name for line in file for name in line.split()[1:]}


def _loopback(task: Task, name: str) -> str:
    ids = list(task.peers.values())
    job = zlib.crc32(ids[0].encode())
    return f"127.{1 + job % 254}.{job // 254 % 256}.{1 + list(task.peers).index(name)}"


def _address(record: str) -> str:
    """Empty while the host has none."""
    with suppress(FileNotFoundError), open(f"{record}/address") as file:
        return file.read().rpartition(":")[0]
    return ""


def _pid(record: str) -> int:
    """0 when it does not run."""
    with suppress(FileNotFoundError), open(f"{record}/pid") as file:
        identity = processes.Identity(*json.load(file)["identity"])
        return identity.pid if processes.alive(identity) else 0
    return 0


def _line(address: str, name: str) -> bytes:
    return f"{address} {name}\n".encode()


def _write(path: str, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)


def _append(path: str, line: bytes) -> None:
    """In one piece, and only to a file that is there: a host that comes later reads who is there already."""
    with suppress(FileNotFoundError):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
