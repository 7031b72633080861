"""A whole gateway on a real port, in a thread, over a tiny service table and an S3 that keeps bytes in a dict."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import botocore.session
import uvloop
from botocore.config import Config

from sagewright.core.clock import SystemClock
from sagewright.core.context import Ctx
from sagewright.core.credentials import Credentials, Keyring
from sagewright.core.ids import DEFAULT_ACCOUNT
from sagewright.gateway.application import Gateway
from sagewright.gateway.authority import Authority
from sagewright.gateway.server import serve
from sagewright.services.service import Service, reads, writes
from sagewright.settings import DataDir, ServerSettings, Settings
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault

T = TypeVar("T")
MASTER = b"m" * 32


class PlainStore:
    """Transactions around nothing. `failure` is raised by the next writes."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.writing_threads: set[str] = set()
        self.reading_threads: set[str] = set()

    def read(self, work: Callable[[Any], T]) -> T:
        self.reading_threads.add(threading.current_thread().name)
        return work(None)

    def write(self, work: Callable[[Any], T]) -> T:
        self.writing_threads.add(threading.current_thread().name)
        if self.failure is not None:
            raise self.failure
        return work(None)

    def close(self) -> None:
        pass


class MemoryObjects:
    """Just enough S3: objects in a dict, uploads counted, downloads as streams."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.trailers: dict[str, str] = {}
        self.encodings: dict[str, str | None] = {}
        self.failed_uploads: list[BaseException] = []
        self.upload_started = threading.Event()
        self.download_sent = 0
        self.download_ended = threading.Event()
        self.slow = asyncio.Event  # a place for tests to put a gate

    async def call(self, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        found = getattr(self, f"_{call.operation}", None)
        if found is None:
            raise ApiFault("NotImplemented", f"no {call.operation} here", 501)
        result: Mapping[str, Any] = await found(call)
        return result

    async def _PutObject(self, call: Call) -> Mapping[str, Any]:
        try:
            body = call.params.get("Body", b"") if call.stream is None else await self._take(call.stream)
        except BaseException as error:
            self.failed_uploads.append(error)
            raise
        key = f"{call.params['Bucket']}/{call.params['Key']}"
        self.objects[key] = body
        self.trailers = dict(getattr(call.stream, "trailers", {}))
        self.encodings[key] = call.params.get("ContentEncoding")
        return {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}

    async def _UploadPart(self, call: Call) -> Mapping[str, Any]:
        return await self._PutObject(call)

    async def _take(self, stream: AsyncIterator[bytes]) -> bytes:
        taken = bytearray()
        self.upload_started.set()
        async for piece in stream:
            taken += piece
        return bytes(taken)

    async def _HeadObject(self, call: Call) -> Mapping[str, Any]:
        body = self._find(call)
        return {"ContentLength": len(body), "ETag": f'"{hashlib.md5(body).hexdigest()}"'}

    async def _GetObject(self, call: Call) -> Mapping[str, Any]:
        body = self._find(call)
        return {"Body": self._pieces(body), "ContentLength": len(body)}

    async def _DeleteObjects(self, call: Call) -> Mapping[str, Any]:
        return {"Deleted": [{"Key": item["Key"]} for item in call.params["Delete"]["Objects"]]}

    async def _ListBuckets(self, call: Call) -> Mapping[str, Any]:
        return {"Buckets": [{"Name": "data", "CreationDate": datetime(2025, 1, 1, tzinfo=UTC)}]}

    async def _pieces(self, body: bytes) -> AsyncIterator[bytes]:
        try:
            for start in range(0, len(body), 256 * 1024):
                piece = body[start : start + 256 * 1024]
                self.download_sent += len(piece)
                yield piece
        finally:
            self.download_ended.set()

    def _find(self, call: Call) -> bytes:
        key = f"{call.params['Bucket']}/{call.params['Key']}"
        if key not in self.objects:
            raise ApiFault("NoSuchKey", "The specified key does not exist.", 404, members={"Key": call.params["Key"]})
        return self.objects[key]


def _describe(ctx: Ctx, _tx: Any, request: Mapping[str, Any]) -> Mapping[str, Any]:
    name = request["TrainingJobName"]
    if name == "missing":
        raise ApiFault("ValidationException", "Requested resource not found.")
    if name == "bug":
        raise KeyError("a bug")
    return {
        "TrainingJobName": name,
        "TrainingJobArn": f"arn:aws:sagemaker:{ctx.region}:{ctx.account}:training-job/{name}",
        "TrainingJobStatus": "Completed",
        "SecondaryStatus": "Completed",
        "ModelArtifacts": {"S3ModelArtifacts": "s3://b/model.tar.gz"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        "AlgorithmSpecification": {"TrainingImage": "x", "TrainingInputMode": "File"},
        "CreationTime": ctx.now,
    }


def _stop(_ctx: Ctx, _tx: Any, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


def _identity(ctx: Ctx, _tx: Any, _request: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"UserId": ctx.principal.user_id, "Account": ctx.account, "Arn": ctx.principal.arn}


def services() -> dict[str, Service]:
    return {
        "sagemaker": Service("sagemaker", {"DescribeTrainingJob": reads(_describe), "StopTrainingJob": writes(_stop)}),
        "sts": Service("sts", {"GetCallerIdentity": reads(_identity)}),
    }


def issue(expiration: datetime | None = None) -> Credentials:
    return Keyring(MASTER).issue(DEFAULT_ACCOUNT, "SageMakerRole", "me", user_id="AROA1", expiration=expiration)


class Bench:
    """A running gateway and what tests want to know of it."""

    def __init__(self, folder: Path, **server: Any) -> None:
        self.store = PlainStore()
        self.objects = MemoryObjects()
        self.credentials = issue()
        self.authority = Authority(folder / "keys")
        settings = Settings(DataDir(folder), server=replace(ServerSettings(), **server))
        self.settings = settings
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self.gateway = Gateway(
            keyring=Keyring(MASTER),
            services=services(),
            objects=self.objects,
            store=self.store,
            clock=SystemClock(),
            settings=settings,
        )

    def client(self, service: str, credentials: Credentials | None = None, **options: Any) -> Any:
        keys = credentials or self.credentials
        config = Config(retries={"total_max_attempts": 1}, **options.pop("config", {"proxies": {}}))
        options.setdefault("endpoint_url", self.url)
        return botocore.session.Session().create_client(
            service,
            region_name=options.pop("region_name", "us-east-1"),
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            aws_session_token=keys.session_token,
            config=config,
            **options,
        )

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, data: bytes) -> bytes:
        """Send, close the sending side, and give all that comes back."""
        with self.connect() as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return receive_all(connection)


def receive_all(connection: socket.socket) -> bytes:
    received = bytearray()
    while piece := connection.recv(65536):
        received += piece
    return bytes(received)


@contextmanager
def running(bench: Bench, upstream_proxy: str | None = None) -> Iterator[Bench]:
    """Serves in a thread with a uvloop of its own until the block ends; then drains, and fails if that fails."""
    ready = threading.Event()
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
    failures: list[BaseException] = []
    settings = replace(bench.settings, upstream_proxy=upstream_proxy)

    async def main() -> None:
        stop = asyncio.Event()
        loops.append((asyncio.get_running_loop(), stop))
        await serve(bench.gateway, bench.listener, settings, bench.authority, stop, ready=ready.set)

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
    assert not thread.is_alive(), "the server did not drain"
    assert not failures, failures
