"""Try, in a scratch folder, everything a workload would need of the kernel, and print what it granted as JSON.

Run as `run.py --probe` with a `workload.json` for /bin/true-like work in the current folder; leaves nothing running.
"""

from __future__ import annotations

import json
import os
import sys

from . import cgroups, child, start, syscalls
from .task import Task, load


def probe() -> None:
    task = load("workload.json")
    record = os.getcwd()
    found = {"memory": _limits(1 << 30, None), "cpus": _limits(None, 1.0), "namespaces": _namespaces(task, record)}
    sys.stdout.write(json.dumps(found))


def _limits(memory: int | None, cpus: float | None) -> bool:
    try:
        group = cgroups.create(f"workload-probe-{os.getpid()}", memory, cpus)
    except OSError:
        return False
    group.remove()
    return bool(group.folders)


def _namespaces(task: Task, record: str) -> str:
    """Empty when the kernel grants all; else what it refused."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(reading)
        _try(task, record, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(middle, 0)
    return said.decode(errors="replace")


def _try(task: Task, record: str, writing: int) -> None:
    """In a child, because what is unshared cannot be taken back. Never returns."""
    try:
        if task.user_namespace:
            start.enter_user_namespace()
        syscalls.unshare(syscalls.CLONE_NEWPID)
        first = os.fork()
        if first == 0:
            child.enter(task, record)
            os._exit(0)
        os.waitpid(first, 0)
    except BaseException as error:
        os.write(writing, str(error).encode())
    finally:
        os._exit(0)
