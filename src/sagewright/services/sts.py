"""STS: who am I, and temporary keys for a role.

https://docs.aws.amazon.com/STS/latest/APIReference/welcome.html. Keys need no row: see `core.credentials`.
"""

from __future__ import annotations

from datetime import timedelta

from sagewright.core.context import Ctx
from sagewright.core.credentials import Credentials, Keyring
from sagewright.services.service import Operation, Request, Response, Service, reads
from sagewright.store.kinds import role as roles
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault

_HOUR = 3600


def service(keyring: Keyring) -> Service:
    """AssumeRole and GetSessionToken issue keys of `keyring`."""

    def assume_role(ctx: Ctx, tx: Tx, request: Request) -> Response:
        arn, session = request["RoleArn"], request["RoleSessionName"]
        row = tx.find(roles.key(ctx.account, arn.rsplit("/", 1)[-1])) if f"::{ctx.account}:" in arn else None
        if row is None or roles.role_arn(ctx.account, row.spec["path"], row.key.name) != arn:
            raise ApiFault(
                "AccessDenied",
                f"User: {ctx.principal.arn} is not authorized to perform: sts:AssumeRole on resource: {arn}. "
                "There is no such role here; `aws iam list-roles` shows those there are.",
                403,
            )
        seconds = request.get("DurationSeconds", _HOUR)
        if seconds > row.spec["max_session"]:
            raise ApiFault(
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role "
                f"({row.spec['max_session']} seconds). Ask for less.",
            )
        user_id = row.spec["role_id"]
        made = keyring.issue(
            ctx.account, row.key.name, session, user_id=user_id, expiration=ctx.now + timedelta(seconds=seconds)
        )
        who = {
            "AssumedRoleId": f"{user_id}:{session}",
            "Arn": f"arn:aws:sts::{ctx.account}:assumed-role/{row.key.name}/{session}",
        }
        return {"Credentials": _to_wire(made), "AssumedRoleUser": who, "PackedPolicySize": 0}

    def get_session_token(ctx: Ctx, _tx: Tx, request: Request) -> Response:
        """Keys for the same principal, with an expiry."""
        _, role, session = ctx.principal.arn.split(":", 5)[5].split("/", 2)
        made = keyring.issue(
            ctx.account,
            role,
            session,
            user_id=ctx.principal.user_id.partition(":")[0],
            expiration=ctx.now + timedelta(seconds=request.get("DurationSeconds", 12 * _HOUR)),
        )
        return {"Credentials": _to_wire(made)}

    table: dict[str, Operation] = {
        "GetCallerIdentity": reads(get_caller_identity),
        "AssumeRole": reads(assume_role),
        "GetSessionToken": reads(get_session_token),
    }
    return Service("sts", table)


def get_caller_identity(ctx: Ctx, _tx: Tx, _request: Request) -> Response:
    """An assumed role, because `sagemaker.get_execution_role()` insists on one (compat-surface 1.3)."""
    return {"UserId": ctx.principal.user_id, "Account": ctx.principal.account, "Arn": ctx.principal.arn}


def _to_wire(made: Credentials) -> dict[str, object]:
    return {
        "AccessKeyId": made.access_key,
        "SecretAccessKey": made.secret_key,
        "SessionToken": made.session_token,
        "Expiration": made.expiration,
    }
