"""How an endpoint's row looks to a client: DescribeEndpoint and the list summary. Pure.

What serves is shown as ProductionVariants, and what is being built beside it as PendingDeploymentSummary. Before
anything serves the former shows what was asked for, with no instances.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sagewright.core.clock import from_text
from sagewright.services.service import Request, Response
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Fleet, Instance, Plan, VariantPlan
from sagewright.store.resources import Resource

_REASON: Final = 1024  # characters of FailureReason
_STATUS_MESSAGE: Final = 1024  # characters, as in the API model
_VARIANT_STATUS: Final = {kind.CREATING: "Creating", kind.UPDATING: "Updating", kind.DELETING: "Deleting"}


def state_of(endpoint: Resource) -> str:
    """EndpointStatus as clients see it (see `endpoint.shown_state`)."""
    spec, status = EndpointSpec.from_row(endpoint.spec), EndpointStatus.from_row(endpoint.status)
    return kind.shown_state(spec, status, endpoint.state)


def describe(endpoint: Resource) -> Response:
    spec, status = EndpointSpec.from_row(endpoint.spec), EndpointStatus.from_row(endpoint.status)
    state = kind.shown_state(spec, status, endpoint.state)
    shown: dict[str, Any] = {
        "EndpointName": endpoint.key.name,
        "EndpointArn": kind.endpoint_arn(endpoint.key),
        "EndpointConfigName": status.deployed_config or spec.config,
        "EndpointStatus": state,
        "ProductionVariants": _serving(endpoint, spec, status, state),
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.changed_at,
    }
    if status.failure_reason:
        shown["FailureReason"] = status.failure_reason[:_REASON]
    if spec.deployment:
        shown["LastDeploymentConfig"] = spec.deployment
    if state in {kind.CREATING, kind.UPDATING} and _is_new_version(spec, status):
        shown["PendingDeploymentSummary"] = _pending(endpoint, spec, status)
    return shown


def summarize(endpoint: Resource) -> dict[str, Any]:
    """One EndpointSummary."""
    return {
        "EndpointName": endpoint.key.name,
        "EndpointArn": kind.endpoint_arn(endpoint.key),
        "CreationTime": endpoint.created_at,
        "LastModifiedTime": endpoint.changed_at,
        "EndpointStatus": state_of(endpoint),
    }


def is_elsewhere(endpoint: Resource, request: Request) -> bool:
    """Whether the row was found by a status that clients do not see any more: a wish that no controller has taken up
    yet already counts (see `state_of`)."""
    wanted = request.get("StatusEquals")
    return wanted is not None and wanted != state_of(endpoint)


def _serving(endpoint: Resource, spec: EndpointSpec, status: EndpointStatus, state: str) -> list[dict[str, Any]]:
    fleet = status.serving_fleet
    current = fleet.plan if fleet else spec.plan
    desired = _desired(spec, status, current)
    started = endpoint.created_at if state == kind.CREATING else endpoint.changed_at
    shown = []
    for variant in current.variants:
        wanted = desired.variant(variant.name)
        entry = _variant(variant, wanted, fleet)
        if word := _VARIANT_STATUS.get(state):
            coming = fleet or _new_fleet(spec, status)
            entry["VariantStatus"] = [_variant_status(word, wanted, coming, started)]
        shown.append(entry)
    return shown


def _desired(spec: EndpointSpec, status: EndpointStatus, current: Plan) -> Plan:
    """What the serving fleet is to become: a change of weights and counts counts from its call on."""
    rescaling = status.handled != (spec.revision, spec.scale) and status.handled[0] == spec.revision
    return spec.plan if rescaling else current


def _variant(variant: VariantPlan, wanted: VariantPlan, fleet: Fleet | None) -> dict[str, Any]:
    return {
        "VariantName": variant.name,
        "DeployedImages": _images(variant, fleet),
        "CurrentWeight": variant.weight,
        "DesiredWeight": wanted.weight,
        "CurrentInstanceCount": _count(fleet, variant.name),
        "DesiredInstanceCount": wanted.count,
        "RoutingConfig": {"RoutingStrategy": variant.routing},
    }


def _variant_status(word: str, wanted: VariantPlan, fleet: Fleet | None, started: datetime) -> dict[str, Any]:
    """With how far the instances have come, and what has kept one back so far, for whoever waits."""
    instances = fleet.of(wanted.name) if fleet else ()
    phases = [instance.phase for instance in instances]
    others = ", ".join(f"{phases.count(phase)} {phase}" for phase in dict.fromkeys(phases) if phase != kind.READY)
    message = f"{phases.count(kind.READY)} of {wanted.count} instances in service" + (f" ({others})" if others else "")
    trouble = next(filter(None, map(_trouble, instances)), "")
    told = f"{message}. {trouble}"[:_STATUS_MESSAGE] if trouble else message
    return {"Status": word, "StatusMessage": told, "StartTime": started}


def _trouble(instance: Instance) -> str:
    """What ended its last life, or its last ping; empty when all is well."""
    if instance.phase == kind.READY:
        return ""
    if instance.message or not instance.transcript:
        return instance.message.partition(" Last log lines:")[0]
    last = instance.transcript[-1]
    answer = last["error"] if last["status"] is None else f"{last['status']} {last['body']!r}"
    return f"The last GET /ping: {answer}"


def _is_new_version(spec: EndpointSpec, status: EndpointStatus) -> bool:
    """Whether the change under way is a new configuration, not other weights and counts of the one that serves."""
    return status.handled[0] != spec.revision or _new_fleet(spec, status) is not None or not status.serving


def _new_fleet(spec: EndpointSpec, status: EndpointStatus) -> Fleet | None:
    """The fleet that is being built beside the one that serves."""

    def is_built(fleet: Fleet) -> bool:
        return fleet.revision == spec.revision and fleet.id != status.serving and not fleet.retired

    return next(filter(is_built, status.fleets), None)


def _pending(endpoint: Resource, spec: EndpointSpec, status: EndpointStatus) -> dict[str, Any]:
    fleet = _new_fleet(spec, status)
    started = from_text(fleet.since) if fleet else endpoint.changed_at
    return {
        "EndpointConfigName": spec.config,
        "ProductionVariants": [_pending_variant(variant, fleet, started) for variant in spec.plan.variants],
        "StartTime": started,
    }


def _pending_variant(variant: VariantPlan, fleet: Fleet | None, started: datetime) -> dict[str, Any]:
    return {
        "VariantName": variant.name,
        "DeployedImages": _images(variant, fleet),
        "DesiredWeight": variant.weight,
        "CurrentInstanceCount": _count(fleet, variant.name),
        "DesiredInstanceCount": variant.count,
        "InstanceType": variant.instance_type,
        "RoutingConfig": {"RoutingStrategy": variant.routing},
        "VariantStatus": [_variant_status("Creating", variant, fleet, started)],
    }


def _count(fleet: Fleet | None, variant: str) -> int:
    return sum(instance.phase == kind.READY for instance in fleet.of(variant)) if fleet else 0


def _images(variant: VariantPlan, fleet: Fleet | None) -> list[dict[str, Any]]:
    digests: Mapping[str, str] = fleet.digests if fleet else {}
    names = dict.fromkeys(str(container.image["name"]) for container in variant.containers)
    return [_image(name, digests.get(name), fleet) for name in names]


def _image(name: str, resolved: str | None, fleet: Fleet | None) -> dict[str, Any]:
    if resolved is None or fleet is None:
        return {"SpecifiedImage": name}
    return {"SpecifiedImage": name, "ResolvedImage": resolved, "ResolutionTime": from_text(fleet.since)}
