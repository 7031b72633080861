"""Whether this engine can layer mounts, found out by trying.

A container of an empty image is never started: looking into it mounts what it has, which takes a fifth of a second.
Owns: the trial. Does not own: how a layered mount is described (`layers`), when it is asked (`backend`).
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import secrets
import shutil
import tarfile
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from sagewright.backends.docker import volumes
from sagewright.backends.docker.engine import Engine, EngineRefused, allow, steps
from sagewright.backends.docker.facts import Facts
from sagewright.backends.docker.layers import volume, written_folders
from sagewright.backends.docker.spec import INSTALLATION
from sagewright.core.errors import BackendError
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.workload import Mount

# The first is better: folders of the source can be renamed. The last is for engines in a user namespace.
_WAYS: Final = ("redirect_dir=on", "", "userxattr")
_TAR: Final = {"Content-Type": "application/x-tar"}
_FOLDER: Final = ".layers-"
_NAME: Final = "sagewright-layers-"
_OURS: Final = re.compile(_NAME + "[0-9a-f]{12}-[0-9a-f]{8}")  # installation and trial
_LABEL: Final = f"{INSTALLATION}.trial"
_OLD: Final = 120.0  # seconds after which a trial has ended, one way or another
_SHOWN, _WRITTEN, _TARGET = "shown", "written", "/layered"


@dataclass(frozen=True, slots=True)
class Layering:
    """Whether this engine can. `options` are the overlay's; `problem` is empty when it can."""

    options: str = ""
    problem: str = ""

    def told(self, engine: Capabilities) -> Capabilities:
        said = f"copies: {self.problem}" if self.problem else "hard links to the stored objects"
        return replace(engine, layers=not self.problem, details={**(engine.details or {}), "inputs": said})


class LayerTrial:
    """Tried once for each engine met, in a folder below `scratch`: on the file system that inputs will be on. Without
    one nothing is layered."""

    def __init__(self, engine: Engine, installation: str, scratch: Path | None) -> None:
        self._engine = engine
        self._installation = installation
        self._prefix = f"{_NAME}{installation}-"
        self._scratch = scratch
        self._lock = asyncio.Lock()
        self._found: tuple[Facts, Layering] | None = None

    async def result(self) -> Layering:
        """Raises BackendUnavailable only when the engine cannot be asked what it is: a trial that goes wrong is no
        reason to do without an engine."""
        async with self._lock:
            facts = await self._engine.facts()  # another object after an outage: it may be another engine
            if self._found is None or self._found[0] is not facts:
                self._found = facts, await self._try()
            return self._found[1]

    async def sweep(self) -> None:
        """Remove what a trial left that was killed in its fifth of a second. Raises BackendUnavailable."""
        before = time.time() - _OLD
        await self.discard([name for name in await self._left(before) if name.startswith(self._prefix)])
        await volumes.delete_unused(self._engine, f"{_LABEL}={self._installation}")
        if self._scratch is not None:
            await asyncio.to_thread(_discard_old, self._scratch, before)

    async def left(self, before: float) -> list[str]:
        """What was left before then by trials of this installation, and of those that are no more: nobody else would
        remove that. A trial holds nothing and is over in an instant, so an old one is of use to nobody; one whose
        folder could still be swept by its own installation is left to it. Raises BackendUnavailable."""
        found = await self._left(before)
        return [name for name in found if name.startswith(self._prefix) or not await self._has_owner(name)]

    async def discard(self, names: Collection[str]) -> None:
        """Raises BackendUnavailable."""
        for name in names:
            await self._engine.delete(name)  # the container has the image's name
            await self._engine.delete_image(name)

    async def _left(self, before: float) -> list[str]:
        """Containers that were never started and images without files, of any installation."""
        images = await self._list("images/json", {"reference": [f"{_NAME}*"]})
        containers = await self._list("containers/json", {"label": [_LABEL], "status": ["created"]})
        names = {tag.partition(":")[0] for each in images if each["Created"] < before for tag in each["RepoTags"] or ()}
        names |= {name.removeprefix("/") for each in containers if each["Created"] < before for name in each["Names"]}
        return sorted(name for name in names if _OURS.fullmatch(name))

    async def _list(self, path: str, filters: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        with allow():
            async with self._engine.stream("GET", path, {"all": "1", "filters": json.dumps(filters)}) as response:
                found: list[Mapping[str, Any]] = await response.json()
                return found

    async def _has_owner(self, name: str) -> bool:
        """Whether the data directory in which it was tried is there: the folder lies in one of its folders."""
        container = await self._engine.inspect(name)
        folders = written_folders(container)[1] if container else []
        return any(folder.parent.exists() for folder in folders)

    async def _try(self) -> Layering:
        if self._scratch is None:
            return Layering(problem="no folder was given to try it in")
        said = ""
        for options in _WAYS:
            folder = self._scratch / f"{_FOLDER}{secrets.token_hex(4)}"
            try:
                await asyncio.to_thread(_prepare, folder)
                await self._run(folder, options)
            except (BackendError, OSError) as error:  # after an outage it is another engine, and tried anew
                said = said or str(error)
            else:
                return Layering(options)
            finally:
                await asyncio.to_thread(_discard, folder)
        return Layering(problem=said)

    async def _run(self, folder: Path, options: str) -> None:
        """Raises OSError, EngineRefused, BackendUnavailable."""
        name = f"{self._prefix}{secrets.token_hex(4)}"
        image = await self._import(name)
        try:
            labels = {_LABEL: self._installation}
            mount = volume(Mount(folder / "lower", _TARGET), folder, labels, options)
            config = {"Image": image, "Cmd": ["none"], "Labels": labels, "HostConfig": {"Mounts": [mount]}}
            container = await self._engine.create(name, config)
            try:
                await self._put(container)
                if not await self._is_shown(container):
                    raise OSError("the engine does not see this machine's files")
            finally:
                await self._engine.delete(container)
        finally:
            await self._engine.delete_image(name)
        if not (folder / "upper" / _WRITTEN).exists() or (folder / "lower" / _WRITTEN).exists():
            raise OSError("the engine does not write to this machine's files")

    async def _import(self, name: str) -> str:
        """An image of one layer without files; its id."""
        made = ""
        params = {"fromSrc": "-", "repo": name}
        async with self._engine.stream("POST", "images/create", params, _TAR, _archive({})) as response:
            async for step in steps(response):
                made = str(step.get("status", made))
        return made

    async def _put(self, container: str) -> None:
        path = f"containers/{container}/archive"
        async with self._engine.stream("PUT", path, {"path": _TARGET}, _TAR, _archive({_WRITTEN: b"new"})):
            pass

    async def _is_shown(self, container: str) -> bool:
        try:
            async with self._engine.stream("HEAD", f"containers/{container}/archive", {"path": f"{_TARGET}/{_SHOWN}"}):
                return True
        except EngineRefused as refused:
            if refused.status == 404:
                return False
            raise


async def _archive(files: Mapping[str, bytes]) -> AsyncIterator[bytes]:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    yield content.getvalue()


def _prepare(folder: Path) -> None:
    for name in ("lower", "upper", "work"):
        (folder / name).mkdir(parents=True)
    (folder / "lower" / _SHOWN).write_bytes(b"")


def _discard_old(scratch: Path, before: float) -> None:
    for folder in scratch.glob(f"{_FOLDER}*"):
        with suppress(OSError):
            if folder.stat().st_mtime < before:
                _discard(folder)


def _discard(folder: Path) -> None:
    with suppress(OSError):
        (folder / "work" / "work").rmdir()  # the engine's root made it, and it cannot be opened
    shutil.rmtree(folder, ignore_errors=True)
