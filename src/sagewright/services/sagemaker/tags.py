"""AddTags, ListTags, DeleteTags for every SageMaker resource.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_AddTags.html
"""

from __future__ import annotations

from sagewright.core.context import Ctx
from sagewright.core.ids import Account, Key, Kind, Region, ResourceName
from sagewright.services import tags
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store.resources import Tx
from sagewright.wire import pages
from sagewright.wire.faults import validation

PAGE = 50


def operations(secret: bytes) -> dict[str, Operation]:
    """`secret` seals the page tokens."""

    def list_tags(_ctx: Ctx, tx: Tx, request: Request) -> Response:
        arn = _existing(tx, request["ResourceArn"])
        wire = tags.to_wire(tx.tags(arn))
        token = request.get("NextToken")
        start = int(pages.unseal(secret, token, arn)[0]) if token else 0
        end = start + request.get("MaxResults", PAGE)
        following = pages.seal(secret, (str(end),), arn) if end < len(wire) else None
        return {"Tags": wire[start:end], "NextToken": following}

    return {"AddTags": writes(add_tags), "ListTags": reads(list_tags), "DeleteTags": writes(delete_tags)}


def add_tags(_ctx: Ctx, tx: Tx, request: Request) -> Response:
    arn = _existing(tx, request["ResourceArn"])
    tags.add(tx, arn, tags.from_wire(request["Tags"]))
    return {"Tags": tags.to_wire(tx.tags(arn))}


def delete_tags(_ctx: Ctx, tx: Tx, request: Request) -> Response:
    tx.remove_tags(_existing(tx, request["ResourceArn"]), request["TagKeys"])
    return {}


def _existing(tx: Tx, arn: str) -> str:
    """The ARN, if the resource it names is there. Raises ValidationException."""
    _, _, service, region, account, rest = arn.split(":", 5)
    kind, _, name = rest.partition("/")
    key = Key(Kind(kind), Account(account), Region(region), ResourceName(name))
    row = tx.find(key) if service == "sagemaker" else None
    if row is None or row.spec.get("delete_requested"):
        raise validation(f"Could not find resource {arn}. Give the ARN of a resource that exists.")
    return arn
