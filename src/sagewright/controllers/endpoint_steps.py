"""An endpoint as a value: its row read, the names of its parts, what is asked of backends and staging for it. Pure.

    plan ─► artifacts ─► one transfer per artifact and fleet ─► one model folder, shared by the instances
         ─► instances ─► containers ─► one workload each, with an id that is never used again

Owns: `Endpoint`, names of transfers, workloads and log streams, requests for staging and starting.
Does not own: which step comes next (`endpoint_fleets`, `endpoints`), the texts of failures (`endpoint_failures`).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final, NamedTuple

from sagewright.controllers.controller import StartTransfer, Submit
from sagewright.core.ids import BackendName, TransferId, WorkloadId
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import (
    ContainerPlan,
    EndpointSpec,
    EndpointStatus,
    Fleet,
    Instance,
    Plan,
    VariantPlan,
)
from sagewright.store.resources import Resource
from sagewright.workloads import folder_images
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.hosting import Place, serving_workload
from sagewright.workloads.instances import Machine
from sagewright.workloads.transfer import StageModel
from sagewright.workloads.workload import ImageRef

ACTIVE: Final = frozenset({kind.STAGING, kind.STARTING, kind.READY, kind.UNHEALTHY})
_UNSAFE: Final = re.compile(r"[^a-zA-Z0-9_.-]")

Surroundings = Callable[["Endpoint", VariantPlan, BackendName], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Timing:
    """`poll`: between looks while something is under way; `calm`: while nothing is. `drain_limit`: the longest wait
    for requests under way, longer than the longest request. `unhealthy_limit`: without a good ping before an instance
    is replaced. `steady`: in service for so long, an instance's earlier deaths are forgotten. `last_lines`: the
    longest wait for the log of a container that has ended. `unreachable_limit`: without a backend before what is
    being deployed fails."""

    poll: timedelta = timedelta(seconds=1)
    calm: timedelta = timedelta(seconds=5)
    drain_limit: timedelta = timedelta(seconds=65)
    unhealthy_limit: timedelta = timedelta(minutes=2)
    steady: timedelta = timedelta(minutes=10)
    last_lines: timedelta = timedelta(seconds=5)
    unreachable_limit: timedelta = timedelta(minutes=10)
    longest_pause: timedelta = timedelta(minutes=1)

    def pause(self, restarts: int) -> timedelta:
        """Before the life that follows so many lost ones: none, 1 s, 2 s, 4 s, ..."""
        if restarts <= 1:
            return timedelta(0)
        return min(self.longest_pause, timedelta(seconds=2 ** min(restarts - 2, 16)))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row, read."""

    resource: Resource
    spec: EndpointSpec
    status: EndpointStatus

    @classmethod
    def of(cls, row: Resource) -> Endpoint:
        return cls(row, EndpointSpec.from_row(row.spec), EndpointStatus.from_row(row.status))

    @property
    def name(self) -> str:
        return self.resource.key.name


class Artifact(NamedTuple):
    """What a container's model is made of; containers with the same one share a folder."""

    uri: str | None
    unpack: bool


def new_token() -> str:
    """8 hexadecimal digits: the random part of every id."""
    return secrets.token_hex(4)


def artifact(container: ContainerPlan) -> Artifact:
    return Artifact(container.artifact, bool(container.artifact) and container.artifact_kind == kind.TAR)


def artifacts(plan: Plan) -> tuple[Artifact, ...]:
    """Each once, in the order of the plan: scaling does not change it."""
    return tuple(dict.fromkeys(artifact(each) for variant in plan.variants for each in variant.containers))


def transfer_ids(endpoint: Endpoint, fleet: Fleet) -> dict[Artifact, TransferId]:
    return {
        each: TransferId(f"endpoint-{endpoint.name}.{fleet.id}.model-{number}")
        for number, each in enumerate(artifacts(fleet.plan))
    }


def stage(endpoint: Endpoint, each: Artifact, transfer: TransferId, models: Path) -> StartTransfer:
    key = endpoint.resource.key
    return StartTransfer(StageModel(transfer, key.account, key.region, models, each.uri, each.unpack))


def workload_ids(endpoint: Endpoint, instance: str, variant: VariantPlan, token: Callable[[], str]) -> dict[str, str]:
    """Container name → the id of its workload. Legal as a container's and a folder's name, and never used again."""
    safe = _UNSAFE.sub("-", endpoint.name)[:63]
    return {
        each.name: f"endpoint-{safe}-{instance}-{_UNSAFE.sub('-', each.name)[:24]}-{token()}"
        for each in variant.containers
    }


def backend_of(container: ContainerPlan) -> BackendName:
    """A folder image is run by the process backend, any other by the container engine."""
    return BackendName("process" if container.image.get("folder") else "docker")


def containers(fleet: Fleet, instance: Instance) -> Iterator[tuple[ContainerPlan, WorkloadId]]:
    """Those that have a workload."""
    for each in fleet.plan.variant(instance.variant).containers:
        if each.name in instance.workloads:
            yield each, WorkloadId(instance.workloads[each.name])


def log_stream(endpoint: Endpoint, variant: VariantPlan, instance: str, container: str) -> tuple[str, str]:
    """`<variant>/<instance>`, and the container's name where there are several (contract B.14)."""
    stream = f"{variant.name}/{instance}"
    return kind.log_group(endpoint.name), stream if len(variant.containers) == 1 else f"{stream}/{container}"


def submission(
    endpoint: Endpoint,
    fleet: Fleet,
    instance: Instance,
    container: ContainerPlan,
    *,
    model: Path,
    has: Capabilities,
    surroundings: Surroundings,
) -> Submit:
    variant = fleet.plan.variant(instance.variant)
    names = [each.name for each in variant.containers]
    backend = backend_of(container)
    workload = serving_workload(
        container.env,
        Place(endpoint.name, variant.name, instance.id, container.name, names.index(container.name), len(names)),
        workload=WorkloadId(instance.workloads[container.name]),
        image=image_ref(container, fleet.digests),
        model=model,
        instance_type=variant.instance_type,
        region=endpoint.resource.key.region,
        machine=Machine(has.cpus, has.memory, has.gpus),
        isolated=variant.isolated,
        platform=surroundings(endpoint, variant, backend),
    )
    return Submit(backend, workload, log_stream(endpoint, variant, instance.id, container.name))


def image_ref(container: ContainerPlan, digests: Mapping[str, str]) -> ImageRef:
    name, folder = container.image["name"], container.image.get("folder")
    own, stands_for = container.image.get("own") or "", container.image.get("stands_for") or ""
    return ImageRef(name, folder_images.from_row(folder) if folder else None, digests.get(name, ""), own, stands_for)
