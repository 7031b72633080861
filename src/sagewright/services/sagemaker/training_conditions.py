"""When a training job ends and what may be changed while it runs: StoppingCondition, spot, UpdateTrainingJob. Pure.

Source: contract A.12; https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateTrainingJob.html.
Owns: these checks, and the request as it reads after an update. Does not own: writing it (`training_jobs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sagewright.services.sagemaker.checks import later
from sagewright.services.service import Request
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Resource
from sagewright.wire.faults import validation

DAY: Final = 86400  # seconds; also the default of MaxRuntimeInSeconds
_LONGEST_RUNTIME: Final = 28 * DAY
_IN_USE: Final = frozenset({"Downloading", "Training"})


def check(request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    if (request.get("ResourceConfig") or {}).get("KeepAlivePeriodInSeconds"):
        raise later(
            "ResourceConfig.KeepAlivePeriodInSeconds (a warm pool)", "Leave it out: jobs start in a moment here"
        )
    _check_remote_debug(request, request.get("RemoteDebugConfig") or {})
    condition = request.get("StoppingCondition") or {}
    runtime = condition.get("MaxRuntimeInSeconds", DAY)
    wait = condition.get("MaxWaitTimeInSeconds")
    if not 1 <= runtime <= _LONGEST_RUNTIME:
        raise validation(
            f"StoppingCondition.MaxRuntimeInSeconds is {runtime}; it must be from 1 to {_LONGEST_RUNTIME} (28 days)."
        )
    if not request.get("EnableManagedSpotTraining"):
        if wait is not None:
            raise validation(
                "StoppingCondition.MaxWaitTimeInSeconds is only for spot training. Set EnableManagedSpotTraining=True "
                "or leave MaxWaitTimeInSeconds out."
            )
        return
    if wait is None:
        raise validation(
            "EnableManagedSpotTraining needs StoppingCondition.MaxWaitTimeInSeconds. Set it to at least "
            f"MaxRuntimeInSeconds ({runtime})."
        )
    if wait < runtime:
        raise validation(
            f"StoppingCondition.MaxWaitTimeInSeconds ({wait}) must be at least MaxRuntimeInSeconds ({runtime})."
        )


def updated(job: Resource, request: Request) -> dict[str, Any]:
    """The stored request with what an UpdateTrainingJob changes of it."""
    changes: dict[str, Any] = {}
    stored: Mapping[str, Any] = job.spec["request"]
    if keep := (request.get("ResourceConfig") or {}).get("KeepAlivePeriodInSeconds"):
        raise validation(
            f"ResourceConfig.KeepAlivePeriodInSeconds {keep} cannot be set: training job {job.key.name} has no warm "
            "pool, because jobs start at once here. Leave it out, or set it to 0."
        )
    if "ResourceConfig" in request:
        changes["ResourceConfig"] = {**stored["ResourceConfig"], **request["ResourceConfig"]}
    live = {name: request[name] for name in ("ProfilerConfig", "RemoteDebugConfig") if name in request}
    if "ProfilerRuleConfigurations" in request:
        live["ProfilerRuleConfigurations"] = request["ProfilerRuleConfigurations"]
    if live:
        _check_in_use(job, ", ".join(live))
    if debug := live.get("RemoteDebugConfig"):
        _check_remote_debug(stored, debug)
    if "ProfilerConfig" in live:
        live["ProfilerConfig"] = {**(stored.get("ProfilerConfig") or {}), **live["ProfilerConfig"]}
    return {**stored, **changes, **live}


def _check_in_use(job: Resource, what: str) -> None:
    step = job.status["secondary"]
    if job.state != kind.IN_PROGRESS or step not in _IN_USE:
        raise validation(
            f"{what} can be changed only while a training job is Downloading or Training; {job.key.name} is in "
            f"status {job.state}, {step}."
        )


def _check_remote_debug(stored: Mapping[str, Any], debug: Mapping[str, Any]) -> None:
    if debug.get("EnableRemoteDebug") and stored.get("EnableNetworkIsolation"):
        raise validation(
            "RemoteDebugConfig.EnableRemoteDebug does not go with EnableNetworkIsolation. Leave one of them out."
        )
