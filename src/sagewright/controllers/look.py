"""Observing: everything a decision needs, fetched. Changes nothing, except that the log copier follows what it sees.

Owns: turning a Watch into a Seen, or into the problems that kept us from seeing. Does not own: deciding, acting.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Final, Protocol

from sagewright.controllers.controller import Drain, Health, LogState, Problem, Seen, Watch
from sagewright.controllers.log_copier import LogCopier, LogTarget
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import BackendName, WorkloadId
from sagewright.workloads.backend import Capabilities, ComputeBackend
from sagewright.workloads.observation import Observation, Phase
from sagewright.workloads.transfer import Transfers

FAILURE_FILE_LIMIT: Final = 8 * 1024  # bytes read of /opt/ml/output/failure; FailureReason keeps 1024 characters


class Pings(Protocol):
    """Asks containers for their health; `controllers.health.HealthWatch`."""

    def follow(self, workload: WorkloadId, address: str, *, eager: bool) -> None: ...

    def state(self, workload: WorkloadId) -> Health | None: ...

    def release(self, workload: WorkloadId) -> None: ...


class Drains(Protocol):
    """Asks the gateways for requests under way; `controllers.draining.DrainWatch`."""

    def follow(self, instance: str, drain: Drain) -> bool:
        """Whether there are none any more. Asks at the first call, and wakes the endpoint when it has become so."""
        ...


class Observer:
    """Looks at backends, transfers, logs and failure files.

    `rejected` are workloads that a backend refused for good: they are seen as EXITED. It is lost with the process,
    and found again by the next submit, which is refused in the same way.
    """

    def __init__(
        self,
        backends: Mapping[BackendName, ComputeBackend],
        transfers: Transfers,
        copier: LogCopier,
        threads: Executor,
        *,
        pings: Pings | None = None,
        drains: Drains | None = None,
    ) -> None:
        self.rejected: dict[WorkloadId, Observation] = {}
        self._backends = backends
        self._transfers = transfers
        self._copier = copier
        self._threads = threads
        self._pings = pings
        self._drains = drains
        self._ready: dict[BackendName, Capabilities] = {}

    async def look(self, watch: Watch) -> Seen | Mapping[BackendName, Problem]:
        """What is seen; or, when a backend cannot be asked, why. Never a part of it: unknown is not gone."""
        workloads, problems = await self._workloads(watch.workloads)
        capabilities: dict[BackendName, Capabilities] = {}
        for name in watch.backends:
            match await self._describe(name):
                case Problem() as problem:
                    problems[name] = problem
                case found:
                    capabilities[name] = found
        if problems:
            return problems
        files = await self._files(watch, workloads)
        return Seen(
            workloads=workloads,
            transfers=files.transfers,
            logs=await self._logs(watch, workloads),
            failure_files=files.failure_files,
            folders=files.folders,
            capabilities=capabilities,
            health=self._health(watch, workloads),
            drained=self._drained(watch),
        )

    def release(self, workload: WorkloadId) -> None:
        """Nobody asks for this workload any more."""
        self.rejected.pop(workload, None)
        self._copier.release(workload)
        if self._pings is not None:
            self._pings.release(workload)

    async def problem(self, name: BackendName, error: BackendUnavailable) -> Problem:
        """The best account of why a backend did not answer."""
        self._ready.pop(name, None)
        found = await self._backends[name].describe()
        return Problem(found.problem or str(error), found.installed)

    async def _workloads(
        self, wanted: Mapping[WorkloadId, BackendName]
    ) -> tuple[dict[WorkloadId, Observation], dict[BackendName, Problem]]:
        seen: dict[WorkloadId, Observation] = {}
        problems: dict[BackendName, Problem] = {}
        for name in set(wanted.values()):
            backend = self._backends.get(name)
            if backend is None:
                problems[name] = _absent(name)
                continue
            ids = [workload for workload, where in wanted.items() if where == name]
            try:
                found = await backend.observe(ids)
            except BackendUnavailable as error:
                problems[name] = await self.problem(name, error)
                continue
            seen |= {each: self.rejected[each] for each in ids if each in self.rejected} | dict(found)
        return seen, problems

    async def _describe(self, name: BackendName) -> Capabilities | Problem:
        """Asked once while it is ready, and each time while it is not."""
        if known := self._ready.get(name):
            return known
        backend = self._backends.get(name)
        if backend is None:
            return _absent(name)
        found = await backend.describe()
        if not found.available:
            return Problem(found.problem, found.installed)
        self._ready[name] = found
        return found

    async def _files(self, watch: Watch, workloads: Mapping[WorkloadId, Observation]) -> Seen:
        """The part of a look that reads disks, in a thread."""
        exited = {each for each, found in workloads.items() if found.phase is Phase.EXITED}
        failures = {each: path for each, path in watch.failure_files.items() if each in exited}

        def read() -> Seen:
            return Seen(
                transfers=self._transfers.observe(watch.transfers) if watch.transfers else {},
                failure_files={each: read_failure(path) for each, path in failures.items()},
                folders=tuple(each for each, path in watch.folders.items() if os.path.lexists(path)),
            )

        if not (watch.transfers or failures or watch.folders):
            return Seen()
        return await asyncio.get_running_loop().run_in_executor(self._threads, read)

    async def _logs(self, watch: Watch, workloads: Mapping[WorkloadId, Observation]) -> Mapping[WorkloadId, LogState]:
        """Follow what runs or has ended; of what is absent, the lines that were kept."""
        states = {}
        for workload, (group, stream) in watch.log_streams.items():
            target = LogTarget(workload, group, stream, watch.metric_definitions.get(workload, ()))
            found = workloads.get(workload)
            if found is None:
                states[workload] = await self._copier.kept(target)
            elif found.phase is not Phase.PREPARING:
                self._copier.follow(target, self._backends[watch.workloads[workload]], found.phase is Phase.EXITED)
                states[workload] = self._copier.state(workload)
        return states

    def _health(self, watch: Watch, workloads: Mapping[WorkloadId, Observation]) -> Mapping[WorkloadId, Health]:
        """Ping what runs and is asked for, and nothing else."""
        if self._pings is None:
            return {}
        states = {}
        for workload in watch.workloads:
            found = workloads.get(workload)
            if workload not in watch.pings or found is None or found.phase is not Phase.RUNNING or not found.address:
                self._pings.release(workload)
                continue
            self._pings.follow(workload, found.address, eager=watch.pings[workload])
            if state := self._pings.state(workload):
                states[workload] = state
        return states

    def _drained(self, watch: Watch) -> tuple[str, ...]:
        if self._drains is None:
            return tuple(watch.drains)
        return tuple(instance for instance, drain in watch.drains.items() if self._drains.follow(instance, drain))


def read_failure(path: Path) -> str:
    """The start of a failure file, as text. What is not a plain file of the job's own folder reads as empty: the
    container wrote it, and must not make us read anything else, or wait."""
    try:
        if path.parent.is_symlink():
            return ""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return os.pread(descriptor, FAILURE_FILE_LIMIT, 0).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _absent(name: BackendName) -> Problem:
    return Problem(f"This installation has no backend named '{name}'.", installed=False)
