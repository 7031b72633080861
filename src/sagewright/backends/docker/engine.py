"""The engine's HTTP API: one kept client, and one translation of what can go wrong.

    answered, and it worked      a value; None where "no such thing" is an answer
    answered, and it refused     EngineRefused(status, the engine's own words): create, start, wait, image, pull, logs
    refused what cannot be       BackendUnavailable: looking, signalling, removing have no business to fail
    no answer worth the name     BackendUnavailable: no socket, refused, cut, timed out, restarting, 502 to 504

Owns: connecting (and again after an outage), the calls, what the engine is (`Facts`).
Does not own: what is asked of it (`spec`), what an answer means (`seen`), when to ask (`backend`).
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import quote, urlencode

from sagewright.backends.docker import place, raw
from sagewright.backends.docker.facts import Facts, facts_of
from sagewright.core.errors import BackendError, BackendUnavailable

if TYPE_CHECKING:
    import aiodocker
    import aiohttp

Json: TypeAlias = Mapping[str, Any]  # as the engine answered

ANSWER = 60.0  # seconds to wait for an answer; starting a container on a loaded machine can take many
CONNECT = 5.0
_LINE = 1 << 20  # bytes of one line of progress, at most
# A refusal that says no more than "I am going down, or have just come up".
_PASSING = ("rpc error: code = Unavailable", "transport is closing", "server is shutting down", "containerd.sock")


class EngineRefused(BackendError):
    """The engine answered, and said no. `message` has its own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Engine:
    """`host` is `unix:///path` or `tcp://host:port`; None = the usual sockets of this machine."""

    def __init__(self, host: str | None = None) -> None:
        self.host = host
        self._client: aiodocker.Docker | None = None
        self._connector: aiohttp.BaseConnector | None = None
        self._socket = ""  # of an engine on this machine
        self._facts: Facts | None = None
        self._closed = False

    async def facts(self) -> Facts:
        """What this engine is. Asked once, and again after an outage."""
        if self._facts is None:
            with allow():
                async with self._answers() as client:
                    version, info = await client.version(), await client.system.info()
            self._facts = facts_of(version, info, local=place.is_local(client.docker_host, self.host))
        return self._facts

    async def info(self) -> Json:
        """The engine's own description of itself and of its machine."""
        with allow():
            async with self._answers() as client:
                found: Json = await client.system.info()
        return found

    async def log_in(self, auth: Json) -> None:
        """Has the engine itself try a registry's login. Raises EngineRefused with what the engine met on the way."""
        async with self._answers() as client:
            await client.auth(**auth)

    async def ping(self) -> None:
        """Raises BackendUnavailable; about a millisecond, where asking for the facts can take many."""
        with allow():
            async with self._answers() as client:
                await client.version()

    # -- containers ----------------------------------------------------------

    async def create(self, name: str, config: Json) -> str:
        """The new container's id."""
        async with self._answers() as client:
            return (await client.containers.create(config, name=name)).id

    async def start(self, container: str) -> None:
        """Starting what runs is success."""
        async with self._answers() as client:
            await client.containers.container(container).start()

    async def kill(self, container: str, signal: str) -> None:
        """Success also when there is nothing left to signal."""
        with allow(404, 409):
            async with self._answers() as client:
                await client.containers.container(container).kill(signal=signal, timeout=_patience())

    async def delete(self, container: str) -> None:
        """Returns when it is gone, whoever began to remove it."""
        while True:
            try:
                async with self._answers() as client:
                    await client.containers.container(container).delete(force=True, v=True, timeout=_patience())
                return
            except EngineRefused as refused:
                if refused.status == 404:
                    return
                if refused.status != 409:  # 409: somebody else is removing it
                    raise BackendUnavailable(f"the container engine failed: {refused.message}") from refused
            await asyncio.sleep(0.05)

    async def inspect(self, container: str) -> Json | None:
        found: Json | None = None
        with allow(404):
            async with self._answers() as client:
                found = await client.containers.container(container).show()
        return found

    async def stats(self, container: str) -> Json | None:
        """Counters now and a second before; None when it is gone."""
        found: Sequence[Json] = ()
        with allow(404, 409):
            async with self._answers() as client:
                found = await client.containers.container(container).stats(stream=False)
        return found[0] if found else None

    async def wait(self, container: str) -> int:
        """The exit code, once it has one."""
        async with self._answers() as client:
            return int((await client.containers.container(container).wait())["StatusCode"])

    async def containers(self, label: str) -> list[Json]:
        """All containers with this label, the ended ones too."""
        with allow():
            async with self._answers() as client:
                found = await client.containers.list(all=True, filters=json.dumps({"label": [label]}))
        return [{name: container[name] for name in ("Id", "Names", "State", "Labels")} for container in found]

    async def read(self, container: str, path: str, limit: int) -> bytes | None:
        """The first bytes of a tar of this file; None when it is not there."""
        try:
            async with self.stream("GET", f"containers/{container}/archive", {"path": path}) as response:
                start = bytearray()
                async for chunk in response.content.iter_any():
                    start += chunk
                    if len(start) >= limit:
                        break
                return bytes(start[:limit])
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise

    # -- networks ------------------------------------------------------------

    async def ensure_network(self, config: Json) -> None:
        try:
            async with self._answers() as client:
                await client.networks.get(config["Name"])
        except EngineRefused as refused:
            if refused.status != 404:
                raise
            with allow(409):  # somebody else was faster
                async with self._answers() as client:
                    await client.networks.create(dict(config))

    async def delete_network(self, name: str) -> None:
        """Unless there is none, or a container is in it."""
        with allow(403, 404, 409):
            async with self._answers() as client:
                await (await client.networks.get(name)).delete()

    async def gateway(self, name: str) -> str:
        """This machine's address in a network; empty when it has none there. Raises EngineRefused."""
        async with self._answers() as client:
            found = await (await client.networks.get(name)).show()
        return next((each["Gateway"] for each in found["IPAM"]["Config"] or () if each.get("Gateway")), "")

    async def networks(self, label: str) -> list[str]:
        """The names of all networks with this label."""
        with allow():
            async with self._answers() as client:
                found = await client.networks.list(filters={"label": [label]})
        return [network["Name"] for network in found]

    # -- images --------------------------------------------------------------

    async def image(self, name: str) -> Json | None:
        try:
            async with self._answers() as client:
                return await client.images.inspect(quote(name, safe="/:@"))
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise

    async def pull(self, path: str, params: Mapping[str, str], auth: Json | None) -> AsyncGenerator[Json, None]:
        """The engine's progress, an object per step. Ends when the image is there."""
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()} if auth else {}
        async with self.stream("POST", path, params, headers) as response:
            async for step in steps(response):
                yield step

    async def build(self, params: Mapping[str, str], context: AsyncIterable[bytes]) -> AsyncGenerator[Json, None]:
        """The engine's progress while it builds an image from a tar stream."""
        async with self.stream("POST", "build", params, {"Content-Type": "application/x-tar"}, context) as response:
            async for step in steps(response):
                yield step

    async def delete_image(self, name: str) -> None:
        with allow(404, 409):
            async with self._answers() as client:
                await client.images.delete(name, force=True)

    async def tag(self, name: str, repository: str, tag: str) -> None:
        async with self._answers() as client:
            await client.images.tag(quote(name, safe="/:@"), repository, tag=tag)

    async def push(self, repository: str, tag: str, auth: Json) -> AsyncGenerator[Json, None]:
        """The engine's progress. Ends when the registry, which is on loopback, has it."""
        headers = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(auth).encode()).decode()}
        async with self.stream(
            "POST", f"images/{repository}/push", {"tag": tag, "tlsVerify": "false"}, headers
        ) as response:
            async for step in steps(response):
                yield step

    # -- streams -------------------------------------------------------------

    async def logs(
        self, container: str, *, since: str, follow: bool, tail: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The multiplexed stream as it comes, of the last `tail` lines or all. BackendUnavailable when it is cut
        before its end."""
        params = {"stdout": "1", "stderr": "1", "timestamps": "1", "since": since, "follow": str(int(follow))}
        params |= {"tail": str(tail)} if tail else {}
        path = f"containers/{container}/logs"
        async with self._answers() as client:
            if self._socket:
                await _settle(client)
                target = f"/{client.api_version}/{path}?{urlencode(params)}"
                async with aclosing(raw.get(self._socket, target, CONNECT)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
        async with self.stream("GET", path, params) as response:
            async for chunk in response.content.iter_any():
                yield chunk

    async def events(self, filters: Mapping[str, list[str]]) -> AsyncGenerator[Json, None]:
        async with self.stream("GET", "events", {"filters": json.dumps(filters)}) as response:
            async for line in response.content:
                yield json.loads(line)

    @property
    def closed(self) -> bool:
        return self._closed

    async def aclose(self) -> None:
        self._closed = True
        await self._disconnect()

    # -- inside --------------------------------------------------------------

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        params: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        body: AsyncIterable[bytes] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Not aiodocker's own streams: they take a cut for the end, and leave the connection open when cancelled."""
        import aiohttp

        async with self._answers() as client:
            await _settle(client)
            url = f"{client.docker_host}/{client.api_version}/{path}"
            patient = aiohttp.ClientTimeout(sock_connect=CONNECT)
            asked = client.session.request(
                method, url, params=params, headers=headers, data=body, timeout=patient, read_bufsize=_LINE
            )
            async with asked as response:
                if not 200 <= response.status < 300:
                    raise _refusal(response.status, await response.text())
                yield response

    @asynccontextmanager
    async def _answers(self) -> AsyncIterator[aiodocker.Docker]:
        """The client; what goes wrong inside is translated."""
        client = self._client or await self._connect()
        import aiohttp
        from aiodocker.exceptions import DockerError

        try:
            yield client
        except raw.Answered as answered:
            raise _refusal(answered.status, answered.body) from answered
        except DockerError as error:
            refusal = _refusal(error.status, error.message)
            if isinstance(refusal, BackendUnavailable):
                self._forget_facts(client)
            raise refusal from error
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._forget_facts(client)
            raise BackendUnavailable(
                f"the container engine does not answer: {error or type(error).__name__}"
            ) from error
        except (ValueError, TypeError, KeyError) as error:  # aiodocker, given something that is no Docker API
            self._forget_facts(client)
            raise BackendUnavailable(f"the container engine's answer makes no sense: {error}") from error

    async def _connect(self) -> aiodocker.Docker:
        await asyncio.to_thread(importlib.import_module, "aiodocker")  # it takes long, and others want the loop
        import aiodocker
        import aiohttp

        if self._closed:
            raise BackendUnavailable("this connection to the container engine was closed")
        if self._client:  # somebody else was faster
            return self._client
        host = place.find(self.host)
        timeout = _patience()
        if host.startswith("unix://"):
            # No limit: every log reader holds a connection for as long as its container runs.
            self._socket = host.removeprefix("unix://")
            self._connector = aiohttp.UnixConnector(self._socket, limit=0)
            self._client = aiodocker.Docker("http://localhost", connector=self._connector, timeout=timeout)
        else:
            self._client = aiodocker.Docker(host, timeout=timeout)
        return self._client

    def _forget_facts(self, client: aiodocker.Docker) -> None:
        """After an outage it may be another engine: another version, at another socket."""
        self._facts = None
        client.api_version = "auto"

    async def _disconnect(self) -> None:
        client, self._client = self._client, None
        connector, self._connector = self._connector, None
        if client:
            await client.close()
        if connector:
            await connector.close()


async def _settle(client: aiodocker.Docker) -> None:
    """Which version of the API is spoken."""
    if client.api_version == "auto":
        await client.version()


async def steps(response: aiohttp.ClientResponse) -> AsyncGenerator[Json, None]:
    """Progress, an object per line. Raises EngineRefused for the one that says what went wrong."""
    async for line in response.content:
        if not line.strip():
            continue
        step = json.loads(line)
        if "error" in step:
            raise EngineRefused(response.status, str(step["error"]))
        yield step


def _patience() -> aiohttp.ClientTimeout:
    import aiohttp

    return aiohttp.ClientTimeout(sock_connect=CONNECT, sock_read=ANSWER)


@contextmanager
def allow(*statuses: int) -> Iterator[None]:
    """These refusals are as good as success. Any other says nothing of the workload: the engine is not well."""
    try:
        yield
    except EngineRefused as refused:
        if refused.status not in statuses:
            raise BackendUnavailable(f"the container engine failed: {refused.message}") from refused


def _refusal(status: int, body: str) -> BackendError:
    message = body.strip()
    if message.startswith("{"):
        message = str(json.loads(message).get("message", message))
    if status in (502, 503, 504, 900) or any(mark in message for mark in _PASSING):
        return BackendUnavailable(f"the container engine does not answer: {message}")
    return EngineRefused(status, message)
