"""ECR's documents on a repository: its lifecycle policy (carried out by `store.registry_lifecycle`), its access policy.

An access policy is kept and shown; the registry lets in who has logged in.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import orjson

from sagewright.core.clock import to_text
from sagewright.core.context import Ctx
from sagewright.services.ecr.common import existing, invalid
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store import registry_rows as rows
from sagewright.store.registry_lifecycle import EVALUATED, POLICY, PolicyUnreadable, parse_policy
from sagewright.store.registry_rows import Repository
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault

_ACCESS: Final = "policyText"


def _put_lifecycle(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository, text = existing(ctx, tx, request), request["lifecyclePolicyText"]
    try:
        parse_policy(text)
    except PolicyUnreadable as problem:
        raise invalid(f"Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: '{problem}'") from None
    kept = {name: value for name, value in repository.settings.items() if name != EVALUATED}
    rows.set_settings(tx, repository, {**kept, POLICY: text})
    return {"registryId": ctx.account, "repositoryName": repository.name, POLICY: text}


def _get_lifecycle(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return _lifecycle(ctx, existing(ctx, tx, request))


def _delete_lifecycle(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    answer = _lifecycle(ctx, repository)
    _forget(tx, repository, POLICY, EVALUATED)
    return answer


def _lifecycle(ctx: Ctx, repository: Repository) -> dict[str, Any]:
    text = repository.settings.get(POLICY)
    if text is None:
        raise ApiFault("LifecyclePolicyNotFoundException", _absent(ctx, repository, "Lifecycle policy"))
    at = repository.settings.get(EVALUATED)
    shown = {"registryId": ctx.account, "repositoryName": repository.name, POLICY: text}
    return shown | ({EVALUATED: datetime.fromisoformat(at)} if at else {})


def _set_access(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository, text = existing(ctx, tx, request), request["policyText"]
    try:
        document = orjson.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict) or "Statement" not in document:
        raise invalid(
            "Invalid parameter at 'PolicyText' failed to satisfy constraint: 'Invalid repository policy provided': "
            "it must be a JSON policy document with a Statement."
        )
    rows.set_settings(tx, repository, {**repository.settings, _ACCESS: text, "policySetAt": to_text(ctx.now)})
    return {"registryId": ctx.account, "repositoryName": repository.name, _ACCESS: text}


def _get_access(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return _access(ctx, existing(ctx, tx, request))


def _delete_access(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    answer = _access(ctx, repository)
    _forget(tx, repository, _ACCESS, "policySetAt")
    return answer


def _access(ctx: Ctx, repository: Repository) -> dict[str, Any]:
    text = repository.settings.get(_ACCESS)
    if text is None:
        raise ApiFault("RepositoryPolicyNotFoundException", _absent(ctx, repository, "Repository policy"))
    return {"registryId": ctx.account, "repositoryName": repository.name, _ACCESS: text}


def _absent(ctx: Ctx, repository: Repository, what: str) -> str:
    return (
        f"{what} does not exist for the repository with name '{repository.name}' in the registry with id "
        f"'{ctx.account}'"
    )


def _forget(tx: Tx, repository: Repository, *names: str) -> None:
    kept = {name: value for name, value in repository.settings.items() if name not in names}
    rows.set_settings(tx, repository, kept)


OPERATIONS: Final[dict[str, Operation]] = {
    "PutLifecyclePolicy": writes(_put_lifecycle),
    "GetLifecyclePolicy": reads(_get_lifecycle),
    "DeleteLifecyclePolicy": writes(_delete_lifecycle),
    "SetRepositoryPolicy": writes(_set_access),
    "GetRepositoryPolicy": reads(_get_access),
    "DeleteRepositoryPolicy": writes(_delete_access),
}
