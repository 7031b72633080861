"""IAM: the roles that jobs run with, as far as the SDKs ask about them.

https://docs.aws.amazon.com/IAM/latest/APIReference/welcome.html, compat-surface 1.3 and 1.15. Policies are recorded
and not evaluated: every valid principal of the account may do everything, and SimulatePrincipalPolicy says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.services.service import Operation, Request, Response, Service, reads, writes
from sagewright.store.kinds import role as roles
from sagewright.store.resources import Query, Resource, SortBy, Tx
from sagewright.wire import pages
from sagewright.wire.faults import ApiFault

_PAGE = 100


def service(secret: bytes) -> Service:
    """`secret` seals page markers."""

    def list_roles(ctx: Ctx, tx: Tx, request: Request) -> Response:
        prefix, marker = request.get("PathPrefix", "/"), request.get("Marker")
        scope = f"ListRoles:{ctx.account}:{prefix}"
        page = tx.page(
            Query(
                roles.KIND,
                ctx.account,
                roles.GLOBAL,
                sort_by=SortBy.NAME,
                descending=False,
                limit=request.get("MaxItems", _PAGE),
                after=pages.unseal(secret, marker, scope) if marker else None,
            )
        )
        shown = [_shown(ctx, row) for row in page.items if row.spec["path"].startswith(prefix)]
        following = pages.seal(secret, page.next, scope) if page.next else None
        return {"Roles": shown, "IsTruncated": following is not None, "Marker": following}

    table: dict[str, Operation] = {
        "GetRole": reads(get_role),
        "ListRoles": reads(list_roles),
        "CreateRole": writes(create_role),
        "DeleteRole": writes(delete_role),
        "UpdateAssumeRolePolicy": writes(update_assume_role_policy),
        "AttachRolePolicy": writes(attach_role_policy),
        "DetachRolePolicy": writes(detach_role_policy),
        "ListAttachedRolePolicies": reads(list_attached_role_policies),
        "PutRolePolicy": writes(put_role_policy),
        "GetRolePolicy": reads(get_role_policy),
        "DeleteRolePolicy": writes(delete_role_policy),
        "ListRolePolicies": reads(list_role_policies),
        "SimulatePrincipalPolicy": reads(simulate_principal_policy),
    }
    return Service("iam", table)


def get_role(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return {"Role": _shown(ctx, _role(ctx, tx, request["RoleName"]))}


def create_role(ctx: Ctx, tx: Tx, request: Request) -> Response:
    name = request["RoleName"]
    spec = {
        **roles.default_spec(),
        "path": request.get("Path", "/"),
        "role_id": f"AROA{ctx.request_id.replace('-', '').upper()[:17]}",
        "trust": _document(request["AssumeRolePolicyDocument"], "AssumeRolePolicyDocument"),
        "description": request.get("Description", ""),
        "max_session": request.get("MaxSessionDuration", 3600),
        "attached": [],
    }
    try:
        row = tx.insert(roles.key(ctx.account, name), spec, {}, "", now=ctx.now, wake=False)
    except AlreadyExists:
        raise ApiFault(
            "EntityAlreadyExists", f"Role with name {name} already exists. Choose another name.", 409
        ) from None
    return {"Role": _shown(ctx, row)}


def delete_role(ctx: Ctx, tx: Tx, request: Request) -> Response:
    row = _role(ctx, tx, request["RoleName"])
    if row.spec["attached"] or row.spec["inline"]:
        raise ApiFault(
            "DeleteConflict", "Cannot delete entity, must detach all policies and delete inline policies first.", 409
        )
    tx.remove(row)
    return {}


def update_assume_role_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    document = _document(request["PolicyDocument"], "PolicyDocument")
    return _change(ctx, tx, request, trust=document)


def attach_role_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    attached = _role(ctx, tx, request["RoleName"]).spec["attached"]
    return _change(ctx, tx, request, attached=list(dict.fromkeys([*attached, request["PolicyArn"]])))


def detach_role_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    attached = _role(ctx, tx, request["RoleName"]).spec["attached"]
    if request["PolicyArn"] not in attached:
        raise _no_entity(f"Policy {request['PolicyArn']} was not found on role {request['RoleName']}.")
    return _change(ctx, tx, request, attached=[arn for arn in attached if arn != request["PolicyArn"]])


def list_attached_role_policies(ctx: Ctx, tx: Tx, request: Request) -> Response:
    attached = _role(ctx, tx, request["RoleName"]).spec["attached"]
    shown = [{"PolicyName": arn.rsplit("/", 1)[-1], "PolicyArn": arn} for arn in attached]
    return {"AttachedPolicies": shown, "IsTruncated": False}


def put_role_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    inline = _role(ctx, tx, request["RoleName"]).spec["inline"]
    document = _document(request["PolicyDocument"], "PolicyDocument")
    return _change(ctx, tx, request, inline={**inline, request["PolicyName"]: document})


def get_role_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    document = _inline(ctx, tx, request)
    return {
        "RoleName": request["RoleName"],
        "PolicyName": request["PolicyName"],
        "PolicyDocument": quote(json.dumps(document), safe=""),
    }


def delete_role_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    _inline(ctx, tx, request)
    inline = dict(_role(ctx, tx, request["RoleName"]).spec["inline"])
    del inline[request["PolicyName"]]
    return _change(ctx, tx, request, inline=inline)


def list_role_policies(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return {"PolicyNames": list(_role(ctx, tx, request["RoleName"]).spec["inline"]), "IsTruncated": False}


def simulate_principal_policy(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Everything is allowed for a role that exists; an unknown one is NoSuchEntity, as SDK v3 expects."""
    _role(ctx, tx, request["PolicySourceArn"].rsplit("/", 1)[-1])
    resources = request.get("ResourceArns", ["*"])
    results = [
        {"EvalActionName": action, "EvalResourceName": resource, "EvalDecision": "allowed"}
        for action in request["ActionNames"]
        for resource in resources
    ]
    return {"EvaluationResults": results, "IsTruncated": False}


def _role(ctx: Ctx, tx: Tx, name: str) -> Resource:
    row = tx.find(roles.key(ctx.account, name))
    if row is None:
        raise _no_entity(f"The role with name {name} cannot be found. `aws iam list-roles` shows those there are.")
    return row


def _inline(ctx: Ctx, tx: Tx, request: Request) -> Mapping[str, Any]:
    document: Mapping[str, Any] | None = _role(ctx, tx, request["RoleName"]).spec["inline"].get(request["PolicyName"])
    if document is None:
        raise _no_entity(f"The role policy with name {request['PolicyName']} cannot be found.")
    return document


def _change(ctx: Ctx, tx: Tx, request: Request, **changes: Any) -> Response:
    row = _role(ctx, tx, request["RoleName"])
    tx.update_spec(row, {**row.spec, **changes}, now=ctx.now)
    return {}


def _document(text: str, member: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise ApiFault(
            "MalformedPolicyDocument", f"{member} is not a JSON policy document: it must be an object with a Statement."
        )
    return document


def _shown(ctx: Ctx, row: Resource) -> dict[str, Any]:
    return {
        "Path": row.spec["path"],
        "RoleName": row.key.name,
        "RoleId": row.spec["role_id"],
        "Arn": roles.role_arn(ctx.account, row.spec["path"], row.key.name),
        "CreateDate": row.created_at,
        "AssumeRolePolicyDocument": quote(json.dumps(row.spec["trust"]), safe=""),
        "Description": row.spec["description"],
        "MaxSessionDuration": row.spec["max_session"],
    }


def _no_entity(message: str) -> ApiFault:
    return ApiFault("NoSuchEntity", message, 404)
