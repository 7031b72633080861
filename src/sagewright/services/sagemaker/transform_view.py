"""How a transform job's row looks to a client: DescribeTransformJob and the list summary. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.clock import from_text
from sagewright.services.service import Response
from sagewright.store.kinds import transform_job as kind
from sagewright.store.resources import Resource

_ECHOED = (
    "TransformJobName",
    "ModelName",
    "MaxConcurrentTransforms",
    "ModelClientConfig",
    "MaxPayloadInMB",
    "BatchStrategy",
    "Environment",
    "DataCaptureConfig",
    "TransformResources",
    "ExperimentConfig",
)


def describe(job: Resource) -> Response:
    request: Mapping[str, Any] = job.spec["request"]
    shown: dict[str, Any] = {name: request[name] for name in _ECHOED if name in request}
    shown.update(
        TransformJobArn=kind.job_arn(job.key),
        TransformJobStatus=job.state,
        TransformInput={"CompressionType": "None", "SplitType": "None", **request["TransformInput"]},
        TransformOutput={"AssembleWith": "None", "KmsKeyId": "", **request["TransformOutput"]},
        DataProcessing={
            "InputFilter": "$",
            "OutputFilter": "$",
            "JoinSource": "None",
            **(request.get("DataProcessing") or {}),
        },
        CreationTime=job.created_at,
    )
    if began := job.status.get("began_at"):
        shown["TransformStartTime"] = from_text(began)
    return {**shown, **_ending(job)}


def summarize(job: Resource) -> dict[str, Any]:
    """One TransformJobSummary."""
    return {
        "TransformJobName": job.key.name,
        "TransformJobArn": kind.job_arn(job.key),
        "CreationTime": job.created_at,
        "LastModifiedTime": job.changed_at,
        "TransformJobStatus": job.state,
        **_ending(job),
    }


def _ending(job: Resource) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    if ended := job.status.get("ended_at"):
        shown["TransformEndTime"] = from_text(ended)
    if reason := job.status.get("failure_reason"):
        shown["FailureReason"] = reason
    return shown
