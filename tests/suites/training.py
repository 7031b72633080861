"""Training jobs for controller tests: requests, rows, and the small values that `decide` is given."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sagewright.controllers.controller import Decision, LogState, Seen
from sagewright.controllers.training_jobs import TrainingController
from sagewright.controllers.training_steps import Job, collect_id, stage_id
from sagewright.core.clock import to_text
from sagewright.core.ids import Account, BackendName, Key, Kind, Region, ResourceName, WorkloadId
from sagewright.store.kinds.training_job import FAILED, IN_PROGRESS, KIND, TrainingSpec, TrainingStatus
from sagewright.store.resources import Resource
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.transfer import TransferPhase, TransferState

T0 = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
ACCOUNT, REGION = Account("000000000000"), Region("us-east-1")
DOCKER = BackendName("docker")
WORKLOADS = tuple(WorkloadId(f"training-job-job-1-algo-{number}-0badcafe") for number in (1, 2, 3))
WORKLOAD = WORKLOADS[0]
READY = Capabilities(DOCKER, available=True, cpus=4, memory=16 << 30)
HOME = Path("/data/workloads")


def job_key(name: str = "job") -> Key:
    return Key(KIND, ACCOUNT, REGION, ResourceName(name))


def request(name: str = "job", *channels: str, max_runtime: int = 3600, **more: Any) -> dict[str, Any]:
    """CreateTrainingJob as decoded."""
    made: dict[str, Any] = {
        "TrainingJobName": name,
        "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/SageMakerRole",
        "AlgorithmSpecification": {"TrainingImage": "mine:latest", "TrainingInputMode": "File"},
        "OutputDataConfig": {"S3OutputPath": "s3://b/out/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": max_runtime},
    }
    if channels:
        made["InputDataConfig"] = [
            {
                "ChannelName": each,
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://b/{each}"}},
            }
            for each in channels
        ]
    return made | more


def spec(name: str = "job", *channels: str, **more: Any) -> TrainingSpec:
    return TrainingSpec(request(name, *channels, **more), {"name": "mine:latest", "folder": None})


def row(wanted: TrainingSpec, status: TrainingStatus, state: str = IN_PROGRESS) -> Resource:
    return Resource(job_key(), wanted.to_row(), status.to_row(), state, 1, T0, T0, T0)


def job(wanted: TrainingSpec | None = None, status: TrainingStatus | None = None, state: str = IN_PROGRESS) -> Job:
    return Job.of(row(wanted or spec(), status or TrainingStatus(), state))


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


def controller(**more: Any) -> TrainingController:
    def new_id(kind: Kind, name: str, attempt: int, host: int) -> WorkloadId:
        return WORKLOADS[host - 1]

    return TrainingController(HOME, lambda job: {"AWS_ENDPOINT_URL": "http://here"}, new_id=new_id, **more)


def seen(
    found: Observation | None = None,
    *,
    stage: TransferPhase | None = None,
    collect: TransferPhase | None = None,
    message: str = "",
    logs: LogState | None = None,
    failure: str | None = None,
) -> Seen:
    """What one look could see of WORKLOAD."""
    transfers = {
        each: TransferState(each, phase, message, 1 << 20, 4 << 20)
        for each, phase in ((stage_id(WORKLOAD), stage), (collect_id(WORKLOAD), collect))
        if phase
    }
    return Seen(
        workloads={WORKLOAD: found} if found else {},
        transfers=transfers,
        logs={WORKLOAD: logs} if logs else {},
        failure_files={} if failure is None else {WORKLOAD: failure},
        capabilities={DOCKER: READY},
    )


def preparing(message: str = "") -> Observation:
    return Observation(WORKLOAD, Phase.PREPARING, message=message)


def running(since: float = 10) -> Observation:
    return Observation(WORKLOAD, Phase.RUNNING, started_at=after(since), image_digest="sha256:1")


def exited(code: int | None = 0, cause: ExitCause = ExitCause.EXIT, message: str = "") -> Observation:
    ran = None if code is None and cause in {ExitCause.IMAGE, ExitCause.START} else after(10)
    return Observation(WORKLOAD, Phase.EXITED, ran, after(20), code, cause, message)


DRAINED = LogState(drained=True)


def begun(**more: Any) -> TrainingStatus:
    """A job whose workload has an id."""
    first = {"Status": "Starting", "StartTime": to_text(T0), "StatusMessage": "Preparing the instances for training"}
    status = TrainingStatus(
        transitions=(first,), attempt=1, workloads=(WORKLOAD,), backend=DOCKER, training_started_at=to_text(T0)
    )
    return replace(status, **more)


def in_step(secondary: str, message: str, **more: Any) -> TrainingStatus:
    """A job that has come to a step."""
    entry = {"Status": secondary, "StartTime": to_text(T0), "StatusMessage": message}
    return replace(begun(), secondary=secondary, transitions=(*begun().transitions, entry), **more)


def training(**more: Any) -> TrainingStatus:
    text = "Training image download completed. Training in progress."
    return in_step("Training", text, **{"seen": (WORKLOAD,), **more})


def last(decision: Decision) -> dict[str, Any]:
    assert decision.status is not None
    transition: dict[str, Any] = decision.status["transitions"][-1]
    return transition


def kinds(decision: Decision) -> list[type]:
    return [type(action) for action in decision.actions]


def reason(decision: Decision) -> str:
    assert decision.state == FAILED
    assert decision.status is not None
    text: str = decision.status["failure_reason"]
    return text


def committed(decision: Decision) -> Any:
    return type(begun()).from_row(decision.status)


STOP_WISH = replace(spec(), stop_requested_at=to_text(T0))
