"""What a CreateModel request must satisfy beyond its shape. Changes nothing.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModel.html, contract B.1, B.2 and B.6.
What only the engine knows (whether an image exists, its labels) is found when an endpoint is made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.services.sagemaker import artifacts
from sagewright.services.sagemaker.checks import check_role, later
from sagewright.services.service import Request
from sagewright.store.kinds.endpoint import DIRECT
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation

_ENVIRONMENT: Final = 32 * 1024  # characters of all containers' environments together

_LATER: Final[Mapping[str, str]] = {
    "ModelPackageName": "Give the package's Image and ModelDataUrl",
    "InferenceSpecificationName": "Give Image and ModelDataUrl",
    "MultiModelConfig": "Leave it out, and make one endpoint or production variant per model",
    "AdditionalModelDataSources": "Put those files into the model's own archive",
    "ContainerMetricsConfig": "Leave it out; what the container prints is in the endpoint's log",
}


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    given = containers(request)
    _check_execution(request, given)
    for container in given:
        _check_container(container)
    _check_environment(given)
    if role := request.get("ExecutionRoleArn"):
        check_role(ctx, tx, role)
    for container in given:
        if artifact := artifacts.of_container(container):
            artifacts.check(ctx, tx, artifact)


def containers(request: Request) -> Sequence[Mapping[str, Any]]:
    """The container definitions. Raises ValidationException unless the request has them in exactly one way."""
    primary, several = request.get("PrimaryContainer"), request.get("Containers")
    if primary is not None and several:
        raise validation("Give either PrimaryContainer or Containers, not both.")
    if primary is None and not several:
        raise validation("Give PrimaryContainer with the Image to run, or Containers for an inference pipeline.")
    return several or [primary]


def _check_execution(request: Request, definitions: Sequence[Mapping[str, Any]]) -> None:
    """Names of containers: all or none, each once (they become host names, which know no case)."""
    direct = (request.get("InferenceExecutionConfig") or {}).get("Mode") == DIRECT
    if direct and not request.get("Containers"):
        raise validation("InferenceExecutionConfig.Mode Direct needs Containers: each is invoked by its hostname.")
    names = [container.get("ContainerHostname") for container in definitions]
    if direct and not all(names):
        raise validation("With InferenceExecutionConfig.Mode Direct every container needs a ContainerHostname.")
    given = [name.lower() for name in names if name]
    if len(names) > 1 and given and len(given) < len(names):
        raise validation("Give a ContainerHostname to every container of the pipeline, or to none.")
    if len(set(given)) < len(given):
        raise validation(f"Two containers have the same ContainerHostname ({', '.join(given)}). Name each differently.")


def _check_container(container: Mapping[str, Any]) -> None:
    if container.get("Mode") == "MultiModel":
        raise later("Container Mode MultiModel", "Make one endpoint or one production variant per model")
    for member, instead in _LATER.items():
        if container.get(member):
            raise later(member, instead)
    if not container.get("Image"):
        raise validation("A container has no Image. Give the Docker image (or folder image) to run.")


def _check_environment(definitions: Sequence[Mapping[str, Any]]) -> None:
    pairs = [pair for container in definitions for pair in (container.get("Environment") or {}).items()]
    total = sum(len(name) + len(value) for name, value in pairs)
    if total > _ENVIRONMENT:
        raise validation(f"Environment holds {total} characters in all containers; at most {_ENVIRONMENT} are allowed.")
    for name, value in pairs:
        if "\0" in name or "\0" in value or "=" in name or not name:
            raise validation(f"Environment has the name {name!r}, which no process can be given. Rename it.")
