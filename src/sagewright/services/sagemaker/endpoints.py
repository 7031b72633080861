"""Endpoints: Create, Describe, List, Update, Delete. Writes `spec`; the controller writes `status`.

Each change is frozen into the endpoint's plan when it is asked for (`plans`), so that models and configurations can be
deleted while they serve, and so that what cannot work is refused by the call and never left in Creating.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html, contract B.10 and B.11,
compat-surface 1.6, 1.16 and 2.8. What may be asked when is in `endpoint_request`, how a row is shown in
`endpoint_view`.
"""

from __future__ import annotations

from dataclasses import replace

from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.services import tags
from sagewright.services.sagemaker import endpoint_configs, endpoint_request, endpoint_view, listing, plans
from sagewright.services.sagemaker.listing import Listing
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds import endpoint_config
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Plan
from sagewright.store.resources import Resource, Tx
from sagewright.wire.faults import ApiFault, validation


def operations(secret: bytes) -> dict[str, Operation]:
    """`secret` seals the page tokens."""
    listed = Listing(
        "ListEndpoints",
        kind.KIND,
        "Endpoints",
        endpoint_view.summarize,
        sort=listing.WITH_STATUS,
        skip=endpoint_view.is_elsewhere,
    )
    return {
        "CreateEndpoint": writes(create_endpoint),
        "DescribeEndpoint": reads(describe_endpoint),
        "ListEndpoints": listing.operation(listed, secret),
        "UpdateEndpoint": writes(update_endpoint),
        "UpdateEndpointWeightsAndCapacities": writes(update_weights_and_capacities),
        "DeleteEndpoint": writes(delete_endpoint),
    }


def create_endpoint(ctx: Ctx, tx: Tx, request: Request) -> Response:
    endpoint = kind.key(ctx.account, ctx.region, request["EndpointName"])
    arn = kind.endpoint_arn(endpoint)
    if (taken := tx.find(endpoint)) is not None:
        raise _name_taken(arn, is_leaving=bool(taken.spec.get("delete_requested")))
    plan = _asked_plan(ctx, tx, request)
    endpoint_tags = tags.from_wire(request.get("Tags") or ())
    spec = EndpointSpec(plan.config, plan, deployment=request.get("DeploymentConfig"))
    try:
        tx.insert(endpoint, spec.to_row(), EndpointStatus().to_row(), kind.CREATING, now=ctx.now, wake=True)
    except AlreadyExists:
        raise _name_taken(arn) from None
    tags.add(tx, arn, endpoint_tags)
    return {"EndpointArn": arn}


def describe_endpoint(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return endpoint_view.describe(_existing(ctx, tx, request))


def update_endpoint(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Ask for a new version. The old one serves until the new one does, and goes on serving if it never does."""
    endpoint = _updatable(ctx, tx, request)
    spec, status = EndpointSpec.from_row(endpoint.spec), EndpointStatus.from_row(endpoint.status)
    plan = _asked_plan(ctx, tx, request)
    if request.get("RetainAllVariantProperties"):
        excluded = [each["VariantPropertyType"] for each in request.get("ExcludeRetainedVariantProperties") or ()]
        plan = plans.retaining(plan, kind.current_plan(spec, status), excluded)
    deployment = request.get("DeploymentConfig") or (spec.deployment if request.get("RetainDeploymentConfig") else None)
    asked = replace(spec, config=plan.config, plan=plan, revision=spec.revision + 1, deployment=deployment)
    tx.update_spec(endpoint, asked.to_row(), now=ctx.now)
    return {"EndpointArn": kind.endpoint_arn(endpoint.key)}


def update_weights_and_capacities(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Ask for other weights and counts of what serves now; variants that are not named stay as they are."""
    endpoint = _updatable(ctx, tx, request)
    spec, status = EndpointSpec.from_row(endpoint.spec), EndpointStatus.from_row(endpoint.status)
    current = kind.current_plan(spec, status)
    plan = plans.rescaled(current, endpoint_request.changes(request["DesiredWeightsAndCapacities"], current))
    asked = replace(spec, config=plan.config, plan=plan, scale=spec.scale + 1)
    tx.update_spec(endpoint, asked.to_row(), now=ctx.now)
    return {"EndpointArn": kind.endpoint_arn(endpoint.key)}


def delete_endpoint(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Record the wish, in whatever state the endpoint is; repeating it is success. The name is free once the
    controller has taken everything down."""
    endpoint = _existing(ctx, tx, request)
    spec = EndpointSpec.from_row(endpoint.spec)
    if not spec.delete_requested:
        tx.remove_tags(kind.endpoint_arn(endpoint.key))
        tx.update_spec(endpoint, replace(spec, delete_requested=True).to_row(), now=ctx.now)
    return {}


def _asked_plan(ctx: Ctx, tx: Tx, request: Request) -> Plan:
    """The plan of the configuration that the request names. Raises ValidationException when it could not come up."""
    endpoint_request.check_deployment(request.get("DeploymentConfig"))
    name = endpoint_config.key(ctx.account, ctx.region, request["EndpointConfigName"])
    return plans.of_config(ctx, tx, endpoint_configs.existing(tx, name))


def _existing(ctx: Ctx, tx: Tx, request: Request) -> Resource:
    """Raises the ValidationException that botocore's waiters and the SDKs take for "is not there"."""
    key = kind.key(ctx.account, ctx.region, request["EndpointName"])
    endpoint = tx.find(key)
    if endpoint is None:
        raise validation(f'Could not find endpoint "{kind.endpoint_arn(key)}".')
    return endpoint


def _updatable(ctx: Ctx, tx: Tx, request: Request) -> Resource:
    endpoint = _existing(ctx, tx, request)
    endpoint_request.check_updatable(kind.endpoint_arn(endpoint.key), endpoint_view.state_of(endpoint))
    return endpoint


def _name_taken(arn: str, *, is_leaving: bool = False) -> ApiFault:
    hint = " It is being deleted: wait until DescribeEndpoint does not find it any more." if is_leaving else ""
    return validation(f'Cannot create already existing endpoint "{arn}".{hint}')
