"""What an image name means, decided once, when a job is created.

Order (design.md section 6): our own folder images, then the local engine's images, then a pull. The first is decided
here; the others belong to the backend, because an operation never asks an engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.context import Ctx
from sagewright.store.kinds import image as images
from sagewright.store.resources import Tx


def resolve(ctx: Ctx, tx: Tx, name: str) -> Mapping[str, Any]:
    """{"name": as given, "folder": the folder image of that name, or None}."""
    plain = images.plain_name(name, ctx.account, ctx.region)
    row = tx.find(images.key(ctx.account, ctx.region, plain))
    return {"name": name, "folder": dict(row.spec) if row else None}
