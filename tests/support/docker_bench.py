"""A real engine under `backend_suite`, behind a socket of our own that can be cut."""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import tarfile
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sagewright.backends.docker.backend import DockerBackend
from sagewright.workloads.workload import ImageRef
from suites.backend_bench import Bench, Outage
from support.images import BUSYBOX, SOCKET, engine


class Tunnel:
    """A socket that leads to the engine's, and can be cut.

    `cut` closes what is open and refuses what comes, until `mend`. `refuse` drops the connection instead of passing on
    a request that contains it, once; `lose_reply` passes the request on, and drops the connection instead of the reply.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refuse = b""
        self.lose_reply = b""
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)

    async def cut(self) -> None:
        if self._server:
            self._server.close()
            self._server = None
            self.path.unlink(missing_ok=True)
        self.cut_connections()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def cut_connections(self) -> None:
        """Only what is open now; who comes again is served."""
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        there_reader, there_writer = await asyncio.open_unix_connection(SOCKET)
        mine = {writer, there_writer}
        self._writers |= mine
        try:
            await asyncio.gather(self._pump(reader, there_writer, writer), self._pump(there_reader, writer, None))
        finally:
            self._writers -= mine
            self._tasks.discard(task)

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, back: asyncio.StreamWriter | None
    ) -> None:
        """`back` is the client's side, when this direction carries requests."""
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                if back and self.refuse and self.refuse in data:
                    self.refuse = b""
                    back.transport.abort()
                    break
                writer.write(data)
                await writer.drain()
                if back and self.lose_reply and self.lose_reply in data:
                    self.lose_reply = b""
                    back.transport.abort()
                    await asyncio.sleep(0)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


class DockerBench(Bench):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.installation = f"test-{secrets.token_hex(6)}"
        self.tunnel = Tunnel(folder / "engine.sock")
        self.made_images: list[str] = []
        self._backends: list[DockerBackend] = []

    async def connect(self, installation: str = "", credentials: Path | None = None) -> DockerBackend:
        if not self.tunnel.path.exists():
            await self.tunnel.mend()
        name = self.installation + installation
        made = DockerBackend(name, host=f"unix://{self.tunnel.path}", credentials=credentials, scratch=self.folder)
        self._backends.append(made)
        return made

    def image(self) -> ImageRef:
        return ImageRef(BUSYBOX)

    def make_image(self, config: dict[str, Any]) -> ImageRef:
        """The busybox image with another configuration; gone with the bench."""
        name = f"sagewright-test/made:{secrets.token_hex(6)}"
        _, body = engine("POST", "/containers/create", {"Image": BUSYBOX, "Cmd": ["true"]})
        container = json.loads(body)["Id"]
        repository, tag = name.split(":")
        config = {"Env": ["PATH=/bin"], "Cmd": None, "Entrypoint": None, **config}
        status, body = engine("POST", f"/commit?container={container}&repo={repository}&tag={tag}", config)
        assert status == 201, body
        engine("DELETE", f"/containers/{container}")
        self.made_images.append(name)
        return ImageRef(name)

    def load_image(self, config: dict[str, Any]) -> ImageRef:
        """An image without layers that says these things of itself; gone with the bench."""
        name = f"sagewright-test/loaded:{secrets.token_hex(6)}"
        config = {**config, "rootfs": {"type": "layers", "diff_ids": []}, "history": []}
        manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": []}]
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path, content in (("config.json", config), ("manifest.json", manifest)):
                data = json.dumps(content).encode()
                entry = tarfile.TarInfo(path)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        status, body = engine("POST", "/images/load", archive.getvalue(), {"Content-Type": "application/x-tar"})
        assert status == 200, body
        self.made_images.append(name)
        return ImageRef(name)

    def missing_image(self) -> ImageRef:
        return ImageRef("127.0.0.1:9/no/such-image:1")  # nothing listens there, so the engine is quick to say so

    def outage(self) -> Outage:
        return Outage(self.tunnel.cut, self.tunnel.mend)

    async def aclose(self) -> None:
        for backend in self._backends:
            await backend.aclose()
        await self.tunnel.cut()
        remove_all(self.installation)
        for image in self.made_images:
            engine("DELETE", f"/images/{image}?force=1")


def remove_all(installation: str) -> None:
    """Behind the backend's back: nothing of a test stays in the engine."""
    filters = quote(json.dumps({"label": [f"sagewright.installation={installation}"]}))
    _, body = engine("GET", f"/containers/json?all=1&filters={filters}")
    for container in json.loads(body):
        engine("DELETE", f"/containers/{container['Id']}?force=1&v=1")
