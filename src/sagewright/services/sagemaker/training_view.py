"""How a training job's row looks to a client: DescribeTrainingJob and the list summary. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sagewright.core.clock import from_text
from sagewright.services.service import Response
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Resource

_SPOT_PRICE: Final = 0.3  # of the on-demand price; AWS speaks of savings of up to 90 %

_RULES: Final[Mapping[str, str]] = {
    "DebugRuleConfigurations": "DebugRuleEvaluationStatuses",
    "ProfilerRuleConfigurations": "ProfilerRuleEvaluationStatuses",
}
_NOT_EVALUATED: Final = "Rules are kept, and not evaluated: what the hook or the profiler writes is in S3OutputPath."

_ECHOED = (
    "HyperParameters",
    "RoleArn",
    "InputDataConfig",
    "ResourceConfig",
    "VpcConfig",
    "CheckpointConfig",
    "DebugHookConfig",
    "DebugRuleConfigurations",
    "TensorBoardOutputConfig",
    "ExperimentConfig",
    "ProfilerRuleConfigurations",
    "Environment",
    "RetryStrategy",
    "RemoteDebugConfig",
    "InfraCheckConfig",
)


def describe(job: Resource) -> Response:
    """Every member that clients index is present (compat-surface 1.4): KmsKeyId "", defaults filled in."""
    request: Mapping[str, Any] = job.spec["request"]
    status: Mapping[str, Any] = job.status
    shown: dict[str, Any] = {name: request[name] for name in _ECHOED if name in request}
    shown.update(
        TrainingJobName=job.key.name,
        TrainingJobArn=kind.job_arn(job.key),
        ModelArtifacts={"S3ModelArtifacts": _model_uri(job)},
        TrainingJobStatus=job.state,
        SecondaryStatus=status["secondary"],
        AlgorithmSpecification=_algorithm(request["AlgorithmSpecification"]),
        OutputDataConfig={"KmsKeyId": "", "CompressionType": "GZIP", **request["OutputDataConfig"]},
        StoppingCondition={"MaxRuntimeInSeconds": 86400, **request.get("StoppingCondition", {})},
        CreationTime=job.created_at,
        LastModifiedTime=job.changed_at,
        SecondaryStatusTransitions=_transitions(job),
        EnableNetworkIsolation=request.get("EnableNetworkIsolation", False),
        EnableInterContainerTrafficEncryption=request.get("EnableInterContainerTrafficEncryption", False),
        EnableManagedSpotTraining=request.get("EnableManagedSpotTraining", False),
        ProfilingStatus="Disabled",
    )
    if profiler := request.get("ProfilerConfig"):
        shown["ProfilerConfig"] = profiler
    for asked, shown_as in _RULES.items():
        if rules := request.get(asked):
            shown[shown_as] = [_rule(rule, job) for rule in rules]
    if reason := status.get("failure_reason"):
        shown["FailureReason"] = reason
    if metrics := status.get("metrics"):
        shown["FinalMetricDataList"] = [_metric(metric) for metric in metrics]
    if pool := warm_pool(job):
        shown["WarmPoolStatus"] = pool
    shown.update(_times(job))
    return shown


def warm_pool(job: Resource) -> dict[str, Any]:
    """WarmPoolStatus; empty when the job has none."""
    pool = job.status.get("pool") or {}
    asked = job.spec["request"]["ResourceConfig"].get("KeepAlivePeriodInSeconds")
    if job.state not in kind.TERMINAL:
        return {"Status": "InUse"} if pool or asked else {}
    if not pool:
        return {}
    shown = {"Status": pool["status"]}
    if "retained" in pool:
        shown["ResourceRetainedBillableTimeInSeconds"] = pool["retained"]
    if "reused_by" in pool:
        shown["ReusedByJob"] = pool["reused_by"]
    return shown


def summarize(job: Resource) -> dict[str, Any]:
    """One TrainingJobSummary."""
    summary: dict[str, Any] = {
        "TrainingJobName": job.key.name,
        "TrainingJobArn": kind.job_arn(job.key),
        "CreationTime": job.created_at,
        "LastModifiedTime": job.changed_at,
        "TrainingJobStatus": job.state,
        "SecondaryStatus": job.status["secondary"],
    }
    if ended := _moment(job.status.get("training_ended_at")):
        summary["TrainingEndTime"] = ended
    if pool := warm_pool(job):
        summary["WarmPoolStatus"] = pool
    return summary


def _model_uri(job: Resource) -> str:
    return kind.artifact_uris(job.spec["request"], job.key.name)[0].rstrip("/")


def _algorithm(algorithm: Mapping[str, Any]) -> dict[str, Any]:
    return {"EnableSageMakerMetricsTimeSeries": False, **algorithm}


def _times(job: Resource) -> dict[str, Any]:
    """Start, end, and the whole seconds between them (at least 1, as the API's minimum says)."""
    started = _moment(job.status.get("training_started_at"))
    ended = _moment(job.status.get("training_ended_at"))
    shown: dict[str, Any] = {}
    if started:
        shown["TrainingStartTime"] = started
    if ended:
        shown["TrainingEndTime"] = ended
    if started and ended:
        seconds = max(1, round((ended - started).total_seconds()))
        shown["TrainingTimeInSeconds"] = seconds
        shown["BillableTimeInSeconds"] = _billable(job, seconds)  # per instance: clients multiply
    return shown


def _billable(job: Resource, seconds: int) -> int:
    """Of a spot job: the time in which it trained, at a price that stands for the market's, so that clients which
    print the savings have some to print."""
    if not job.spec["request"].get("EnableManagedSpotTraining"):
        return seconds
    trained = sum(
        (from_text(entry["EndTime"]) - from_text(entry["StartTime"])).total_seconds()
        for entry in job.status["transitions"]
        if entry["Status"] == "Training" and entry.get("EndTime")
    )
    return max(1, min(seconds, round(trained * _SPOT_PRICE)))


def _transitions(job: Resource) -> list[dict[str, Any]]:
    """AWS has no member for what the image's name resolved to, so the first step's message says it."""
    shown = [_transition(entry) for entry in job.status["transitions"]]
    if shown and (digest := _image_digest(job)):
        shown[0]["StatusMessage"] += f" - image {digest}"
    return shown


def _image_digest(job: Resource) -> str:
    """Pinned at creation where we hold the image, else once the engine has told; empty until then."""
    image = job.spec["image"]
    pinned = (image.get("folder") or {}).get("digest") or (image.get("own") or "").partition("@")[2]
    return str(pinned or job.status.get("image_digest") or "")


def _rule(rule: Mapping[str, Any], job: Resource) -> dict[str, Any]:
    """Nothing evaluates it, which must not look as if it had found no issues."""
    return {
        "RuleConfigurationName": rule["RuleConfigurationName"],
        "RuleEvaluationStatus": "Stopped",
        "StatusDetails": _NOT_EVALUATED,
        "LastModifiedTime": job.created_at,
    }


def _transition(entry: Mapping[str, Any]) -> dict[str, Any]:
    shown = {
        "Status": entry["Status"],
        "StartTime": from_text(entry["StartTime"]),
        "StatusMessage": entry["StatusMessage"],
    }
    if entry.get("EndTime"):
        shown["EndTime"] = from_text(entry["EndTime"])
    return shown


def _metric(metric: Mapping[str, Any]) -> dict[str, Any]:
    return {"MetricName": metric["MetricName"], "Value": metric["Value"], "Timestamp": from_text(metric["Timestamp"])}


def _moment(text: str | None) -> datetime | None:
    return from_text(text) if text else None
