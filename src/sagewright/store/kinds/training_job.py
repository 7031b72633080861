"""Training jobs as rows.

States (contract A.12):

    InProgress ──► Completed
        │  └─────► Failed
        └► Stopping ──► Stopped

`spec` is written by operations: the request as decoded, and the wishes to stop or delete.
`status` is written by the controller: how far it has come. A wish to stop is never a status flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName, arn

KIND: Final = Kind("training-job")

IN_PROGRESS, COMPLETED, FAILED, STOPPING, STOPPED = "InProgress", "Completed", "Failed", "Stopping", "Stopped"
TERMINAL: Final = frozenset({COMPLETED, FAILED, STOPPED})
MOVES: Final[Mapping[str, frozenset[str]]] = {
    IN_PROGRESS: frozenset({IN_PROGRESS, STOPPING, COMPLETED, FAILED, STOPPED}),
    STOPPING: frozenset({STOPPING, STOPPED, FAILED, COMPLETED}),
    COMPLETED: frozenset({COMPLETED}),
    FAILED: frozenset({FAILED}),
    STOPPED: frozenset({STOPPED}),
}

POOL_AVAILABLE, POOL_REUSED, POOL_TERMINATED = "Available", "Reused", "Terminated"  # WarmPoolStatus of an ended job

LOG_GROUP: Final = "/aws/sagemaker/TrainingJobs"
_LISTS: Final = ("transitions", "workloads", "seen", "written", "metrics")


def key(account: Account, region: Region, name: str) -> Key:
    return Key(KIND, account, region, ResourceName(name))


def job_arn(job: Key) -> str:
    return arn("sagemaker", job.region, job.account, f"training-job/{job.name}")


def output_uri(output_path: str, name: str, artifact: str) -> str:
    """`<S3OutputPath>/<job>/output/<artifact>`, with a trailing slash of the path dropped (contract A.9)."""
    return f"{output_path.rstrip('/')}/{name}/output/{artifact}"


def artifact_uris(request: Mapping[str, Any], name: str) -> tuple[str, str]:
    """Where /opt/ml/model and /opt/ml/output/data go; CompressionType NONE makes them prefixes, which end in `/`."""
    output = request["OutputDataConfig"]
    plain = output.get("CompressionType") == "NONE"
    model, data = ("model/", "data/") if plain else ("model.tar.gz", "output.tar.gz")
    path = output["S3OutputPath"]
    return output_uri(path, name, model), output_uri(path, name, data)


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """Desired state. `image` is what the image name meant at creation (see `services.images`):
    {"name": ..., "folder": null | {"name", "digest", "path", "entrypoint": [...], "requirements"}}.
    `interrupts` counts the spot interruptions that were wished for."""

    request: Mapping[str, Any]
    image: Mapping[str, Any]
    stop_requested_at: str | None = None  # core.clock.to_text
    delete_requested: bool = False
    interrupts: int = 0

    def to_row(self) -> dict[str, Any]:
        return {
            "request": dict(self.request),
            "image": dict(self.image),
            "stop_requested_at": self.stop_requested_at,
            "delete_requested": self.delete_requested,
            "interrupts": self.interrupts,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> TrainingSpec:
        return cls(
            row["request"],
            row["image"],
            row.get("stop_requested_at"),
            bool(row.get("delete_requested")),
            row.get("interrupts", 0),
        )


@dataclass(frozen=True, slots=True)
class TrainingStatus:
    """Actual state. Times are `core.clock.to_text` strings, so that the row is plain JSON.

    `secondary` is the SecondaryStatus; `transitions` is SecondaryStatusTransitions in wire spelling:
    {"Status", "StartTime", "EndTime"?, "StatusMessage"}. `ending` is the terminal state being headed for once
    outputs are collected: {"state", "secondary", "message", "detail"?, "failure_reason"?}.
    `workloads` are the containers of this attempt, one for each host, algo-1 first; `seen` are those of them that were
    seen to run, and so are never started again. `exit_code` is that of the host that failed first, else 0.
    `first_gpu` is the lowest number of the accelerators that the attempt has to itself, where it needs any.
    `layered`: this attempt's channels are links beside the folder that becomes /opt/ml (`workloads.layers`).
    `metrics` is FinalMetricDataList in wire spelling. `unreachable_since` is when the backend was first found not to
    answer, while it does not.
    `giving_up` is why the attempt is ended to begin another ("Interrupted", "Restarting"), `removing` when nothing of
    it runs any more; `retries` and `interruptions` count such ends, `interrupts_heard` is how many of
    `TrainingSpec.interrupts` were heeded. `log_epoch` is in the names of the attempt's log streams; None = creation.
    `pool` is the warm pool that the job begins or goes on with: {"cache": its folder's name, "from": the job it was of,
    "status"?, "since"? (it is Available), "retained"? (seconds), "reused_by"?}; the last four once the job has ended.
    """

    secondary: str = "Starting"
    transitions: tuple[Mapping[str, Any], ...] = ()
    attempt: int = 0
    workloads: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    backend: str | None = None
    layered: bool = False
    first_gpu: int = 0
    training_started_at: str | None = None
    training_ended_at: str | None = None
    ending: Mapping[str, Any] | None = None
    failure_reason: str | None = None
    exit_code: int | None = None
    image_digest: str | None = None
    written: tuple[str, ...] = ()
    metrics: tuple[Mapping[str, Any], ...] = ()
    cleaned: bool = False
    unreachable_since: str | None = None
    giving_up: str = ""
    removing: bool = False
    retries: int = 0
    interruptions: int = 0
    interrupts_heard: int = 0
    log_epoch: int | None = None
    pool: Mapping[str, Any] | None = None

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name in _LISTS:
            row[name] = list(row[name])
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> TrainingStatus:
        values = {name: row[name] for name in cls.__slots__ if name in row}
        if only := row.get("workload"):  # written when a job had one host
            ran = any(entry["Status"] == "Training" for entry in row.get("transitions", ()))
            values |= {"workloads": (only,), "seen": (only,) if ran else ()}
        for name in _LISTS:
            values[name] = tuple(values.get(name, ()))
        return cls(**values)
