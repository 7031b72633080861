"""What an image name means, decided once, when a job or a model is created.

Order (design.md section 6): our own folder images, then our registry, then the local engine's images, then a pull. The
first two are decided here; the others belong to the backend, because an operation never asks an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.context import Ctx
from sagewright.services.image_table import CLOSED, EcrName, parse_at, parse_ecr, stand_in
from sagewright.store import registry_rows
from sagewright.store.kinds import image as images
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation


def resolve(ctx: Ctx, tx: Tx, name: str) -> Mapping[str, Any]:
    """{"name": as given, "folder": the folder image of that name or None}, and perhaps "own": NAME@DIGEST when our
    registry holds it, "stands_for": what to ask the engine for instead of the name.

    Raises ValidationException for an image that only AWS has.
    """
    found = _ours(ctx, tx, name)
    if found or (wanted := parse_ecr(name)) is None:
        return {"name": name, "folder": None, **found}
    instead = stand_in(ctx.image_names, wanted)
    if instead is not None:
        return {"name": name, "folder": None, **(_ours(ctx, tx, instead) or {"stands_for": instead})}
    if wanted.account != ctx.account and wanted.name in CLOSED:
        raise validation(
            f"The image {name} is AWS's own algorithm {wanted.name}, which AWS does not publish: it cannot run here. "
            f"Use an image of your own: `docker push {ctx.registry}/{wanted.name}:{wanted.reference}` makes this name "
            f"mean yours, and so does a line in {ctx.image_names}: "
            f'{{"{wanted.name}:{wanted.reference}": "your/image:tag"}}.'
        )
    return {"name": name, "folder": None}


def _ours(ctx: Ctx, tx: Tx, name: str) -> dict[str, Any]:
    """A folder image of ours, or an image that our registry holds; empty when it is neither."""
    plain = images.plain_name(name, ctx.account, ctx.region)
    row = tx.find(images.key(ctx.account, ctx.region, plain))
    if row is not None:
        return {"folder": dict(row.spec)}
    wanted = parse_ecr(name) or parse_at(name, ctx.registry, ctx.account)
    return _in_registry(ctx, tx, wanted) if wanted else {}


def _in_registry(ctx: Ctx, tx: Tx, wanted: EcrName) -> dict[str, Any]:
    """The account in the name does not matter: scripts carry the account that they were written for."""
    repository = registry_rows.find_repository(tx, ctx.account, wanted.name)
    manifest = registry_rows.resolve(tx, repository, wanted.reference) if repository else None
    return {"own": f"{wanted.name}@{manifest.digest}"} if manifest else {}
