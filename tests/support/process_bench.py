"""The process backend under `backend_suite`: a record folder as substrate, /bin/sh of this machine as program."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from sagewright.backends.process.backend import ProcessBackend
from sagewright.workloads.workload import FolderImage, ImageRef
from suites.backend_bench import Bench

OURS = "the-test"


class ProcessBench(Bench):
    def __init__(self, folder: Path, environments: Path) -> None:
        super().__init__(folder)
        self.root = folder / "root"
        self.environments = environments
        self.environ: Mapping[str, str] = os.environ
        self._image = folder / "image"
        self._image.mkdir()
        self._backends: list[ProcessBackend] = []

    async def connect(self, installation: str = "") -> ProcessBackend:
        """Another installation over the very same root: the strictest reading of `must not see`."""
        backend = ProcessBackend(self.root, self.environments, installation or OURS, environ=self.environ)
        self._backends.append(backend)
        await backend.describe()
        return backend

    def image(self) -> ImageRef:
        return self.folder_image(self._image)

    def folder_image(self, path: Path, *entrypoint: str, requirements: str = "") -> ImageRef:
        return ImageRef("test", FolderImage("test", "sha256:" + "0" * 64, path, entrypoint, requirements))

    def missing_image(self) -> ImageRef:
        path = self.folder / "no-such-folder"
        return ImageRef("gone:1", FolderImage("gone:1", "sha256:" + "1" * 64, path, ("run",)))

    def outage(self) -> AbstractAsyncContextManager[None]:
        return self._unmounted()

    @asynccontextmanager
    async def _unmounted(self) -> AsyncIterator[None]:
        away = self.root.with_name("away")
        self.root.rename(away)
        try:
            yield
        finally:
            away.rename(self.root)

    async def aclose(self) -> None:
        backend = await self.connect()
        await asyncio.gather(*(backend.remove(workload) for workload in await backend.observe()))
        for each in self._backends:
            await each.aclose()
