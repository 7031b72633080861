"""Folders on the host: making room for volumes inside them, and handing over files that a container's root made."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.layers import written_folders
from sagewright.backends.docker.spec import INSTALLATION
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.workload import ImageRef, Mount

_log = logging.getLogger(__name__)


def make_room(volume: Mount, mounts: Collection[Mount]) -> None:
    """Make the folder that a VOLUME of the image is bound to. Raises OSError.

    Only inside the workload's own folders: a link that a program left there must not lead out of them.
    """
    place = volume.source.resolve()
    if not any(place.is_relative_to(mount.source.resolve()) for mount in mounts):
        raise PermissionError(f"{volume.source} leads out of the workload's folder")
    place.mkdir(parents=True, exist_ok=True)
    if volume.changes:
        for name in ("upper", "work"):
            (volume.changes / name).mkdir(parents=True, exist_ok=True)


async def hand_over(engine: Engine, installation: str, container: Mapping[str, Any]) -> None:
    """Make what an inspected container wrote ours, where it belongs to another user. Says in the log when it cannot."""
    if os.geteuid() == 0:
        return
    try:
        folders = await asyncio.to_thread(_closed_folders, container)
        image = ImageRef(container["Image"])
        problem = await give_to(engine, installation, image, folders, (os.getuid(), os.getgid()))
    except BackendUnavailable as error:
        problem = str(error)
    if problem:
        name = container["Name"].removeprefix("/")
        _log.warning("files of another user stay in the folders of %s: %s", name, problem)


def _closed_folders(container: Mapping[str, Any]) -> list[Path]:
    folders, changes = written_folders(container)
    for each in changes:
        with suppress(OSError):  # of the kernel's root, mode 0000, and mostly empty
            (each / "work" / "work").rmdir()
    return [each for each in (*folders, *changes) if holds_closed(each)]


def holds_closed(folder: Path) -> bool:
    """Whether anything in it may not be read by us, or removed."""
    try:
        with os.scandir(folder) as entries:
            return any(_is_closed(entry) for entry in entries)
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _is_closed(entry: os.DirEntry[str]) -> bool:
    if entry.is_symlink():
        return False
    if entry.is_dir():
        return not os.access(entry.path, os.R_OK | os.W_OK | os.X_OK) or holds_closed(Path(entry.path))
    return entry.is_file() and not os.access(entry.path, os.R_OK)


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
