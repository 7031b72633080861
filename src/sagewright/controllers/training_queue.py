"""Which training jobs may begin: as many as the machine holds, in the order in which they were created.

    note ──► known ──(room, and nobody before it waits)──► begun ──► release

A job may begin when what has begun, and what waits before it, leaves room for it: so two jobs that are looked at in the
same moment cannot both take the last place, and a large job is not overtaken for ever by small ones.
Room is memory, as the instance types of all hosts of a job have it together (bounded by the machine), and a number of
containers; CPUs are shared. A job begins as a whole or not at all. Accelerators are its own while it runs: the lowest
run of numbers that no other job has.
Owns: what is known of the queue, in memory. Each look at a row tells it the truth again, so it is safe to lose.
Does not own: the rows (`training_jobs`). Safe to call from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sagewright.controllers.training_steps import UPLOADING, Job, machine
from sagewright.core.ids import BackendName, Key
from sagewright.store.kinds import training_job as kind
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.hosts import Host, host_resources, named
from sagewright.workloads.instances import GIB, OF_MACHINE
from sagewright.workloads.workload import Resources

NEXT: Final = 8  # waiting jobs that are looked at again when a job ends
_LEAST, _PER_CPU = 4, 2  # jobs at once, where nothing else is set


@dataclass(slots=True)
class _Entry:
    order: tuple[datetime, str, str, str]
    backend: BackendName
    hosts: tuple[Host, ...]
    begun: bool
    first_gpu: int


class Turn(NamedTuple):
    """What a job waits for; empty when it may begin. Its accelerators are those numbered from `first_gpu` on."""

    waits_for: str = ""
    first_gpu: int = 0


class JobQueue:
    """`at_once` jobs, whatever memory they may take; None = as many as fit, at most two hosts for each CPU."""

    def __init__(self, at_once: int | None = None) -> None:
        self._at_once = at_once
        self._entries: dict[Key, _Entry] = {}
        self._lock = threading.Lock()

    def note(self, job: Job) -> None:
        """What its row says."""
        row = job.resource
        if row.state in kind.TERMINAL or job.status.secondary == UPLOADING:
            self.release(row.key)
            return
        order = (row.created_at, row.key.name, row.key.account, row.key.region)
        with self._lock:
            self._entries[row.key] = _Entry(order, job.backend, job.hosts, bool(job.workloads), job.status.first_gpu)

    def release(self, key: Key) -> None:
        """It takes no room any more."""
        with self._lock:
            self._entries.pop(key, None)

    def waiting(self) -> tuple[Key, ...]:
        """The next few that wait, in order."""
        with self._lock:
            keys = [key for key, entry in self._entries.items() if not entry.begun]
            return tuple(sorted(keys, key=lambda key: self._entries[key].order)[:NEXT])

    def enter(self, job: Job, has: Capabilities) -> Turn:
        """A job that may begin counts as begun from now on."""
        self.note(job)
        with self._lock:
            own = self._entries[job.resource.key]
            own.first_gpu = 0
            told = self._missing(own, has)
            own.begun = not told
            return Turn(told, own.first_gpu)

    def _missing(self, own: _Entry, has: Capabilities) -> str:
        others = list(self._before(own))
        most = max(_LEAST, _PER_CPU * has.cpus)
        if self._at_once and len(others) >= self._at_once:
            return _told(others, f"at most {self._at_once} run at once")
        if not self._at_once and others and sum(len(each.hosts) for each in (*others, own)) > most:
            return _told(others, f"at most {most} run at once")
        needs, taken = _needs(own, has), [_needs(each, has) for each in others]
        if needs.gpus and (told := self._without_gpus(own, needs, others, taken, has.gpus)):
            return told
        room = int(has.memory * OF_MACHINE)
        used = sum(each.memory or 0 for each in taken)
        if not self._at_once and room and used and used + (needs.memory or 0) > room:
            has_memory = "has" if len(own.hosts) == 1 else "have"
            return _told(
                others,
                f"{named(own.hosts)} {has_memory} {_gib(needs.memory or 0)} GiB of memory, and "
                f"{_gib(max(0, room - used))} of {_gib(room)} GiB are free",
            )
        return ""

    def _without_gpus(
        self, own: _Entry, needs: Resources, others: Sequence[_Entry], taken: Sequence[Resources], there: int
    ) -> str:
        """Gives the job its accelerators, or says why there are none for it. A machine without any keeps nobody
        waiting: its backend refuses the job."""
        wanting = [(each, has.gpus) for each, has in zip(others, taken, strict=True) if has.gpus]
        if any(not each.begun for each, _ in wanting):
            return _told(others, "")
        used = {number for each, count in wanting for number in range(each.first_gpu, each.first_gpu + count)}
        count = min(needs.gpus, there)
        for first in range(there - count + 1):
            if used.isdisjoint(range(first, first + count)):
                own.first_gpu = first
                return ""
        free = sorted(set(range(there)) - used)
        together = ", not side by side" if len(free) >= count else ""
        return _told(
            others, f"it needs {count} of the machine's {there} accelerators, and {len(free)} are free{together}"
        )

    def _before(self, own: _Entry) -> Iterator[_Entry]:
        """Those that have begun, and those of the same backend that wait and come first."""
        for each in self._entries.values():
            if each is not own and (each.begun or (each.backend == own.backend and each.order < own.order)):
                yield each


def _told(others: Sequence[_Entry], why: str) -> str:
    waiting = any(not each.begun for each in others)
    return "jobs that were created earlier come first" if waiting else why


def _needs(entry: _Entry, has: Capabilities) -> Resources:
    """Of all its hosts together."""
    each = host_resources(entry.hosts, machine(has))
    return Resources(memory=sum(limit.memory or 0 for limit in each), gpus=sum(limit.gpus for limit in each))


def _gib(size: int) -> str:
    return f"{size / GIB:.1f}"
