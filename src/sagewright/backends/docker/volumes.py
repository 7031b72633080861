"""Volumes that were made with a container of ours and did not go with it: somebody removed the container by hand."""

from __future__ import annotations

import json
from collections.abc import Iterable

from sagewright.backends.docker.engine import Engine, allow


async def unused(engine: Engine, label: str) -> list[str]:
    """Those with this label that no container has. The engine's own prune leaves out all that have options. Raises
    BackendUnavailable."""
    filters = json.dumps({"dangling": ["true"], "label": [label]})
    with allow():
        async with engine.stream("GET", "volumes", {"filters": filters}) as response:
            found = await response.json()
    return [volume["Name"] for volume in found["Volumes"] or ()]


async def delete(engine: Engine, names: Iterable[str]) -> None:
    """Raises BackendUnavailable."""
    for name in names:
        with allow(404, 409):  # gone, or taken, since
            async with engine.stream("DELETE", f"volumes/{name}", {}):
                pass


async def delete_unused(engine: Engine, label: str) -> None:
    """Raises BackendUnavailable."""
    await delete(engine, await unused(engine, label))
