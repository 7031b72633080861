"""Models: Create, Describe, List, Delete. A model is what its request said; nothing runs because of it.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateModel.html, contract B.1, compat-surface
1.6 and 1.16. What a request may say is in `model_request`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.core.ids import Key
from sagewright.services import images, tags
from sagewright.services.sagemaker import listing, model_request
from sagewright.services.sagemaker.listing import Listing
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store.kinds import model as kind
from sagewright.store.resources import Resource, Tx
from sagewright.wire.faults import ApiFault, validation

_ECHOED = (
    "PrimaryContainer",
    "Containers",
    "InferenceExecutionConfig",
    "ExecutionRoleArn",
    "VpcConfig",
    "EnableNetworkIsolation",
)


def operations(secret: bytes) -> dict[str, Operation]:
    """`secret` seals the page tokens."""
    listed = Listing("ListModels", kind.KIND, "Models", _summarize, sort=listing.BY_NAME_OR_TIME)
    return {
        "CreateModel": writes(create_model),
        "DescribeModel": reads(describe_model),
        "ListModels": listing.operation(listed, secret),
        "DeleteModel": writes(delete_model),
    }


def create_model(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Accept a model. What its images mean is decided now, and kept."""
    model = kind.key(ctx.account, ctx.region, request["ModelName"])
    arn = kind.model_arn(model)
    if tx.find(model) is not None:
        raise _name_taken(arn)
    model_request.check(ctx, tx, request)
    model_tags = tags.from_wire(request.get("Tags") or ())
    resolved = tuple(images.resolve(ctx, tx, each["Image"]) for each in model_request.containers(request))
    spec = kind.ModelSpec({name: value for name, value in request.items() if name != "Tags"}, resolved)
    try:
        tx.insert(model, spec.to_row(), {}, "", now=ctx.now, wake=False)
    except AlreadyExists:
        raise _name_taken(arn) from None
    tags.add(tx, arn, model_tags)
    return {"ModelArn": arn}


def describe_model(ctx: Ctx, tx: Tx, request: Request) -> Response:
    model = existing(tx, kind.key(ctx.account, ctx.region, request["ModelName"]))
    asked: Mapping[str, Any] = model.spec["request"]
    shown: dict[str, Any] = {"EnableNetworkIsolation": False}
    shown.update((name, asked[name]) for name in _ECHOED if name in asked)
    if primary := shown.get("PrimaryContainer"):
        shown["PrimaryContainer"] = _container(primary)
    if several := shown.get("Containers"):
        shown["Containers"] = [_container(each) for each in several]
    return {**shown, **_summarize(model)}


def delete_model(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """At once, and also while endpoints serve it: they have a copy of all they need."""
    model = existing(tx, kind.key(ctx.account, ctx.region, request["ModelName"]))
    tx.remove_tags(kind.model_arn(model.key))
    tx.remove(model)
    return {}


def existing(tx: Tx, model: Key) -> Resource:
    """Raises the ValidationException whose text the SDKs know."""
    row = tx.find(model)
    if row is None:
        raise validation(f'Could not find model "{kind.model_arn(model)}".')
    return row


def _container(definition: Mapping[str, Any]) -> dict[str, Any]:
    return {"Mode": "SingleModel", "Environment": {}, **definition}


def _summarize(model: Resource) -> dict[str, Any]:
    return {"ModelName": model.key.name, "ModelArn": kind.model_arn(model.key), "CreationTime": model.created_at}


def _name_taken(arn: str) -> ApiFault:
    return validation(f'Cannot create already existing model "{arn}".')
