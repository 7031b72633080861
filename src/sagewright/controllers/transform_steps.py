"""A transform job as a value: its row read, the names of its parts, what is asked of backends and staging. Pure.

    plan ─► artifacts ─► one transfer each ─► model folders
         ─► instances ─► containers ─► one workload each
         ─► instances ─► one run each: its share of the objects through its containers

Owns: `Job`, names, requests for staging, starting and running. Does not own: which comes next (`transform_jobs`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sagewright.controllers.controller import StartTransfer, Submit
from sagewright.controllers.endpoint_steps import Artifact, artifact, backend_of, image_ref
from sagewright.core.clock import to_text
from sagewright.core.ids import BackendName, TransferId, WorkloadId
from sagewright.store.kinds import transform_job as kind
from sagewright.store.kinds.endpoint import ContainerPlan, VariantPlan
from sagewright.store.kinds.transform_job import TransformSpec, TransformStatus
from sagewright.store.resources import Resource
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.hosting import Place, serving_workload
from sagewright.workloads.instances import Machine
from sagewright.workloads.observation import Observation
from sagewright.workloads.transfer import RunTransform, StageModel

_UNSAFE: Final = re.compile(r"[^a-zA-Z0-9_.-]")
_STRATEGIES: Final = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}

Surroundings = Callable[[VariantPlan, BackendName], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Job:
    """One row, read."""

    resource: Resource
    spec: TransformSpec
    status: TransformStatus

    @classmethod
    def of(cls, row: Resource) -> Job:
        return cls(row, TransformSpec.from_row(row.spec), TransformStatus.from_row(row.status))

    @property
    def name(self) -> str:
        return self.resource.key.name

    @property
    def backends(self) -> tuple[BackendName, ...]:
        return tuple(dict.fromkeys(backend_of(each) for each in self.spec.plan.containers))

    def with_status(self, status: TransformStatus) -> Job:
        return replace(self, status=status)

    def containers(self) -> Iterator[tuple[int, ContainerPlan, WorkloadId]]:
        """Each container of each instance that was chosen: number of the instance, container, workload."""
        for number, instance in enumerate(self.status.instances):
            for each in self.spec.plan.containers:
                yield number, each, WorkloadId(instance["workloads"][each.name])

    def workloads(self) -> dict[WorkloadId, BackendName]:
        return {workload: backend_of(each) for _, each, workload in self.containers()}

    def log_streams(self) -> dict[WorkloadId, tuple[str, str]]:
        """The instance's own stream, and with several containers one for each (contract C.9)."""
        several = len(self.spec.plan.containers) > 1
        return {
            workload: (kind.LOG_GROUP, self._stream(number) + (f"/{each.name}" if several else ""))
            for number, each, workload in self.containers()
        }

    def data_log(self, number: int) -> tuple[str, str]:
        return kind.LOG_GROUP, f"{self._stream(number)}/{kind.DATA_LOG}"

    def _stream(self, number: int) -> str:
        epoch = int(self.resource.created_at.timestamp())
        return f"{self.name}/{self.status.instances[number]['id']}-{epoch}"


def choose_instances(job: Job, token: Callable[[], str]) -> tuple[Mapping[str, Any], ...]:
    """Ids that are never used again, chosen before anything is started."""
    safe = _UNSAFE.sub("-", job.name)[:63]

    def instance() -> Mapping[str, Any]:
        chosen = token()
        names = {
            each.name: f"transform-{safe}-{_UNSAFE.sub('-', each.name)[:24]}-{chosen}"
            for each in job.spec.plan.containers
        }
        return {"id": f"i-{chosen}", "workloads": names}

    return tuple(instance() for _ in range(job.spec.plan.count))


def new_token() -> str:
    return secrets.token_hex(8)


def own_folder(workloads: Path, job: Job) -> Path:
    """What the runs keep on disk while the job is not over."""
    return workloads / f"transform-{_UNSAFE.sub('-', job.name)[:63]}-{job.status.instances[0]['id']}"


def stage_ids(job: Job) -> dict[Artifact, TransferId]:
    made = dict.fromkeys(artifact(each) for each in job.spec.plan.containers)
    return {each: TransferId(f"{_base(job)}.model-{number}") for number, each in enumerate(made)}


def stage(job: Job, each: Artifact, transfer: TransferId, models: Path) -> StartTransfer:
    key = job.resource.key
    return StartTransfer(StageModel(transfer, key.account, key.region, models, each.uri, each.unpack))


def run_ids(job: Job) -> tuple[TransferId, ...]:
    return tuple(TransferId(f"{_base(job)}.run-{number}") for number in range(len(job.status.instances)))


def run(job: Job, number: int, addresses: tuple[str, ...], workloads: Path) -> StartTransfer:
    key = job.resource.key
    transfer = RunTransform(
        run_ids(job)[number],
        key.account,
        key.region,
        own_folder(workloads, job) / str(number),
        job.spec.request,
        addresses,
        number,
        len(job.status.instances),
        job.data_log(number),
        job.status.began_at or to_text(job.resource.created_at),
    )
    return StartTransfer(transfer)


def submission(
    job: Job,
    number: int,
    container: ContainerPlan,
    *,
    model: Path,
    has: Capabilities,
    surroundings: Surroundings,
) -> Submit:
    plan, backend = job.spec.plan, backend_of(container)
    names = [each.name for each in plan.containers]
    instance = job.status.instances[number]
    workload = WorkloadId(instance["workloads"][container.name])
    made = serving_workload(
        {**container.env, **environment(job)},
        Place(job.name, plan.name, instance["id"], container.name, names.index(container.name), len(names)),
        workload=workload,
        image=image_ref(container, {}),
        model=model,
        instance_type=plan.instance_type,
        region=job.resource.key.region,
        machine=Machine(has.cpus, has.memory, has.gpus),
        isolated=plan.isolated,
        platform=surroundings(plan, backend),
    )
    return Submit(backend, made, job.log_streams()[workload])


def environment(job: Job) -> dict[str, str]:
    """Contract C.2: the job's own variables win over the model's; limits only where the caller gave them."""
    request = job.spec.request
    own = {name: value for name, value in (request.get("Environment") or {}).items() if name != kind.ON_ERROR}
    told = {"SAGEMAKER_BATCH": "true", "TRANSFORM_JOB_ARN": kind.job_arn(job.resource.key)}
    if (payload := request.get("MaxPayloadInMB")) is not None:
        told["SAGEMAKER_MAX_PAYLOAD_IN_MB"] = str(payload)
    if strategy := request.get("BatchStrategy"):
        told["SAGEMAKER_BATCH_STRATEGY"] = _STRATEGIES[strategy]
    if concurrency := request.get("MaxConcurrentTransforms"):
        told["SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"] = str(concurrency)
    return {**own, **told}


def addresses(job: Job, number: int, seen: Mapping[WorkloadId, Observation]) -> tuple[str, ...]:
    """Of one instance's containers, in the order of the pipeline."""
    chosen = job.status.instances[number]["workloads"]
    return tuple(seen[WorkloadId(chosen[each.name])].address or "" for each in job.spec.plan.containers)


def _base(job: Job) -> str:
    """Unlike any other job's, also one of the same name."""
    return f"transform-{job.name}-{job.status.instances[0]['id']}"
