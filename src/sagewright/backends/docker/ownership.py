"""Handing over files that a container's root made, by a short container of the same image that runs chown."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.spec import INSTALLATION
from sagewright.workloads.workload import ImageRef


async def give_to(
    engine: Engine, installation: str, image: ImageRef, paths: Collection[Path], owner: tuple[int, int]
) -> str:
    """Empty when done, else why not. Raises BackendUnavailable."""
    places = {f"/reclaim/{number}": path for number, path in enumerate(paths)}
    if not places:
        return ""
    mounts = [{"Type": "bind", "Source": str(source), "Target": target} for target, source in places.items()]
    config: dict[str, Any] = {
        "Image": image.name,
        "Entrypoint": ["chown", "-R", "-h", f"{owner[0]}:{owner[1]}", *places],
        "User": "0:0",
        "Labels": {f"{INSTALLATION}.reclaim": installation},
        "HostConfig": {"Mounts": mounts, "NetworkMode": "none"},
    }
    name = f"sagewright-reclaim-{secrets.token_hex(6)}"
    try:
        container = await engine.create(name, config)
        try:
            await engine.start(container)
            code = await engine.wait(container)
        finally:
            await engine.delete(container)
    except EngineRefused as refused:
        return f"the image {image.name} could not run chown: {refused.message}"
    return "" if code == 0 else f"chown in the image {image.name} ended with exit code {code}"
