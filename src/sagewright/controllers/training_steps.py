"""A training job as a value, and the small moves its status can make. Pure.

SecondaryStatus, in the order a job goes through it (contract A.12); Pending comes first where there is no room yet:

    Starting ─► Downloading ─► Training ─► Uploading ─► Completed
       │             │             │            ├─────► Failed
       │             │             ▼            └─────► Stopped | Max…Exceeded
       └─────────────┴────────► Stopping ─►(Uploading)─┘

A spot interruption, or a retry, leads from any of the first three through Interrupted or Restarting back to Starting
(`training_attempts`).

Owns: `Job`, the transition list, names of transfers and log streams, requests for staging and collecting.
Does not own: which move comes next (`training_jobs`), the texts of failures (`failure`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import BackendName, TransferId, WorkloadId
from sagewright.store.kinds import training_job as kind
from sagewright.store.kinds.training_job import TrainingSpec, TrainingStatus
from sagewright.store.resources import Resource
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.hosts import Host, hosts_of
from sagewright.workloads.instances import Machine
from sagewright.workloads.observation import ExitCause, Observation
from sagewright.workloads.transfer import TransferState
from sagewright.workloads.workload import FolderImage, ImageRef

STARTING, DOWNLOADING, TRAINING, UPLOADING = "Starting", "Downloading", "Training", "Uploading"
PENDING: Final = "Pending"
STOPPING, MAX_RUNTIME_EXCEEDED, MAX_WAIT_EXCEEDED = "Stopping", "MaxRuntimeExceeded", "MaxWaitTimeExceeded"

PENDING_TEXT: Final = "Waiting for capacity"
STARTED_TEXT: Final = "Starting the training job"
PREPARING_TEXT: Final = "Preparing the instances for training"
INPUT_TEXT: Final = "Downloading input data"
IMAGE_TEXT: Final = "Downloading the training image"
TRAINING_TEXT: Final = "Training image download completed. Training in progress."
UPLOADING_TEXT: Final = "Uploading generated training model"
STOPPING_TEXT: Final = "Stopping the training job"
COMPLETED_TEXT: Final = "Training job completed"
FAILED_TEXT: Final = "Training job failed"
STOPPED_TEXT: Final = "Training job stopped"
MAX_RUNTIME_TEXT: Final = "Training job runtime exceeded MaxRuntimeInSeconds provided"
NO_MODEL_TEXT: Final = "nothing was written to /opt/ml/model, so there is no model artifact"
MAX_WAIT_TEXT: Final = "Training job exceeded MaxWaitTimeInSeconds provided"
MAX_PENDING_TEXT: Final = "Training job exceeded MaxPendingTimeInSeconds provided"

DEFAULT_MAX_RUNTIME: Final = timedelta(days=1)
_DETAIL: Final = " - "  # between a StatusMessage and what is known beyond it


@dataclass(frozen=True, slots=True)
class Job:
    """One row, read."""

    resource: Resource
    spec: TrainingSpec
    status: TrainingStatus

    @classmethod
    def of(cls, row: Resource) -> Job:
        return cls(row, TrainingSpec.from_row(row.spec), TrainingStatus.from_row(row.status))

    @property
    def name(self) -> str:
        return self.resource.key.name

    @property
    def hosts(self) -> tuple[Host, ...]:
        return hosts_of(self.spec.request)

    @property
    def workloads(self) -> tuple[WorkloadId, ...]:
        """One for each host, in the same order; none before the job has begun."""
        return tuple(WorkloadId(each) for each in self.status.workloads)

    @property
    def peers(self) -> dict[str, WorkloadId]:
        """As in `Workload`: empty for a job with one host."""
        named = {host.name: workload for host, workload in zip(self.hosts, self.workloads, strict=True)}
        return named if len(named) > 1 else {}

    def host(self, workload: WorkloadId) -> Host:
        return self.hosts[self.workloads.index(workload)]

    @property
    def backend(self) -> BackendName:
        """A folder image is run by the process backend, any other by the container engine."""
        chosen = self.status.backend or ("process" if self.spec.image.get("folder") else "docker")
        return BackendName(chosen)

    @property
    def ran(self) -> bool:
        """A container of it has been seen running (or ended after having run), and so is never started again."""
        return bool(self.status.seen)

    @property
    def is_spot(self) -> bool:
        return bool(self.spec.request.get("EnableManagedSpotTraining"))

    @property
    def has_pool(self) -> bool:
        """It has ended, and its warm pool waits for another job."""
        return (self.status.pool or {}).get("status") == kind.POOL_AVAILABLE

    @property
    def caches(self) -> tuple[WorkloadId, ...]:
        """The folder of the warm pool's cache, named like a workload's, once it is this job's to remove."""
        pool = self.status.pool or {}
        over = self.resource.state in kind.TERMINAL and pool.get("status") == kind.POOL_TERMINATED
        return (WorkloadId(pool["cache"]),) if over else ()

    @property
    def max_wait(self) -> timedelta | None:
        """Of a spot job: how long it may take altogether."""
        seconds = self.spec.request.get("StoppingCondition", {}).get("MaxWaitTimeInSeconds")
        return timedelta(seconds=seconds) if self.is_spot and seconds is not None else None

    @property
    def max_pending(self) -> timedelta | None:
        """How long it may wait for capacity at a time."""
        seconds = self.spec.request.get("StoppingCondition", {}).get("MaxPendingTimeInSeconds")
        return None if seconds is None else timedelta(seconds=seconds)

    @property
    def max_runtime(self) -> timedelta:
        seconds = self.spec.request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds")
        return DEFAULT_MAX_RUNTIME if seconds is None else timedelta(seconds=seconds)

    @property
    def log_streams(self) -> dict[WorkloadId, tuple[str, str]]:
        """`<job>/algo-N-<epoch seconds>` (contract A.14): fixed by the row, so it is decided once for each attempt."""
        epoch = self.status.log_epoch or int(self.resource.created_at.timestamp())
        return {
            workload: (kind.LOG_GROUP, f"{self.name}/{host.name}-{epoch}")
            for workload, host in zip(self.workloads, self.hosts, strict=True)
        }

    @property
    def metric_definitions(self) -> tuple[tuple[str, str], ...]:
        listed = self.spec.request["AlgorithmSpecification"].get("MetricDefinitions", ())
        return tuple((each["Name"], each["Regex"]) for each in listed)

    @property
    def archives(self) -> dict[str, str]:
        """Contract A.9: folder of /opt/ml → the object its archive becomes, or the prefix of its files."""
        model, data = kind.artifact_uris(self.spec.request, self.name)
        return {"model": model, "output/data": data}

    def with_status(self, status: TrainingStatus) -> Job:
        return replace(self, status=status)


def own_folder(workloads: Path, workload: WorkloadId) -> Path:
    return workloads / workload


def root(workloads: Path, workload: WorkloadId) -> Path:
    """What the container sees as /opt/ml."""
    return own_folder(workloads, workload) / "ml"


def stage_id(workload: WorkloadId) -> TransferId:
    return TransferId(f"{workload}.stage")


def collect_id(workload: WorkloadId) -> TransferId:
    return TransferId(f"{workload}.collect")


def save_id(workload: WorkloadId) -> TransferId:
    return TransferId(f"{workload}.save")


def mirror_id(workload: WorkloadId) -> TransferId:
    return TransferId(f"{workload}.mirror")


def feed_id(workload: WorkloadId) -> TransferId:
    return TransferId(f"{workload}.feed")


def enter(status: TrainingStatus, secondary: str, message: str, now: datetime, detail: str = "") -> TrainingStatus:
    """Be in `secondary` with `message`. Being there already changes at most the detail.

    A client prints a line whenever the last StatusMessage changes, so each step has its own, and progress or a wait
    is told in the same entry. Times never run backwards, whatever the clock does.
    """
    text = f"{message}{_DETAIL}{detail}" if detail else message
    last = status.transitions[-1] if status.transitions else None
    if last is None:
        return replace(status, secondary=secondary, transitions=(_entry(secondary, to_text(now), text),))
    if last["Status"] == secondary and base_message(last["StatusMessage"]) == message:
        same = {**last, "StatusMessage": text}
        return replace(status, transitions=(*status.transitions[:-1], same))
    moment = max(to_text(now), last["StartTime"])
    closed = {**last, "EndTime": moment}
    entry = _entry(secondary, moment, text)
    return replace(status, secondary=secondary, transitions=(*status.transitions[:-1], closed, entry))


def detailed(status: TrainingStatus, detail: str, now: datetime) -> TrainingStatus:
    """The step the job is in, with another detail: what it waits for."""
    if not status.transitions:
        return enter(status, STARTING, STARTED_TEXT, now, detail)
    last = status.transitions[-1]
    return enter(status, last["Status"], base_message(last["StatusMessage"]), now, detail)


def base_message(message: str) -> str:
    return message.partition(_DETAIL)[0]


def finish(status: TrainingStatus, ending: Mapping[str, Any], now: datetime) -> TrainingStatus:
    """The terminal status. Its own transition has begun and ended at once."""
    done = enter(status, ending["secondary"], ending["message"], now, ending.get("detail", ""))
    last = done.transitions[-1]
    moment = last["StartTime"]
    return replace(
        done,
        transitions=(*done.transitions[:-1], {**last, "EndTime": moment}),
        training_ended_at=moment if done.training_started_at else None,
        ending=dict(ending),
        failure_reason=ending.get("failure_reason"),
        unreachable_since=None,
    )


def note(status: TrainingStatus, message: str, now: datetime) -> TrainingStatus:
    """Something more of a job that has ended: another transition of the same status."""
    last = status.transitions[-1]
    moment = max(to_text(now), last["StartTime"])
    told = {**_entry(last["Status"], moment, message), "EndTime": moment}
    return replace(status, transitions=(*status.transitions, told))


def completed() -> dict[str, Any]:
    return {"state": kind.COMPLETED, "secondary": kind.COMPLETED, "message": COMPLETED_TEXT}


def without_model(ending: Mapping[str, Any], model: str, written: Sequence[str]) -> Mapping[str, Any]:
    """A job that completed, and left nothing where models are looked for, says so."""
    if ending["state"] != kind.COMPLETED or any(each.startswith(model) for each in written):
        return ending
    return {**ending, "detail": NO_MODEL_TEXT}


def stopped() -> dict[str, Any]:
    return {"state": kind.STOPPED, "secondary": kind.STOPPED, "message": STOPPED_TEXT}


def max_runtime_exceeded() -> dict[str, Any]:
    return {"state": kind.STOPPED, "secondary": MAX_RUNTIME_EXCEEDED, "message": MAX_RUNTIME_TEXT}


def max_wait_exceeded() -> dict[str, Any]:
    return {"state": kind.STOPPED, "secondary": MAX_WAIT_EXCEEDED, "message": MAX_WAIT_TEXT}


def max_pending_exceeded() -> dict[str, Any]:
    return {"state": kind.STOPPED, "secondary": MAX_WAIT_EXCEEDED, "message": MAX_PENDING_TEXT}


def failed(reason: str) -> dict[str, Any]:
    return {"state": kind.FAILED, "secondary": kind.FAILED, "message": FAILED_TEXT, "failure_reason": reason}


def succeeded(found: Observation) -> bool:
    return found.exit_code == 0 and found.cause in {ExitCause.EXIT, ExitCause.OUT_OF_MEMORY}


def started(found: Observation) -> bool:
    """It ran, if only for an instant: an image that cannot be found never did."""
    return found.started_at is not None or found.exit_code is not None


def started_at(job: Job, found: Observation) -> datetime:
    """When the container began to run: MaxRuntimeInSeconds counts from here."""
    if found.started_at is not None:
        return found.started_at
    return max(from_text(entry["StartTime"]) for entry in job.status.transitions if entry["Status"] == TRAINING)


def progress(*states: TransferState) -> str:
    """`1.5 of 20.0 GiB`, of all of them together, once there is anything to tell."""
    total = sum(state.bytes_total or 0 for state in states)
    if not total:
        return ""
    unit, scale = _unit(total)
    return f"{sum(state.bytes_moved for state in states) / scale:.1f} of {total / scale:.1f} {unit}"


def _unit(size: int) -> tuple[str, int]:
    for unit, scale in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= scale:
            return unit, scale
    return "KiB", 1 << 10


def _entry(secondary: str, moment: str, text: str) -> dict[str, Any]:
    return {"Status": secondary, "StartTime": moment, "StatusMessage": text}


def noted(status: TrainingStatus, found: Observation) -> TrainingStatus:
    """The facts of one look that outlive the workload. The first exit code that is not 0 stays."""
    return replace(
        status,
        exit_code=status.exit_code or (found.exit_code if found.exit_code is not None else status.exit_code),
        image_digest=found.image_digest or status.image_digest,
        unreachable_since=None,
    )


def machine(has: Capabilities) -> Machine:
    return Machine(has.cpus, has.memory, has.gpus)


def may_start(job: Job) -> bool:
    """A container of it has yet to be started, as far as is known, and is still wanted."""
    return (
        job.resource.state == kind.IN_PROGRESS
        and job.spec.stop_requested_at is None
        and job.status.ending is None
        and not job.status.giving_up
        and (not job.workloads or len(job.status.seen) < len(job.workloads))
    )


def image(stored: Mapping[str, Any]) -> ImageRef:
    """As `TrainingSpec.image` keeps it."""
    folder = stored.get("folder")
    if not folder:
        return ImageRef(stored["name"], own=stored.get("own") or "", stands_for=stored.get("stands_for") or "")
    return ImageRef(
        stored["name"],
        FolderImage(
            name=folder["name"],
            digest=folder["digest"],
            path=Path(folder["path"]),
            entrypoint=tuple(folder["entrypoint"]),
            requirements=folder.get("requirements") or "",
        ),
    )
