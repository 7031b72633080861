"""A gateway with the router on a real port, endpoint rows as the controller writes them, model servers to misuse."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
import uvloop
from botocore.config import Config

from sagewright.core.clock import SystemClock
from sagewright.core.credentials import Credentials, Keyring
from sagewright.core.ids import DEFAULT_ACCOUNT, DEFAULT_REGION
from sagewright.gateway.application import Gateway
from sagewright.gateway.authority import Authority
from sagewright.gateway.server import serve
from sagewright.router.hot import Router
from sagewright.settings import DataDir, RouterSettings, ServerSettings, Settings
from sagewright.store.db import Database
from sagewright.store.kinds import endpoint
from sagewright.store.kinds.endpoint import (
    ContainerPlan,
    EndpointSpec,
    EndpointStatus,
    Fleet,
    Instance,
    Plan,
    VariantPlan,
)
from support.front_bench import MASTER, MemoryObjects, services

NOW = "2026-01-01T00:00:00.000000Z"


@dataclass
class Received:
    """One request as a model server got it."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


class Conversation:
    """What a behaviour may do with a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: bytes, status: str = "200 OK", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.send("\r\n".join([*lines, "", ""]).encode() + body)

    def reset(self) -> None:
        """Close with RST."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        self.writer.transport.abort()

    def close(self) -> None:
        self.writer.close()


Behaviour = Callable[[Received, Conversation], Awaitable[None]]


async def echo(request: Received, conversation: Conversation) -> None:
    await conversation.answer(request.body, Content_Type=request.header("Content-Type") or "application/octet-stream")


def saying(text: bytes, **headers: str) -> Behaviour:
    async def say(request: Received, conversation: Conversation) -> None:
        await conversation.answer(text, **headers)

    return say


class Model:
    """A model server on a real port with a loop of its own. `behaviour` may be changed at any time."""

    def __init__(self, behaviour: Behaviour = echo) -> None:
        self.behaviour = behaviour
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server
        self._tasks: set[asyncio.Task[Any]] = set()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        ready = threading.Event()
        self._loop.call_soon(lambda: self._loop.create_task(self._open(ready)))
        self._thread.start()
        assert ready.wait(10)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def call(self, work: Callable[[], Any]) -> None:
        self._loop.call_soon_threadsafe(work)

    def close(self) -> None:
        """Stop listening and cut every connection, as the death of a process does."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _open(self, ready: threading.Event) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        ready.set()

    async def _close(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while (request := await _read(reader)) is not None:
                self.requests.append(request)
                await self.behaviour(request, Conversation(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self._tasks.discard(task)
            writer.close()
            with suppress(Exception):
                await writer.wait_closed()


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
    length = next((int(value) for name, value in headers if name.lower() == "content-length"), 0)
    return Received(first, headers, await reader.readexactly(length))


@dataclass(frozen=True)
class Fleeted:
    """One variant of an endpoint row: instance id → container name → address."""

    name: str = "AllTraffic"
    instances: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    weight: float = 1.0
    mode: str = endpoint.SERIAL
    routing: str = endpoint.LEAST_OUTSTANDING
    phases: Mapping[str, str] = field(default_factory=dict)
    containers: Sequence[str] = ("primary",)


def one(*models: Model, **options: Any) -> Fleeted:
    """A variant whose instances are these model servers."""
    return Fleeted(instances={f"i{model.port:07d}": {"primary": model.address} for model in models}, **options)


def instance_id(model: Model) -> str:
    return f"i{model.port:07d}"


class Bench:
    """A running gateway and what tests want to know of it."""

    def __init__(self, folder: Path, server: Mapping[str, Any] | None = None, **router: Any) -> None:
        data = DataDir(folder / "data")
        data.create()
        self.settings = Settings(
            data, server=replace(ServerSettings(), **(server or {})), router=replace(RouterSettings(), **router)
        )
        self.keyring = Keyring(MASTER)
        self.credentials = self.issue()
        self.store = Database.open(data.database)
        self.authority = Authority(data.keys)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.router = Router(store=self.store, keyring=self.keyring, clock=SystemClock(), settings=self.settings)
        self.gateway = Gateway(
            keyring=self.keyring,
            services=services(),
            objects=MemoryObjects(),
            store=self.store,
            clock=SystemClock(),
            settings=self.settings,
        )

    def issue(self, expiration: datetime | None = None) -> Credentials:
        return self.keyring.issue(DEFAULT_ACCOUNT, "SageMakerRole", "me", user_id="AROA1", expiration=expiration)

    def put(
        self,
        name: str,
        *variants: Fleeted,
        state: str = endpoint.IN_SERVICE,
        serving: bool = True,
        delete: bool = False,
    ) -> int:
        """Write the endpoint's row as the controller would. The row's version."""
        plan = Plan("config", tuple(_plan(variant) for variant in variants))
        instances = tuple(each for variant in variants for each in _instances(variant))
        fleet = Fleet("r1-x", 1, plan, instances, NOW)
        spec = EndpointSpec("config", plan, delete_requested=delete).to_row()
        status = EndpointStatus(
            (fleet,), serving="r1-x" if serving else None, deployed_config="config", handled=(1, 0)
        ).to_row()
        return write_row(self.store, name, spec, status, state)

    def remove(self, name: str) -> None:
        key = endpoint.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name)
        self.store.write(lambda tx: tx.remove(tx.get(key)))

    def client(self, service: str = "sagemaker-runtime", credentials: Credentials | None = None, **options: Any) -> Any:
        keys = credentials or self.credentials
        settings = {"proxies": {}, "retries": {"total_max_attempts": 1}, "read_timeout": 30} | options.pop("config", {})
        options.setdefault("endpoint_url", self.url)
        return botocore.session.Session().create_client(
            service,
            region_name=options.pop("region_name", "us-east-1"),
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            aws_session_token=keys.session_token,
            config=Config(**settings),
            **options,
        )

    def waiting(self, name: str) -> int:
        """Requests that wait for an instance of the endpoint's first variant."""
        found = self.router._live.find(DEFAULT_REGION, name)
        return len(found.variants[0].waiting) if found is not None else 0

    def outstanding(self, model: Model) -> int:
        """Requests that occupy a model server."""
        return self.router._live.outstanding(instance_id(model))

    def window(self, model: Model) -> float:
        return self.router._live._instances[instance_id(model)].window

    def wait_for_table(self, name: str, version: int) -> None:
        """Until the router has this row."""
        eventually(lambda: self.router._live.versions().get((DEFAULT_REGION, name)) == version, "the table is new")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)


def write_row(store: Database, name: str, spec: Mapping[str, Any], status: Mapping[str, Any], state: str) -> int:
    key = endpoint.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name)
    now = datetime.now(UTC)

    def work(tx: Any) -> int:
        row = tx.find(key)
        if row is None:
            row = tx.insert(key, spec, {}, state, now=now, wake=False)
        elif row.spec != spec:
            row = tx.update_spec(row, spec, now=now)
        return int(tx.update_status(row, status, state, now=now, wake_at=None).version)

    return store.write(work)


def _plan(variant: Fleeted) -> VariantPlan:
    containers = tuple(ContainerPlan(name, {"name": "image"}, {}) for name in variant.containers)
    return VariantPlan(
        name=variant.name,
        weight=variant.weight,
        count=len(variant.instances),
        instance_type="ml.m5.large",
        model="model",
        role="role",
        containers=containers,
        mode=variant.mode,
        routing=variant.routing,
    )


def _instances(variant: Fleeted) -> Iterator[Instance]:
    for identifier, addresses in variant.instances.items():
        phase = variant.phases.get(identifier, endpoint.READY)
        yield Instance(identifier, variant.name, {}, addresses, phase, NOW)


@contextmanager
def running(bench: Bench) -> Iterator[Bench]:
    """Serves in a thread with a uvloop of its own until the block ends; then drains, and fails if that fails."""
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failures: list[BaseException] = []

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, context: failures.append(_failure(context)))
        loops.append((loop, stop))
        await serve(
            bench.gateway,
            bench.listener,
            bench.settings,
            bench.authority,
            stop,
            hot_path=bench.router,
            ready=ready.set,
        )

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, name="gateway")
    thread.start()
    ready.wait(10)
    try:
        if failures:
            raise failures[0]
        yield bench
    finally:
        if loops and thread.is_alive():
            loop, stop = loops[0]
            loop.call_soon_threadsafe(stop.set)
        thread.join(20)
        bench.gateway.close()
        bench.store.close()
    assert not thread.is_alive(), "the server did not drain"
    assert not failures, failures
    assert bench.router.in_flight == 0, "a request was taken and never answered"


def _failure(context: Mapping[str, Any]) -> BaseException:
    return context.get("exception") or RuntimeError(str(context.get("message")))


def eventually(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.01)
    return found
