"""What a CreateTrainingJob request must satisfy beyond its shape. Pure checks and look-ups; changes nothing.

Every refusal is AWS's ValidationException with a sentence that says what to change. Capabilities that the container
contract has and this version does not are refused by name, never silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.services.sagemaker import training_channels, training_conditions, training_hosts, training_outputs
from sagewright.services.sagemaker.checks import check_role, later
from sagewright.services.service import Request
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation

_NOT_HERE: Final = (
    ("ServerlessJobConfig", "Give AlgorithmSpecification and ResourceConfig, with an image that does the work"),
    ("ModelPackageConfig", "Leave it out; the model is where ModelArtifacts says"),
    ("MlflowConfig", "Leave it out, and name a tracking server of yours in Environment, as MLFLOW_TRACKING_URI"),
    ("SessionChainingConfig.EnableSessionTagChaining", "Leave it out, or set it to false"),
    ("ResourceConfig.TrainingPlanArn", "Leave it out: the job waits for room on this machine"),
    ("ResourceConfig.InstancePlacementConfig", "Leave it out: all hosts of a job are on this machine"),
    ("ResourceConfig.InstancePreferences", "Give InstanceType and InstanceCount"),
)


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    for member, instead in _NOT_HERE:
        if _asked(request, member):
            raise later(member, instead)
    _check_algorithm(request.get("AlgorithmSpecification"))
    _check_metrics(request["AlgorithmSpecification"].get("MetricDefinitions", ()))
    training_hosts.check(request.get("ResourceConfig"))
    training_conditions.check(request)
    _check_environment(request)
    check_role(ctx, tx, request["RoleArn"])
    training_outputs.check(ctx, tx, request)
    training_hosts.check_channels(request)
    training_channels.check(ctx, tx, request)


def _asked(request: Request, member: str) -> bool:
    found: Any = request
    for name in member.split("."):
        found = found.get(name) or {}
    return bool(found)


def _check_algorithm(algorithm: Mapping[str, Any] | None) -> None:
    if not algorithm or not (algorithm.get("TrainingImage") or algorithm.get("AlgorithmName")):
        raise validation("Give AlgorithmSpecification.TrainingImage: the Docker image (or folder image) to run.")
    if algorithm.get("TrainingImage") and algorithm.get("AlgorithmName"):
        raise validation("AlgorithmSpecification has both TrainingImage and AlgorithmName. Give exactly one of them.")
    if algorithm.get("AlgorithmName"):
        raise validation(
            f"There is no algorithm resource named '{algorithm['AlgorithmName']}'. Give "
            "AlgorithmSpecification.TrainingImage instead."
        )


def _check_metrics(definitions: Sequence[Mapping[str, str]]) -> None:
    """The first group of each expression is the metric's value, so there must be one (contract A.14)."""
    for definition in definitions:
        try:
            groups = re.compile(definition["Regex"]).groups
        except re.error as error:
            raise validation(
                f"The regular expression of metric '{definition['Name']}' cannot be read: {error}. Mend it."
            ) from None
        if groups < 1:
            raise validation(
                f"The regular expression of metric '{definition['Name']}' has no group. Put parentheses around the "
                "value, for example loss=([0-9.]+)"
            )


def _check_environment(request: Request) -> None:
    total = sum(len(k) + len(v) for k, v in request.get("HyperParameters", {}).items())
    if total > 256 * 1024:
        raise validation(f"HyperParameters hold {total} characters; at most {256 * 1024} are allowed together.")
