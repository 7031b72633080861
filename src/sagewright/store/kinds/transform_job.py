"""Batch transform jobs as rows.

States (contract C.5):

    InProgress ──► Completed
        │  └─────► Failed
        └► Stopping ──► Stopped

`spec` is written by operations: the request as decoded, the plan of one instance (the model frozen, as an endpoint's
variant is), the wish to stop. `status` is written by the controller.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName, arn
from sagewright.store.kinds.endpoint import VariantPlan

KIND: Final = Kind("transform-job")

IN_PROGRESS, COMPLETED, FAILED, STOPPING, STOPPED = "InProgress", "Completed", "Failed", "Stopping", "Stopped"
TERMINAL: Final = frozenset({COMPLETED, FAILED, STOPPED})
MOVES: Final[Mapping[str, frozenset[str]]] = {
    IN_PROGRESS: frozenset({IN_PROGRESS, STOPPING, COMPLETED, FAILED, STOPPED}),
    STOPPING: frozenset({STOPPING, STOPPED, FAILED, COMPLETED}),
    COMPLETED: frozenset({COMPLETED}),
    FAILED: frozenset({FAILED}),
    STOPPED: frozenset({STOPPED}),
}

LOG_GROUP: Final = "/aws/sagemaker/TransformJobs"
DATA_LOG: Final = "data-log"

ON_ERROR: Final = "SAGEWRIGHT_TRANSFORM_ON_ERROR"
"""A variable of the job's Environment: `skip` leaves bad records out and goes on. The container does not get it."""
FAIL, SKIP = "fail", "skip"


def key(account: Account, region: Region, name: str) -> Key:
    return Key(KIND, account, region, ResourceName(name))


def job_arn(job: Key) -> str:
    return arn("sagemaker", job.region, job.account, f"transform-job/{job.name}")


@dataclass(frozen=True, slots=True)
class TransformSpec:
    """Desired state. `plan.count` is the number of instances."""

    request: Mapping[str, Any]
    plan: VariantPlan
    stop_requested_at: str | None = None  # core.clock.to_text

    def to_row(self) -> dict[str, Any]:
        return {
            "request": dict(self.request),
            "plan": self.plan.to_row(),
            "stop_requested_at": self.stop_requested_at,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> TransformSpec:
        return cls(row["request"], VariantPlan.from_row(row["plan"]), row.get("stop_requested_at"))


@dataclass(frozen=True, slots=True)
class TransformStatus:
    """Actual state. `instances` has each instance's id and the workload of each of its containers:
    {"id", "workloads": {container: id}}. `seen` are the workloads that were seen at all: such a one is never
    submitted again. `submitted_at` is when the containers were first asked for, `started` whether the data has
    begun to flow. `ending` is the terminal state being headed for: {"state", "failure_reason"?}."""

    instances: tuple[Mapping[str, Any], ...] = ()
    seen: tuple[str, ...] = ()
    began_at: str | None = None
    submitted_at: str | None = None
    started: bool = False
    ended_at: str | None = None
    ending: Mapping[str, Any] | None = None
    failure_reason: str | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    waiting: str = ""
    unreachable_since: str | None = None
    cleaned: bool = False

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        row["instances"], row["seen"] = list(self.instances), list(self.seen)
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> TransformStatus:
        values = {name: row[name] for name in cls.__slots__ if name in row}
        values["instances"], values["seen"] = tuple(values.get("instances", ())), tuple(values.get("seen", ()))
        return cls(**values)
