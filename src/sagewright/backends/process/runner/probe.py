"""Try, in a scratch folder, everything a workload would need of the kernel, and print what it granted as JSON.

Run as `run.py --probe` with a `workload.json` for /bin/true-like work in the current folder; leaves nothing running.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable

from . import cgroups, child, network, rootfs, start, syscalls
from .task import Task, load


def probe() -> None:
    task = load("workload.json")
    record = os.getcwd()
    found = {
        "memory": _limits(1 << 30, None),
        "cpus": _limits(None, 1.0),
        "namespaces": _said(lambda: _enter(task, record)),
        "network": _said(network.try_out),
        "layers": _said(lambda: _layer(task, record)),
    }
    sys.stdout.write(json.dumps(found))


def _limits(memory: int | None, cpus: float | None) -> bool:
    try:
        group = cgroups.create(f"workload-probe-{os.getpid()}", memory, cpus)
    except OSError:
        return False
    group.remove()
    return bool(group.folders)


def _said(work: Callable[[], None]) -> str:
    """Empty when the kernel grants all of `work`; else what it refused. In a child, as what is unshared stays so."""
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(reading)
        _try(work, writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(middle, 0)
    return said.decode(errors="replace")


def _try(work: Callable[[], None], writing: int) -> None:
    """Never returns."""
    try:
        work()
    except BaseException as error:
        os.write(writing, str(error).encode())
    finally:
        os._exit(0)


def _enter(task: Task, record: str) -> None:
    if task.user_namespace:
        start.enter_user_namespace()
    syscalls.unshare(syscalls.CLONE_NEWPID)
    reading, writing = os.pipe()
    first = os.fork()
    if first == 0:
        _try(lambda: _become(task, record), writing)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    os.waitpid(first, 0)
    if said:
        raise OSError(said.decode(errors="replace"))


def _layer(task: Task, record: str) -> None:
    """Show a file through an overlay in `record`, and change it there."""
    if task.user_namespace:
        start.enter_user_namespace()
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("", "/", flags=syscalls.MS_REC | syscalls.MS_PRIVATE)
    lower, upper, work, merged = (f"{record}/layers/{name}" for name in ("lower", "upper", "work", "merged"))
    for folder in (lower, upper, work, merged):
        os.makedirs(folder)
    with open(f"{lower}/file", "w") as file:
        file.write("kept")
    rootfs.overlay(lower, upper, work, merged, user_namespace=task.user_namespace)
    with open(f"{merged}/file", "a") as file:
        file.write(" and changed")
    with open(f"{lower}/file") as file:
        if file.read() != "kept":
            raise OSError("an overlay let a change through")


def _become(task: Task, record: str) -> None:
    child.enter(task, record, child.join_network(task))
