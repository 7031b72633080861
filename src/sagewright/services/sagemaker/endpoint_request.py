"""What may be asked of an endpoint, and when. Pure.

    InService     update, rescale, delete
    Failed        delete
    any other     delete; the rest only once the change under way has ended

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_UpdateEndpoint.html, contract B.10 and B.11.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sagewright.services.sagemaker.checks import later
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import Plan
from sagewright.wire.faults import validation


def check_deployment(deployment: Mapping[str, Any] | None) -> None:
    """Only what is done anyway is accepted: all at once, the old fleet stopped as soon as the new one serves."""
    if not deployment:
        return
    if deployment.get("RollingUpdatePolicy"):
        raise later("DeploymentConfig.RollingUpdatePolicy", "Use BlueGreenUpdatePolicy with ALL_AT_ONCE")
    if (deployment.get("AutoRollbackConfiguration") or {}).get("Alarms"):
        raise later(
            "DeploymentConfig.AutoRollbackConfiguration", "Leave it out; a version that does not start is rolled back"
        )
    policy = deployment.get("BlueGreenUpdatePolicy") or {}
    traffic = policy.get("TrafficRoutingConfiguration") or {}
    if traffic.get("Type", "ALL_AT_ONCE") != "ALL_AT_ONCE":
        raise later(f"TrafficRoutingConfiguration.Type {traffic['Type']}", "Use ALL_AT_ONCE")
    for member, value in {**traffic, **policy}.items():
        if member.endswith("InSeconds") and value:
            instead = "Set it to 0" if "Wait" in member else "Leave it out"
            raise later(f"DeploymentConfig's {member} above 0", instead)


def check_updatable(arn: str, state: str) -> None:
    """`state` is the EndpointStatus that clients see. Raises ValidationException in the states of the table above."""
    if state in {kind.IN_SERVICE, kind.OUT_OF_SERVICE}:
        return
    if state == kind.FAILED:
        raise validation(
            f'Cannot update endpoint "{arn}": it is in status Failed, in which DeleteEndpoint is all that can be done. '
            "Delete it, then create it again."
        )
    raise validation(
        f'Cannot update in-progress endpoint "{arn}". It is in status {state}: wait until it is InService.'
    )


def changes(asked: Sequence[Mapping[str, Any]], plan: Plan) -> Mapping[str, Mapping[str, Any]]:
    """DesiredWeightsAndCapacities by variant name. Raises ValidationException for the first that cannot be."""
    known = [variant.name for variant in plan.variants]
    found: dict[str, Mapping[str, Any]] = {}
    for change in asked:
        name = change["VariantName"]
        if name not in known:
            raise validation(f"The endpoint has no variant named '{name}'. Its variants: {', '.join(known)}.")
        if name in found:
            raise validation(f"DesiredWeightsAndCapacities names variant '{name}' twice. Name each variant once.")
        found[name] = change
        _check_change(name, change)
    return found


def _check_change(name: str, change: Mapping[str, Any]) -> None:
    if change.get("ServerlessUpdateConfig"):
        raise later(f"ServerlessUpdateConfig (variant '{name}')", "Give DesiredInstanceCount")
    weight, count = change.get("DesiredWeight"), change.get("DesiredInstanceCount")
    if weight is None and count is None:
        raise validation(f"Nothing to change for variant '{name}'. Give DesiredWeight, DesiredInstanceCount or both.")
    if weight is not None and not math.isfinite(weight):
        raise validation(f"DesiredWeight of variant '{name}' must be a finite number of at least 0.")
    if count is not None and count < 1:
        raise validation(
            f"DesiredInstanceCount of variant '{name}' must be at least 1. To send it no requests set "
            "DesiredWeight to 0; to stop all instances delete the endpoint."
        )
