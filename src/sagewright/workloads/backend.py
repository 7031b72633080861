"""The backend contract: five verbs and a description. `tests/suites/backend_suite.py` is the same as tests.

Told as time cases:

- *submit twice, or again after a restart*: same effect as once while the id is present. It returns when the
  workload is accepted, not when it runs; a slow image pull shows as PREPARING.
- *bad image, no such program, no such device*: not an exception from `submit` but an observation: EXITED, no
  exit code, a cause and a message. `WorkloadRejected` is raised only for what can be seen without trying.
- *observe(None)* returns everything that carries this installation's label, including what another process of
  ours started. An id absent from a successful answer does not exist. Unknown is not gone: when the backend
  cannot be reached, `BackendUnavailable` is raised and nothing may be concluded. Observing changes nothing.
- *stop*: SIGTERM now, SIGKILL after the workload's stop_grace. Returns at once. Repeating it never shortens the
  grace and never revives anything. Stopping or removing an unknown id is success.
- *remove*: kills if need be, frees what the backend itself holds, forgets. Until then an EXITED workload stays
  observable and its logs stay readable.
- *logs*: every line from the first byte, stdout and stderr merged in order, exactly once for a reader who hands
  back the cursor of the last record it kept, across restarts of ours and of the backend. Ends when the workload
  has EXITED and all was given, or at once when the id is unknown.
- *state* lives in the substrate (labels, record folders); in memory only what is safe to lose.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, NewType, Protocol, runtime_checkable

from sagewright.core.ids import BackendName, WorkloadId
from sagewright.workloads.observation import Observation
from sagewright.workloads.workload import FolderImage, Workload

LogCursor = NewType("LogCursor", str)  # opaque to all but its backend; no white space in it


class LogRecord(NamedTuple):
    """One line, without its line feed, as raw bytes. `timestamp` is in milliseconds since the epoch."""

    cursor: LogCursor
    timestamp: int
    message: bytes


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a backend is and can do on this machine, as data. `problem` is empty when it is ready to run."""

    name: BackendName
    available: bool
    problem: str = ""  # why not available, and how to mend it
    version: str = ""
    cpus: int = 1
    memory: int = 0  # bytes
    gpus: int = 0
    real_opt_ml: bool = True  # False: /opt/ml is not the real path, SAGEMAKER_BASE_DIR is set instead
    details: Mapping[str, str] | None = None
    installed: bool = True  # False: nothing of it is on this machine, so waiting for it is in vain
    layers: bool = False  # mounts may be layered (`Mount.changes`); `details["inputs"]` says why not


@dataclass(frozen=True, slots=True)
class Usage:
    """What one workload used lately. `cpu_percent` is summed over cores, 100 for each; `memory_percent` is of its
    limit, or of the machine's memory when it has none."""

    cpu_percent: float
    memory_percent: float


@runtime_checkable
class MeasuresUsage(Protocol):
    """What a backend may be able to do besides."""

    async def usage(self, ids: Collection[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        """Of those that run and of which enough was seen: a mean since the last call may need a second call.
        Raises BackendUnavailable."""
        ...


@runtime_checkable
class HandsOver(Protocol):
    """What a backend may be able to do besides: its programs run as users whose files we may not read or remove."""

    async def hand_over(self, workload: WorkloadId) -> None:
        """Make what the ended workload wrote in its folders ours. Safe to repeat; does nothing where there is no need,
        and says in the log when it could not. Never raises: a collection that fails for it says so itself."""
        ...


@runtime_checkable
class Sweeps(Protocol):
    """What a backend may be able to do besides: free what belongs to none of its workloads any more."""

    async def sweep(self) -> None:
        """Only what carries this installation's label and is used by nobody. Raises BackendUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Spare:
    """What a backend has beside its workloads, and nothing needs. `what` names its sort, in the plural; `folder` is
    where it is, if it is a folder of this machine."""

    what: str
    name: str
    folder: Path | None = None


@runtime_checkable
class HasSpares(Protocol):
    """What a backend may be able to do besides: tell what it keeps for later ones, or was killed before it removed."""

    async def spares(self, images: Collection[FolderImage], before: datetime) -> Sequence[Spare]:
        """What none of these images and no workload needs, and nobody has used since `before`. Raises
        BackendUnavailable."""
        ...

    async def discard(self, spares: Collection[Spare], before: datetime) -> None:
        """Remove those that are still spare. Safe beside workloads that begin. Raises BackendUnavailable."""
        ...


@runtime_checkable
class BatchesLogs(Protocol):
    """What a backend may be able to do besides: give the lines of `logs` many at a time, for the same end and errors.
    A container may print a hundred thousand in a second."""

    def log_batches(
        self, workload: WorkloadId, *, after: LogCursor | None = None
    ) -> AsyncGenerator[Sequence[LogRecord], None]: ...


class ComputeBackend(Protocol):
    """Runs workloads. A translator, not an actor: it holds no truth."""

    async def describe(self) -> Capabilities:
        """Never raises: an unreachable engine is `available=False` with the reason."""
        ...

    async def submit(self, workload: Workload) -> None: ...

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]: ...

    async def stop(self, workload: WorkloadId) -> None: ...

    async def remove(self, workload: WorkloadId) -> None: ...

    def logs(self, workload: WorkloadId, *, after: LogCursor | None = None) -> AsyncIterator[LogRecord]: ...

    def hints(self) -> AsyncIterator[WorkloadId]:
        """Ids worth looking at sooner. May drop, may repeat, may be empty; never the only way to learn."""
        ...

    async def aclose(self) -> None: ...
