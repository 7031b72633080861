"""What a CreateTrainingJob request must satisfy beyond its shape. Pure checks and look-ups; changes nothing.

Every refusal is AWS's ValidationException with a sentence that says what to change. Capabilities that the container
contract has and this version does not are refused by name, never silently ignored.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sagewright.core.context import Ctx
from sagewright.services import s3_uris
from sagewright.services.sagemaker import training_channels, training_conditions, training_hosts
from sagewright.services.sagemaker.checks import check_role, later
from sagewright.services.service import Request
from sagewright.store import object_rows
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    _check_algorithm(request.get("AlgorithmSpecification"))
    _check_metrics(request["AlgorithmSpecification"].get("MetricDefinitions", ()))
    training_hosts.check(request.get("ResourceConfig"))
    training_conditions.check(request)
    _check_unsupported(request)
    _check_environment(request)
    check_role(ctx, tx, request["RoleArn"])
    _check_output(ctx, tx, request["OutputDataConfig"])
    training_hosts.check_channels(request)
    training_channels.check(ctx, tx, request)


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


def _check_unsupported(request: Request) -> None:
    if request.get("TensorBoardOutputConfig"):
        raise later(
            "TensorBoardOutputConfig", "Write the events below /opt/ml/output/data: they come with output.tar.gz"
        )
    if request.get("CheckpointConfig"):
        raise later("CheckpointConfig", "Leave checkpoint_s3_uri out")


def _check_environment(request: Request) -> None:
    total = sum(len(k) + len(v) for k, v in request.get("HyperParameters", {}).items())
    if total > 256 * 1024:
        raise validation(f"HyperParameters hold {total} characters; at most {256 * 1024} are allowed together.")


def _check_output(ctx: Ctx, tx: Tx, output: Mapping[str, Any]) -> None:
    uri = s3_uris.parse(output["S3OutputPath"], "outputDataConfig.s3OutputPath")
    if not object_rows.bucket_exists(tx, ctx.account, uri.bucket):
        raise validation(
            f"The bucket of OutputDataConfig.S3OutputPath '{output['S3OutputPath']}' does not exist. "
            f"Create it first: aws s3 mb s3://{uri.bucket}"
        )
