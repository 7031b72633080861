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
from sagewright.services.sagemaker import training_conditions
from sagewright.services.sagemaker.checks import check_role, later
from sagewright.services.service import Request
from sagewright.store import object_rows
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    _check_algorithm(request.get("AlgorithmSpecification"))
    _check_metrics(request["AlgorithmSpecification"].get("MetricDefinitions", ()))
    _check_resources(request.get("ResourceConfig"))
    training_conditions.check(request)
    _check_unsupported(request)
    _check_environment(request)
    check_role(ctx, tx, request["RoleArn"])
    _check_output(ctx, tx, request["OutputDataConfig"])
    _check_channels(ctx, tx, request)


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


def _check_resources(config: Mapping[str, Any] | None) -> None:
    if not config:
        raise validation("Give ResourceConfig with InstanceType and InstanceCount.")
    if config.get("InstanceGroups"):
        raise later("ResourceConfig.InstanceGroups", "Give InstanceType and InstanceCount=1")
    if "InstanceType" not in config:
        raise validation("Give ResourceConfig.InstanceType, for example ml.m5.large.")
    if config.get("InstanceCount", 0) < 1:
        raise validation("ResourceConfig.InstanceCount must be at least 1.")
    if config["InstanceCount"] > 1:
        raise later("ResourceConfig.InstanceCount above 1", "Set InstanceCount=1")


def _check_unsupported(request: Request) -> None:
    if request.get("CheckpointConfig"):
        raise later("CheckpointConfig", "Leave checkpoint_s3_uri out")
    if request["OutputDataConfig"].get("CompressionType") == "NONE":
        raise later("OutputDataConfig.CompressionType NONE", "Use GZIP")


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


def _check_channels(ctx: Ctx, tx: Tx, request: Request) -> None:
    channels = request.get("InputDataConfig", ())
    names = [channel["ChannelName"] for channel in channels]
    for name in names:
        if names.count(name) > 1:
            raise validation(f"InputDataConfig has two channels named '{name}'. Give each channel its own name.")
        if name in {".", ".."}:
            raise validation(f"'{name}' cannot be a channel name: it would not be a folder of its own.")
    for channel in channels:
        _check_channel(ctx, tx, request, channel)


def _check_channel(ctx: Ctx, tx: Tx, request: Request, channel: Mapping[str, Any]) -> None:
    name = channel["ChannelName"]
    mode = channel.get("InputMode", request["AlgorithmSpecification"]["TrainingInputMode"])
    if mode != "File":
        raise later(f"Input mode {mode} (channel '{name}')", "Use File")
    if channel.get("CompressionType", "None") != "None":
        raise validation(
            f"CompressionType {channel['CompressionType']} of channel '{name}' needs Pipe input mode: in File mode "
            "objects are delivered as they are stored. Leave CompressionType out."
        )
    if channel.get("RecordWrapperType", "None") != "None":
        raise validation(f"RecordWrapperType of channel '{name}' needs Pipe input mode. Leave it out.")
    source = channel["DataSource"].get("S3DataSource")
    if source is None:
        raise later(
            f"A data source other than S3 (channel '{name}')", "Put the data into a bucket and give S3DataSource"
        )
    if source["S3DataType"] != "S3Prefix":
        raise later(f"S3DataType {source['S3DataType']} (channel '{name}')", "Use S3Prefix")
    if source.get("InstanceGroupNames"):
        raise validation(f"Channel '{name}' names instance groups, and ResourceConfig has none. Leave them out.")
    _check_objects(ctx, tx, request["RoleArn"], source["S3Uri"], name)


def _check_objects(ctx: Ctx, tx: Tx, role: str, text: str, channel: str) -> None:
    uri = s3_uris.parse(text, f"inputDataConfig channel {channel}")
    if object_rows.bucket_exists(tx, ctx.account, uri.bucket) and object_rows.any_object(tx, uri.bucket, uri.key):
        return
    raise validation(
        f'No S3 objects found under S3 URL "{text}" given in input data source. Please ensure that the bucket exists '
        f"in the selected region ({ctx.region}), that objects exist under that S3 prefix, and that the role "
        f'"{role}" has "s3:ListBucket" permissions on bucket "{uri.bucket}".'
    )
