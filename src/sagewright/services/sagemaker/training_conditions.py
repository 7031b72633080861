"""When a training job ends and what may be changed while it runs: StoppingCondition, spot, UpdateTrainingJob. Pure.

Source: contract A.12; https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateTrainingJob.html.
Owns: these checks, and the request as it reads after an update. Does not own: writing it (`training_jobs`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sagewright.services.service import Request
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Resource
from sagewright.wire.faults import validation

DAY: Final = 86400  # seconds; also the default of MaxRuntimeInSeconds
_LONGEST_RUNTIME: Final = 28 * DAY
_IN_USE: Final = frozenset({"Downloading", "Training"})


def check(request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    _check_pool(request)
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
    if "ResourceConfig" in request:
        changes["ResourceConfig"] = _kept_alive(job, stored, request["ResourceConfig"])
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


def _check_pool(request: Request) -> None:
    config = request.get("ResourceConfig") or {}
    if not config.get("KeepAlivePeriodInSeconds"):
        return
    for name, given in (
        ("EnableManagedSpotTraining", request.get("EnableManagedSpotTraining")),
        ("ResourceConfig.InstanceGroups", config.get("InstanceGroups")),
    ):
        if given:
            raise validation(
                f"ResourceConfig.KeepAlivePeriodInSeconds (a warm pool) does not go with {name}. Leave one of them out."
            )


def _kept_alive(job: Resource, stored: Request, config: Request) -> dict[str, Any]:
    """ResourceConfig with another KeepAlivePeriodInSeconds: of a warm pool that is in use, or waits."""
    pool = job.status.get("pool") or {}
    over = job.state in kind.TERMINAL and pool.get("status") != kind.POOL_AVAILABLE
    if not config.get("KeepAlivePeriodInSeconds"):
        return {**stored["ResourceConfig"], **config}
    if over:
        raise validation(
            f"ResourceConfig.KeepAlivePeriodInSeconds cannot be set: training job {job.key.name} has ended "
            f"({job.state}), and it has no warm pool that is {kind.POOL_AVAILABLE}."
        )
    if not pool and not stored["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        raise validation(
            f"ResourceConfig.KeepAlivePeriodInSeconds cannot be set: training job {job.key.name} was created without a "
            "warm pool. Give it at creation."
        )
    return {**stored["ResourceConfig"], **config}


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
