"""Memory and CPU limits by control groups, version 1 or 2, as far as this process may create any.

A group is made beside or below the runner's own, so that a limit around Sagewright itself stays in force. Where none
can be made there is no limit at all: an address space limit (RLIMIT_AS) would kill programs that merely map much.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_PERIOD = 100_000  # microseconds over which CPU time is counted, the kernel's and Docker's default


class Group:
    """The folders that limit one workload: one in version 2, one per controller in version 1."""

    def __init__(self, folders: list[str], memory: str | None) -> None:
        self.folders = folders
        self._memory = memory

    def join(self) -> None:
        """Move the calling process in."""
        for folder in self.folders:
            _write(f"{folder}/cgroup.procs", "0")

    def out_of_memory(self) -> bool:
        """Whether the kernel killed anything in here at the memory limit."""
        if self._memory is None:
            return False
        for name in ("memory.events", "memory.oom_control"):
            try:
                with open(f"{self._memory}/{name}") as file:
                    lines = [line.split() for line in file]
            except FileNotFoundError:
                continue
            return any(line[0] == "oom_kill" and line[1] != "0" for line in lines)
        return False

    def remove(self) -> None:
        remove(self.folders)


def remove(folders: list[str]) -> None:
    """Remove groups that are empty; one that still holds a dying process is left to the next attempt."""
    for folder in folders:
        try:
            os.rmdir(folder)
        except OSError:
            continue


def create(name: str, memory: int | None, cpus: float | None) -> Group:
    """Limits for a workload, as far as they are asked for and the machine lets us set them."""
    folders: list[str] = []
    limited: str | None = None
    if memory is not None and (folder := _create("memory", name)):
        folders.append(folder)
        limited = folder
        _limit_memory(folder, memory)
    if cpus is not None and (folder := _create("cpu", name)):
        if folder not in folders:
            folders.append(folder)
        _limit_cpu(folder, cpus)
    return Group(folders, limited)


def _limit_memory(folder: str, limit: int) -> None:
    if os.path.exists(f"{folder}/memory.max"):
        _write(f"{folder}/memory.max", str(limit))
        _write_if_there(f"{folder}/memory.swap.max", "0")
        _write_if_there(f"{folder}/memory.oom.group", "1")
        return
    _write(f"{folder}/memory.limit_in_bytes", str(limit))
    _write_if_there(f"{folder}/memory.memsw.limit_in_bytes", str(limit))


def _limit_cpu(folder: str, cpus: float) -> None:
    quota = max(1000, round(cpus * _PERIOD))  # the kernel's least is one millisecond
    if os.path.exists(f"{folder}/cpu.max"):
        _write(f"{folder}/cpu.max", f"{quota} {_PERIOD}")
        return
    _write(f"{folder}/cpu.cfs_period_us", str(_PERIOD))
    _write(f"{folder}/cpu.cfs_quota_us", str(quota))


def _create(controller: str, name: str) -> str | None:
    """A new group with `controller` working in it: below our own group, else below the nearest ancestor that allows."""
    for parent, sign in _parents(controller):
        folder = f"{parent}/{name}"
        try:
            os.makedirs(folder, exist_ok=True)
            if not os.path.exists(f"{folder}/{sign}"):
                _write(f"{parent}/cgroup.subtree_control", f"+{controller}")
            if os.path.exists(f"{folder}/{sign}") and os.access(f"{folder}/cgroup.procs", os.W_OK):
                return folder
        except OSError:
            pass  # not allowed here: the next ancestor may be delegated to us
        remove([folder])
    return None


def _parents(controller: str) -> Iterator[tuple[str, str]]:
    """(folder, file that shows the controller) from our own group up to the root of its hierarchy."""
    sign = {"memory": ("memory.limit_in_bytes", "memory.max"), "cpu": ("cpu.cfs_quota_us", "cpu.max")}[controller]
    own = _own_groups()
    for root, mounted_at, kinds in _mounts():
        unified = "cgroup2" in kinds
        if not unified and controller not in kinds:
            continue
        path = own.get("" if unified else controller)
        if path is None:
            continue
        path = path[len(root) :] if root != "/" and path.startswith(root) else path
        parts = [part for part in path.split("/") if part]
        for length in range(len(parts), -1, -1):
            yield "/".join([mounted_at, *parts[:length]]), sign[unified]


def _own_groups() -> dict[str, str]:
    """Controller → path of our group; the unified hierarchy's key is empty."""
    groups: dict[str, str] = {}
    with open("/proc/self/cgroup") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            groups.update(dict.fromkeys(controllers.split(","), path))
    return groups


def _mounts() -> Iterator[tuple[str, str, set[str]]]:
    """(root within the hierarchy, where it is mounted, controllers or `cgroup2`)."""
    with open("/proc/self/mountinfo") as file:
        for line in file:
            left, _, right = line.partition(" - ")
            kind, _, options = right.split()[:3]
            if kind in ("cgroup", "cgroup2"):
                root, mounted_at = left.split()[3:5]
                yield root, mounted_at, {kind, *options.split(",")}


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _write_if_there(path: str, text: str) -> None:
    if os.path.exists(path):
        _write(path, text)
