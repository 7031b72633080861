"""The SageMaker hosting container as values (container contract B.2, B.6).

    variant, container ──► environment, command, port ──► the whole Workload

Pure: nothing here touches a disk, a clock or an engine. Owns: what a serving container sees.
Does not own: how a model becomes a folder (`staging`), how a workload is run (`backends`), health (`controllers`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from sagewright.core.ids import WorkloadId
from sagewright.workloads import clients
from sagewright.workloads.container import ML
from sagewright.workloads.instances import Machine, instance_resources
from sagewright.workloads.workload import ImageRef, Mount, Workload

PORT: Final = 8080
MODEL: Final = f"{ML}/model"
STOP_GRACE: Final = timedelta(seconds=30)
SERVE: Final = "serve"
SERVE_LABEL: Final = "sagewright.serve-argument"
BIND_LABEL: Final = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
SERVE_VARIABLE: Final = "SAGEWRIGHT_SERVE_ARGUMENT"

_SAFE_PORTS: Final = 20000  # the first of the ports that containers of one instance may use as they like
_SAFE_PORTS_EACH: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Which container of which instance it is. `index` and `total` count the containers of the instance."""

    endpoint: str
    variant: str
    instance: str
    container: str
    index: int = 0
    total: int = 1

    @property
    def port(self) -> int:
        """8080; in an instance with several containers each has a port of its own (contract B.6)."""
        return PORT + self.index

    @property
    def hostname(self) -> str:
        """ContainerHostname counts only where there are several (contract B.2.3)."""
        return self.container if self.total > 1 else ""


def serving_environment(
    env: Mapping[str, str],
    place: Place,
    *,
    region: str,
    isolated: bool = False,
    gpus: int = 0,
    platform: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """What is set on top of the image's own ENV (contract B.2.2).

    `platform` has the role's keys and how AWS clients reach us (`clients`); they give way to what the user set, and an
    isolated container has none. The service's own names win over the user.
    """
    user = {name: value for name, value in env.items() if name != SERVE_VARIABLE}
    given = {} if isolated else clients.beside(platform or {}, user)
    reserved = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region}
    if place.total > 1:
        first = _SAFE_PORTS + place.index * _SAFE_PORTS_EACH
        reserved["SAGEMAKER_BIND_TO_PORT"] = str(place.port)
        reserved["SAGEMAKER_SAFE_PORT_RANGE"] = f"{first}-{first + _SAFE_PORTS_EACH - 1}"
    if not gpus:
        reserved["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {**given, **user, **reserved}


def serving_workload(
    env: Mapping[str, str],
    place: Place,
    *,
    workload: WorkloadId,
    image: ImageRef,
    model: Path,
    instance_type: str,
    region: str,
    machine: Machine,
    isolated: bool = False,
    platform: Mapping[str, str] | None = None,
) -> Workload:
    """One container. `model` is the folder that it sees, and may only read, as /opt/ml/model.

    The command is `serve` (contract B.2.1); another word is declared by the image's label or, before that, by the
    model's environment (design.md section 6). Of the machine's GPUs it gets the last ones, and shares them with other
    endpoints; training jobs are given theirs from the first one on.
    """
    words = tuple((env.get(SERVE_VARIABLE) or "").split())
    resources = instance_resources(instance_type, cpus=machine.cpus, memory=machine.memory, gpus=machine.gpus)
    resources = replace(resources, first_gpu=max(0, machine.gpus - resources.gpus))
    return Workload(
        id=workload,
        image=image,
        entrypoint=None,
        arguments=words or (SERVE,),
        arguments_label="" if words else SERVE_LABEL,
        required_labels={BIND_LABEL: "true"} if place.total > 1 else {},
        env=serving_environment(env, place, region=region, isolated=isolated, gpus=resources.gpus, platform=platform),
        mounts=(Mount(model, MODEL, read_only=True), *clients.bundle_mounts({} if isolated else platform or {})),
        resources=resources,
        hostname=place.hostname,
        network_isolation=isolated,
        ports=(place.port,),
        stop_grace=STOP_GRACE,
        labels={
            "sagewright.endpoint": place.endpoint,
            "sagewright.variant": place.variant,
            "sagewright.instance": place.instance,
        },
    )
