"""ECR's repositories: make, describe, settings, tags, delete."""

from __future__ import annotations

import re
from functools import partial
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.core.errors import AlreadyExists
from sagewright.services import tags
from sagewright.services.ecr.common import existing, invalid, page, repository_arn, repository_not_found
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store import registry_rows as rows
from sagewright.store.registry_rows import Repository
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault

_SETTINGS: Final = (
    "imageTagMutability",
    "imageTagMutabilityExclusionFilters",
    "imageScanningConfiguration",
    "encryptionConfiguration",
)
_ALL: Final = 100_000  # repositories of one account
_NAME: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")


def operations(secret: bytes) -> dict[str, Operation]:
    return {
        "CreateRepository": writes(create),
        "DescribeRepositories": reads(partial(_describe, secret)),
        "DeleteRepository": writes(_delete),
        "PutImageTagMutability": writes(_put_mutability),
        "PutImageScanningConfiguration": writes(_put_scanning),
        "TagResource": writes(_tag),
        "UntagResource": writes(_untag),
        "ListTagsForResource": reads(_list_tags),
    }


def create(ctx: Ctx, tx: Tx, request: Request) -> Response:
    name = request["repositoryName"]
    if request.get("registryId", ctx.account) != ctx.account:
        raise invalid(f"registryId {request['registryId']} is not this account's registry: leave it out.")
    if not _NAME.fullmatch(name):
        raise invalid(
            f"Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression "
            f"'{_NAME.pattern.replace('?:', '')}''"
        )
    settings = {each: request[each] for each in _SETTINGS if request.get(each)}
    _check_mutability(settings)
    try:
        made = rows.create_repository(
            tx, account=ctx.account, region=ctx.region, name=name, now=ctx.now, settings=settings
        )
    except AlreadyExists:
        raise ApiFault(
            "RepositoryAlreadyExistsException",
            f"The repository with name '{name}' already exists in the registry with id '{ctx.account}'",
        ) from None
    tags.add(tx, repository_arn(made), tags.from_wire(request.get("tags") or ()))
    return {"repository": _view(ctx, made)}


def _describe(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    registry = request.get("registryId") or ctx.account
    if names := request.get("repositoryNames"):
        if "maxResults" in request or "nextToken" in request:
            raise invalid("maxResults and nextToken go with a list of all repositories, not with repositoryNames.")
        found = [existing(ctx, tx, {"repositoryName": name, "registryId": registry}) for name in names]
        return {"repositories": [_view(ctx, each) for each in found]}
    if registry != ctx.account:
        return {"repositories": []}
    listed = rows.list_repositories(tx, ctx.account, limit=_ALL)
    part, more = page(listed, lambda each: each.name, request, secret, "ecr repositories")
    return {"repositories": [_view(ctx, each) for each in part], **more}


def _delete(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    if not request.get("force") and rows.list_manifests(tx, repository):
        raise ApiFault(
            "RepositoryNotEmptyException",
            f"The repository with name '{repository.name}' in registry with id '{ctx.account}' cannot be deleted "
            "because it still contains images",
        )
    rows.remove_repository(tx, repository)
    tx.remove_tags(repository_arn(repository))
    return {"repository": _view(ctx, repository)}


def _put_mutability(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    names = ("imageTagMutability", "imageTagMutabilityExclusionFilters")
    chosen = {name: request[name] for name in names if request.get(name)}
    _check_mutability(chosen)
    kept = {name: value for name, value in repository.settings.items() if name not in names}
    rows.set_settings(tx, repository, kept | chosen)
    return {"registryId": ctx.account, "repositoryName": repository.name, **chosen}


def _put_scanning(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Kept and shown. Nothing here scans images."""
    repository = existing(ctx, tx, request)
    chosen = {"imageScanningConfiguration": request["imageScanningConfiguration"]}
    rows.set_settings(tx, repository, {**repository.settings, **chosen})
    return {"registryId": ctx.account, "repositoryName": repository.name, **chosen}


def _check_mutability(settings: Request) -> None:
    excludes = str(settings.get("imageTagMutability", "")).endswith("_WITH_EXCLUSION")
    if excludes != bool(settings.get("imageTagMutabilityExclusionFilters")):
        raise invalid(
            "imageTagMutabilityExclusionFilters go with imageTagMutability IMMUTABLE_WITH_EXCLUSION or "
            "MUTABLE_WITH_EXCLUSION, and these need at least one filter."
        )


def _tag(ctx: Ctx, tx: Tx, request: Request) -> Response:
    tags.add(tx, _tagged(ctx, tx, request), tags.from_wire(request["tags"]))
    return {}


def _untag(ctx: Ctx, tx: Tx, request: Request) -> Response:
    tx.remove_tags(_tagged(ctx, tx, request), request["tagKeys"])
    return {}


def _list_tags(ctx: Ctx, tx: Tx, request: Request) -> Response:
    return {"tags": tags.to_wire(tx.tags(_tagged(ctx, tx, request)))}


def _tagged(ctx: Ctx, tx: Tx, request: Request) -> str:
    """The ARN, when it names a repository of ours."""
    arn = request["resourceArn"]
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[2] != "ecr" or not parts[5].startswith("repository/"):
        raise invalid(f"Invalid parameter at 'resourceArn': {arn} is not the ARN of a repository.")
    name = parts[5].removeprefix("repository/")
    found = rows.find_repository(tx, ctx.account, name)
    if found is None or repository_arn(found) != arn:
        raise repository_not_found(name, parts[4])
    return str(arn)


def _view(ctx: Ctx, repository: Repository) -> dict[str, Any]:
    settings = repository.settings
    shown: dict[str, Any] = {
        "repositoryArn": repository_arn(repository),
        "registryId": repository.account,
        "repositoryName": repository.name,
        "repositoryUri": f"{ctx.registry_url.partition('://')[2]}/{repository.name}",
        "createdAt": repository.created_at,
        "imageTagMutability": settings.get("imageTagMutability", "MUTABLE"),
        "imageScanningConfiguration": {
            "scanOnPush": bool((settings.get("imageScanningConfiguration") or {}).get("scanOnPush"))
        },
        "encryptionConfiguration": settings.get("encryptionConfiguration") or {"encryptionType": "AES256"},
    }
    if filters := settings.get("imageTagMutabilityExclusionFilters"):
        shown["imageTagMutabilityExclusionFilters"] = filters
    return shown
