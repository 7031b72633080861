"""What workloads of the process backend use of the machine, read from /proc and their control groups.

Owns: finding a workload's processes, adding up. Does not own: which workloads there are (`records`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sagewright.backends.process.records import Record
from sagewright.backends.process.runner import processes
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import Usage

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_MACHINE: Final = _PAGE * os.sysconf("SC_PHYS_PAGES")
_MEMORY: Final = ("memory.current", "memory.usage_in_bytes")  # control groups, version 2 and 1
_CACHE: Final = ("inactive_file", "total_inactive_file")  # given back when anybody asks: not counted, as by engines


@dataclass(frozen=True, slots=True)
class _Look:
    at: float  # monotonic seconds
    cpu: float  # seconds of CPU time since the workload's start


class Meter:
    """CPU time is told between two looks, so a workload has no usage at its first. Safe to lose."""

    def __init__(self) -> None:
        self._looks: dict[WorkloadId, _Look] = {}

    def read(self, records: Collection[Record]) -> Mapping[WorkloadId, Usage]:
        before, self._looks = self._looks, {}
        found: dict[WorkloadId, Usage] = {}
        for record in records:
            pids = list(_tree(record))
            if not pids:
                continue
            look = self._looks[record.id] = _Look(time.monotonic(), sum(map(_cpu, pids)))
            earlier = before.get(record.id)
            if earlier is not None and look.at > earlier.at:
                cpu = max(0.0, look.cpu - earlier.cpu) / (look.at - earlier.at)
                found[record.id] = Usage(cpu_percent=cpu * 100, memory_percent=_memory(record, pids) * 100)
        return found


def _tree(record: Record) -> Iterator[int]:
    """The program and its descendants: orphans among them are taken in by its first process."""
    program = record.program()
    if program is None or not processes.alive(program):
        return
    left = [program.pid]
    while left:
        pid = left.pop()
        yield pid
        with suppress(OSError):  # it has just ended
            for thread in os.listdir(f"/proc/{pid}/task"):  # noqa: PTH208 - names, not paths
                left += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())


def _cpu(pid: int) -> float:
    """Seconds, those of its ended children too."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / _TICKS


def _memory(record: Record, pids: Collection[int]) -> float:
    """Part of its limit; of the machine's memory when it has none."""
    limit = record.workload.get("memory")
    used = _in_group(record.cgroups())
    if used is None:
        used = sum(map(_resident, pids))
    return used / (limit if isinstance(limit, int) and limit else _MACHINE)


def _in_group(folders: Collection[str]) -> int | None:
    for folder in folders:
        for name in _MEMORY:
            with suppress(OSError):
                used = int(Path(folder, name).read_text())
                stat = dict(line.split() for line in Path(folder, "memory.stat").read_text().splitlines())
                cache = next((int(stat[key]) for key in reversed(_CACHE) if key in stat), 0)
                return max(0, used - cache)
    return None


def _resident(pid: int) -> int:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    return 0
