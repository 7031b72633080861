"""What ECR's operations share: finding a repository, its errors in AWS's words, pages.

Owns: these. Does not own: rows (`store.registry_rows`), what each operation means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from sagewright.core.context import Ctx
from sagewright.services.service import Request
from sagewright.store import registry_rows as rows
from sagewright.store.registry_rows import Repository
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault
from sagewright.wire.pages import seal, unseal

T = TypeVar("T")
PAGE: Final = 100  # as on AWS, unless the caller asks for another size


def invalid(message: str) -> ApiFault:
    return ApiFault("InvalidParameterException", message)


def existing(ctx: Ctx, tx: Tx, request: Request) -> Repository:
    """Raises RepositoryNotFoundException."""
    name, registry = request["repositoryName"], request.get("registryId") or ctx.account
    found = rows.find_repository(tx, ctx.account, name) if registry == ctx.account else None
    if found is None:
        raise repository_not_found(name, registry)
    return found


def repository_not_found(name: str, registry: str) -> ApiFault:
    return ApiFault(
        "RepositoryNotFoundException",
        f"The repository with name '{name}' does not exist in the registry with id '{registry}'",
    )


def repository_arn(repository: Repository) -> str:
    return f"arn:aws:ecr:{repository.region}:{repository.account}:repository/{repository.name}"


def page(
    items: Sequence[T], position: Callable[[T], str], request: Request, secret: bytes, scope: str
) -> tuple[Sequence[T], dict[str, Any]]:
    """The part of `items` (in order of `position`) that this call gets, and {"nextToken"} when there is more."""
    after = ""
    if token := request.get("nextToken"):
        try:
            (after,) = unseal(secret, token, scope)
        except ApiFault as fault:
            raise invalid(fault.message) from None
    left = [item for item in items if position(item) > after]
    size = request.get("maxResults") or PAGE
    if len(left) <= size:
        return left, {}
    return left[:size], {"nextToken": seal(secret, (position(left[size - 1]),), scope)}
