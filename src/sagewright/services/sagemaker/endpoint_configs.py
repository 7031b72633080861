"""Endpoint configurations: Create, Describe, List, Delete. Immutable; an endpoint copies what it needs.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html, contract B.1,
compat-surface 1.6 and 1.16. What a request may say is in `endpoint_config_request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.core.ids import Key
from sagewright.services import tags
from sagewright.services.sagemaker import endpoint_config_request, listing
from sagewright.services.sagemaker.listing import Listing
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store.kinds import endpoint_config as kind
from sagewright.store.resources import Resource, Tx
from sagewright.wire.faults import ApiFault, validation


def operations(secret: bytes) -> dict[str, Operation]:
    """`secret` seals the page tokens."""
    listed = Listing("ListEndpointConfigs", kind.KIND, "EndpointConfigs", _summarize, sort=listing.BY_NAME_OR_TIME)
    return {
        "CreateEndpointConfig": writes(create_endpoint_config),
        "DescribeEndpointConfig": reads(describe_endpoint_config),
        "ListEndpointConfigs": listing.operation(listed, secret),
        "DeleteEndpointConfig": writes(delete_endpoint_config),
    }


def create_endpoint_config(ctx: Ctx, tx: Tx, request: Request) -> Response:
    config = kind.key(ctx.account, ctx.region, request["EndpointConfigName"])
    arn = kind.config_arn(config)
    if tx.find(config) is not None:
        raise _name_taken(arn)
    endpoint_config_request.check(ctx, tx, request)
    config_tags = tags.from_wire(request.get("Tags") or ())
    spec = kind.EndpointConfigSpec({name: value for name, value in request.items() if name != "Tags"})
    try:
        tx.insert(config, spec.to_row(), {}, "", now=ctx.now, wake=False)
    except AlreadyExists:
        raise _name_taken(arn) from None
    tags.add(tx, arn, config_tags)
    return {"EndpointConfigArn": arn}


def describe_endpoint_config(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """What was asked for, and nothing that CreateEndpointConfig would not take: the SDK makes a new configuration
    from this answer (compat-surface 1.6)."""
    config = existing(tx, kind.key(ctx.account, ctx.region, request["EndpointConfigName"]))
    asked: Mapping[str, Any] = config.spec["request"]
    variants = [{"InitialVariantWeight": 1.0, **variant} for variant in asked["ProductionVariants"]]
    return {**asked, "ProductionVariants": variants, **_summarize(config)}


def delete_endpoint_config(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """At once, and also while an endpoint uses it: the SDK deletes the configuration before the endpoint."""
    config = existing(tx, kind.key(ctx.account, ctx.region, request["EndpointConfigName"]))
    tx.remove_tags(kind.config_arn(config.key))
    tx.remove(config)
    return {}


def existing(tx: Tx, config: Key) -> Resource:
    """Raises the ValidationException whose text the SDKs know."""
    row = tx.find(config)
    if row is None:
        raise validation(f'Could not find endpoint configuration "{kind.config_arn(config)}".')
    return row


def _summarize(config: Resource) -> dict[str, Any]:
    return {
        "EndpointConfigName": config.key.name,
        "EndpointConfigArn": kind.config_arn(config.key),
        "CreationTime": config.created_at,
    }


def _name_taken(arn: str) -> ApiFault:
    return validation(f'Cannot create already existing endpoint configuration "{arn}".')
