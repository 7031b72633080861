"""Serving where all workloads share this machine's network, hence its ports: one port is found for each.

The first gets the port that it asked for. Further ones get another and are told by SAGEMAKER_BIND_TO_PORT, as on AWS
where containers share an instance. A program that does not heed it finds its port taken, and its end says so.

A claim is the name of an abstract socket, which the kernel frees when the runner ends, however it ends.
"""

from __future__ import annotations

import os
import socket

from .task import CannotRun, Task

VARIABLE = "SAGEMAKER_BIND_TO_PORT"
_OTHERS = range(18080, 20000)  # below those that the kernel gives to outgoing connections
_SIGNS = (b"address already in use", b"eaddrinuse", b"connection in use", b"errno 98")
_TAIL = 16 * 1024  # bytes of the log in which a program says that it found its port taken


class Claim:
    """`port` is this workload's for as long as its runner holds `_held`."""

    def __init__(self, wanted: int, port: int, held: socket.socket) -> None:
        self.port = port
        self._wanted = wanted
        self._held = held

    def explain(self, code: int, log: str) -> str:
        """Why the program failed, when it is that it insisted on a port that it did not get; else empty."""
        if code == 0 or self.port == self._wanted or not _says_taken(log):
            return ""
        return (
            f"Its program serves port {self._wanted} whatever {VARIABLE} says ({self.port}), and port {self._wanted} "
            "of this machine is taken: without root all instances share the machine's network. Make the program listen "
            f"on the port that {VARIABLE} names, run one instance at a time, run Sagewright as root, or use Docker."
        )


def claim(task: Task) -> Claim | None:
    """For a workload that serves a port; tells its environment. CannotRun when no port is left."""
    if not task.ports or task.bridge:
        return None
    wanted = task.ports[0]
    for port in (wanted, *_OTHERS):
        held = _hold(port)
        if held is not None:
            task.env[VARIABLE] = str(port)
            return Claim(wanted, port, held)
    raise CannotRun("start", f"Port {wanted} and those from {_OTHERS[0]} to {_OTHERS[-1]} of this machine are taken.")


def _hold(port: int) -> socket.socket | None:
    held = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        held.bind(f"\0sagewright/port/{port}")
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(("0.0.0.0", port))
    except OSError:
        held.close()
        return None
    return held


def _says_taken(log: str) -> bool:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
            text = file.read().lower()
    except OSError:
        return False
    return any(sign in text for sign in _SIGNS)
