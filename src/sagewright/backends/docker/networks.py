"""Networks that containers of this installation share: made before the first of them starts, removed with the last.

    isolated, serves a port    one for all; this machine and they reach each other only    sagewright-<installation>
    hosts of one job           one for each job, in which each is reached by its name       <id of algo-1>-hosts

Owns: making and removing them. Does not own: what a container says of its network (`spec`).

Nothing is remembered: what is ours carries our label, and what has no running container in it is removed whenever a
container that was in a network goes, or one that is gone already is removed again. So a crash between making a network
and its container leaves nothing behind: the job's end removes each of its workloads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sagewright.backends.docker import spec
from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.workload import Workload


class Networks:
    def __init__(self, engine: Engine, installation: str) -> None:
        self._engine = engine
        self._installation = installation
        self._changing = asyncio.Lock()
        self._entering: Counter[str] = Counter()  # containers that are being started in each

    @asynccontextmanager
    async def entered(self, workload: Workload) -> AsyncIterator[str]:
        """The network of this workload is there, and stays until its container has been started in it. Gives this
        machine's address in it, as the container is to know it.

        Raises BackendUnavailable also where the engine has no addresses left: the end of another job frees some."""
        config = spec.shared_network(workload, self._installation)
        if config is None:
            yield spec.HOST_GATEWAY if workload.network_isolation else await self._machine(spec.DEFAULT_NETWORK)
            return
        name = config["Name"]
        self._entering[name] += 1
        try:
            async with self._changing:
                await self._make(config)
            yield await self._machine(name)
        finally:
            self._entering[name] -= 1

    async def leave(self, container: Mapping[str, Any] | None) -> None:
        """After this container, as inspected, was removed; None = it was gone already."""
        if container is not None and not spec.is_in_shared_network(container, self._installation):
            return
        async with self._changing:
            for name in await self._engine.networks(f"{spec.INSTALLATION}={self._installation}"):
                if not self._entering[name]:
                    await self._engine.delete_network(name)

    async def _machine(self, network: str) -> str:
        """Podman learned Docker's word for it late (4.7), and takes it for an address before."""
        if not (await self._engine.facts()).podman:
            return spec.HOST_GATEWAY
        try:
            return await self._engine.gateway(network) or spec.HOST_GATEWAY
        except EngineRefused as refused:
            raise BackendUnavailable(f"the container engine cannot tell of a network: {refused.message}") from refused

    async def _make(self, config: Mapping[str, Any]) -> None:
        try:
            await self._engine.ensure_network(config)
        except EngineRefused as refused:
            raise BackendUnavailable(f"the container engine cannot make a network: {refused.message}") from refused
