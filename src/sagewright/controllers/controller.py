"""The controller contract: a pure decision per kind, one shared loop (`controllers.loop`) that performs it.

    load -> observe -> decide -> commit -> act -> wake

`decide` gets all it needs as values (the snapshot, what was seen, the time) and answers with a Decision. The loop
commits the new status before it acts, so every action must be safe to repeat, and `BackendUnavailable` leaves the
resource alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

from sagewright.core.ids import BackendName, Key, Kind, TransferId, WorkloadId
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.observation import Observation
from sagewright.workloads.transfer import Transfer, TransferState
from sagewright.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class Submit:
    backend: BackendName
    workload: Workload
    log_stream: tuple[str, str]  # log group and log stream that receive its lines


@dataclass(frozen=True, slots=True)
class Stop:
    backend: BackendName
    workload: WorkloadId


@dataclass(frozen=True, slots=True)
class Remove:
    backend: BackendName
    workload: WorkloadId


@dataclass(frozen=True, slots=True)
class StartTransfer:
    transfer: Transfer


@dataclass(frozen=True, slots=True)
class ForgetTransfers:
    ids: tuple[TransferId, ...]
    root: Path


@dataclass(frozen=True, slots=True)
class ForgetModels:
    """These stand for a model no more; one below `models` that nothing stands for is removed."""

    ids: tuple[TransferId, ...]
    models: Path


@dataclass(frozen=True, slots=True)
class HandOver:
    """What the ended workload's program wrote becomes ours, where it belongs to another user."""

    backend: BackendName
    workload: WorkloadId


Action: TypeAlias = Submit | Stop | Remove | HandOver | StartTransfer | ForgetTransfers | ForgetModels


@dataclass(frozen=True, slots=True)
class Drain:
    """Which instance is to have no request under way any more, once every gateway knows the row's `version`."""

    endpoint: Key
    version: int


@dataclass(frozen=True, slots=True)
class Watch:
    """What the loop must look at before `decide`. `log_streams` says where a workload's lines go, so that the loop
    can follow them again after a restart; `metric_definitions` are the (name, regex) pairs to look for in them.

    `folders` are the workloads' own folders, whose existence is a fact to decide on; `failure_files` are read once
    their workload has EXITED. `backends` must be ready to run something new, and are described.

    `pings` are containers that are asked for their health once they run; True = often, because they start.
    `drains` are instances whose requests are waited for, by instance id.
    """

    workloads: Mapping[WorkloadId, BackendName] = field(default_factory=dict)
    log_streams: Mapping[WorkloadId, tuple[str, str]] = field(default_factory=dict)
    transfers: Collection[TransferId] = ()
    metric_definitions: Mapping[WorkloadId, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    failure_files: Mapping[WorkloadId, Path] = field(default_factory=dict)
    folders: Mapping[WorkloadId, Path] = field(default_factory=dict)
    backends: Collection[BackendName] = ()
    pings: Mapping[WorkloadId, bool] = field(default_factory=dict)
    drains: Mapping[str, Drain] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ping:
    """One GET /ping. `status` None = no answer, and `error` says why; `body` is the start of one that is not 200.
    `time` is `core.clock.to_text`, `ms` how long it took."""

    time: str
    status: int | None
    error: str = ""
    body: str = ""
    ms: float = 0.0


@dataclass(frozen=True, slots=True)
class Health:
    """Good pings on end, or misses on end: one of the two is 0. `transcript` holds the last pings, `listening` other
    ports on which something was found instead."""

    successes: int
    failures: int
    transcript: tuple[Ping, ...] = ()
    listening: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LogState:
    """How far the copier has come with one workload's lines."""

    drained: bool  # the workload has exited and every line is in the stream, durably
    tail: tuple[str, ...] = ()  # the last lines, for FailureReason
    metrics: tuple[Mapping[str, Any], ...] = ()  # last value per metric definition, wire spelling


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen in one look. Absence from `workloads` is a fact: it does not exist."""

    workloads: Mapping[WorkloadId, Observation] = field(default_factory=dict)
    transfers: Mapping[TransferId, TransferState] = field(default_factory=dict)
    logs: Mapping[WorkloadId, LogState] = field(default_factory=dict)
    failure_files: Mapping[WorkloadId, str] = field(default_factory=dict)  # /opt/ml/output/failure, once exited
    folders: Collection[WorkloadId] = ()  # those of `Watch.folders` that exist
    capabilities: Mapping[BackendName, Capabilities] = field(default_factory=dict)  # of each of `Watch.backends`
    health: Mapping[WorkloadId, Health] = field(default_factory=dict)  # absent = nothing is known (yet)
    drained: Collection[str] = ()  # those of `Watch.drains` that have no request under way


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a backend could not be asked. `installed` False: it is not on this machine at all, waiting is in vain."""

    message: str
    installed: bool = True


@dataclass(frozen=True, slots=True)
class Decision:
    """`status` None = unchanged. `wake_in` None = nothing left to do (unless something is committed later)."""

    status: Mapping[str, Any] | None = None
    state: str | None = None
    actions: tuple[Action, ...] = ()
    forget: bool = False  # deletion carried out: drop the row
    wake_in: timedelta | None = None
    note: str = ""  # one line for the server's log: why
    wakes: tuple[Key, ...] = ()  # others that may have waited for this, and are looked at again


S = TypeVar("S")


class Controller(Protocol[S]):
    @property
    def kind(self) -> Kind: ...

    @property
    def moves(self) -> Mapping[str, frozenset[str]]:
        """The legal moves: state → states that may follow. Anything else is an error in `decide`."""
        ...

    def load(self, tx: Tx, key: Key) -> tuple[Resource, S] | None:
        """The row and everything the decision needs; None when the row is gone."""
        ...

    def watch(self, snapshot: S) -> Watch: ...

    def decide(self, snapshot: S, seen: Seen, now: datetime) -> Decision: ...

    def unreachable(self, snapshot: S, problems: Mapping[BackendName, Problem], now: datetime) -> Decision:
        """The decision when a watched backend cannot be asked. It sees no workloads, so it cannot conclude from
        their absence; all it may do is wait and say for what, or give up."""
        ...


@runtime_checkable
class HearsCommits(Protocol):
    """What a controller may want besides: to know of what it decided, once that is so."""

    def committed(self, row: Resource) -> None:
        """The row as it is now. Called before anybody that the decision wakes is looked at. Does not raise."""
        ...
