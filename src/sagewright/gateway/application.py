"""The request's straight line, from an HTTP request to an HTTP response.

    identify service → resolve credentials, verify → decode → validate → authorize → operation → encode

Owns: that order, one transaction around an operation, errors in the caller's protocol, request ids, the log.
Does not own: each step; sockets (`gateway.asgi`, `gateway.server`). One object serves all connections of a process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, Protocol, TypeVar

from sagewright.core.clock import Clock
from sagewright.core.context import Ctx
from sagewright.core.credentials import Keyring
from sagewright.core.errors import BlobStoreFull, Stale, StoreUnavailable
from sagewright.core.ids import Region, RequestId, new_request_id
from sagewright.gateway import metrics
from sagewright.gateway.authentication import Authenticator
from sagewright.gateway.authorization import authorize
from sagewright.gateway.bodies import ClientGone, has_length, read_whole
from sagewright.gateway.clients import is_loopback
from sagewright.gateway.codecs import codec_of, operation_hint, stand_in
from sagewright.gateway.hosts import as_path_style
from sagewright.gateway.landing import landing
from sagewright.gateway.literal_port import LiteralPort
from sagewright.registry.api import is_for_registry
from sagewright.registry.faults import RegistryFault
from sagewright.services.service import Operation, Service
from sagewright.settings import Settings
from sagewright.store.kinds.image import registry_host
from sagewright.store.resources import Store, Tx
from sagewright.wire.codec import Call, Codec
from sagewright.wire.denials import Denied, Family, denial_fault
from sagewright.wire.faults import ApiFault, internal_failure, not_implemented
from sagewright.wire.identify import Identity, identify
from sagewright.wire.messages import HttpRequest, HttpResponse
from sagewright.wire.rest import RestCodec
from sagewright.wire.validate import validate

T = TypeVar("T")

_STALE_RETRIES: Final = 5  # an operation that lost a compare-and-set reads and decides again
_log = logging.getLogger("sagewright.gateway")


class Objects(Protocol):
    """S3, as `sagewright.objects.api.ObjectApi` has it."""

    async def call(self, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        """Raises ApiFault. A streaming output member is bytes or an async iterator of bytes."""
        ...


class Registry(Protocol):
    """The image registry, as `sagewright.registry.api.Registry` has it."""

    async def handle(self, request: HttpRequest) -> HttpResponse: ...


class Gateway:
    """Serves requests. `store_is_local` (SQLite): reads run on the event loop, being far cheaper than a thread."""

    def __init__(
        self,
        *,
        keyring: Keyring,
        services: Mapping[str, Service],
        objects: Objects,
        store: Store,
        clock: Clock,
        settings: Settings,
        store_is_local: bool = True,
        registry: Registry | None = None,
        literal: LiteralPort | None = None,
    ) -> None:
        self._services = services
        self._objects = objects
        self._registry = registry
        self._literal = literal
        self._store = store
        self._clock = clock
        self._account = settings.account
        self._registry_address, self._image_names = settings.server.address, settings.data.image_names
        self._max_body = settings.server.max_body
        self._local = store_is_local
        self._writer = ThreadPoolExecutor(1, "sagewright-writer")
        self._authenticator = Authenticator(
            keyring, settings.region, max_skew=settings.server.max_clock_skew, max_body=settings.server.max_body
        )

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """The line. Raises ClientGone when the client left before its request was whole; nothing else."""
        started = time.perf_counter()
        if (answer := landing(request)) is not None:
            return answer
        if self._registry is not None and is_for_registry(request) and as_path_style(request) is request:
            return await self._serve_image(self._registry, request)
        identity = identify(request)
        is_ours = identity.service == "s3" or identity.service in self._services
        codec = codec_of(identity) if is_ours else stand_in(identity)
        request_id = new_request_id()
        operation: str | None = None
        try:
            if metrics.is_asked(request):
                return await self._scrape(identity, request)
            caller = await self._authenticator.authenticate(identity, request, self._clock.now())
            ctx = Ctx(
                account=self._account,
                region=caller.region,
                principal=caller.principal,
                now=self._clock.now(),
                request_id=request_id,
                base_url=f"{request.scheme}://{request.headers.get('host', '')}",
                registry=self._registry_address,
                registry_url=self._registry_url(caller.region),
                image_names=self._image_names,
            )
            if not is_ours:
                codec = codec_of(identity)
                raise await self._not_ours(identity, codec, caller.request)
            call = await self._decode(identity, codec, caller.request)
            operation = call.operation
            perform = self._operation(ctx, call)
            validate(call.service, operation, call.params)
            authorize(ctx, call.service, operation, call.params)
            response = codec.encode(operation, await perform(), request_id)
        except ClientGone:
            raise
        except Exception as error:
            fault = _fault(error, identity.family, request_id)
            response = codec.encode_fault(operation, fault, request_id)
            _report(error, fault, identity, operation, request_id)
        _stamp(response, identity.family, request_id)
        if _log.isEnabledFor(logging.DEBUG):
            _log_access(request, response.status, f"{identity.service}:{operation or '?'}", request_id, started)
        return response

    def close(self) -> None:
        """Waits for the write transaction under way."""
        self._writer.shutdown()

    async def _serve_image(self, registry: Registry, request: HttpRequest) -> HttpResponse:
        """The registry has its own login, its own errors, and no operations."""
        started = time.perf_counter()
        try:
            response = await registry.handle(request)
        except ClientGone:
            raise
        except Exception as error:
            _log.error("%s %s failed", request.method, request.raw_path, exc_info=error)
            response = RegistryFault("UNKNOWN", "Sagewright failed; its log has the details.").response()
        if _log.isEnabledFor(logging.DEBUG):
            _log_access(request, response.status, "registry", "-", started)
        return response

    def _registry_url(self, region: Region) -> str:
        """AWS's own name where docker on this machine reaches us by it, so that logins, tags and pushes agree."""
        name = registry_host(self._account, region)
        if self._literal is not None and self._literal.answers_to(name):
            return f"https://{name}"
        return f"http://{self._registry_address}"

    async def _scrape(self, identity: Identity, request: HttpRequest) -> HttpResponse:
        """GET /metrics: without a signature for this machine itself, with one for everybody else."""
        now = self._clock.now()
        if not is_loopback(request.client):
            await self._authenticator.authenticate(identity, request, now)
        read = partial(self._store.read, partial(metrics.exposition, now=now))
        return metrics.respond(await asyncio.get_running_loop().run_in_executor(None, read))

    async def _decode(self, identity: Identity, codec: Codec, request: HttpRequest) -> Call:
        """The call; the body is whole but for S3's uploads."""
        if identity.service == "s3":
            request = as_path_style(request)
            if isinstance(codec, RestCodec) and codec.streams_body(request):
                _check_length(request)
                return codec.decode(request)
        return codec.decode(await read_whole(request, self._max_body, identity.family))

    async def _not_ours(self, identity: Identity, codec: Codec, request: HttpRequest) -> ApiFault:
        whole = await read_whole(request, self._max_body, identity.family)
        return not_implemented(identity.service, _name_of(codec, whole))

    def _operation(self, ctx: Ctx, call: Call) -> Callable[[], Any]:
        """What to await for the result. Raises ApiFault when the operation is not in the service's table."""
        if call.service == "s3":
            return lambda: self._objects.call(ctx, call)
        operation = self._services[call.service].operations.get(call.operation)
        if operation is None:
            raise not_implemented(call.service, call.operation)
        return lambda: self._transact(operation, ctx, call)

    async def _transact(self, operation: Operation, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        """One transaction around the operation's function."""

        def work(tx: Tx) -> Mapping[str, Any]:
            return operation.function(ctx, tx, call.params)

        if not operation.writes:
            if self._local:
                return self._store.read(work)
            return await asyncio.get_running_loop().run_in_executor(None, self._store.read, work)
        return await asyncio.get_running_loop().run_in_executor(self._writer, self._write, work)

    def _write(self, work: Callable[[Tx], T]) -> T:
        for _ in range(_STALE_RETRIES):
            try:
                return self._store.write(work)
            except Stale:
                continue
        return self._store.write(work)


def _check_length(request: HttpRequest) -> None:
    """Raises ApiFault 411: without a length an upload cannot be told from one that was cut."""
    if not has_length(request):
        raise ApiFault("MissingContentLength", "You must provide the Content-Length HTTP header.", 411)


def _name_of(codec: Codec, request: HttpRequest) -> str:
    """The operation's name, from the service's own model when it can be decoded."""
    try:
        return codec.decode(request).operation
    except ApiFault:
        return operation_hint(request)


def _fault(error: Exception, family: Family, request_id: RequestId) -> ApiFault:
    """The one translator from inside errors to what a client sees."""
    if isinstance(error, ApiFault):
        return error
    if isinstance(error, Denied):
        return denial_fault(error, family)
    if isinstance(error, StoreUnavailable | BlobStoreFull):
        sentence = str(error) or "The disk or the database cannot be written now."
        return ApiFault("ServiceUnavailable", f"{sentence} The request was not carried out; it may be repeated.", 503)
    if isinstance(error, Stale):
        return ApiFault("ServiceUnavailable", "Too many changes to the same resource at once. Repeat the request.", 503)
    return internal_failure(request_id)


def _report(error: Exception, fault: ApiFault, identity: Identity, operation: str | None, request_id: str) -> None:
    """Failures of ours go to the log: unexpected ones with the traceback."""
    if not fault.is_server_fault:
        return
    what = f"{identity.service}:{operation or '?'}"
    if fault.code == "InternalFailure" and not isinstance(error, ApiFault):
        _log.error("request %s (%s) failed", request_id, what, exc_info=error)
    else:
        _log.error("request %s (%s) → %d %s: %s", request_id, what, fault.status, fault.code, fault.message)


def _stamp(response: HttpResponse, family: Family, request_id: str) -> None:
    name = "x-amz-request-id" if family is Family.S3 else "x-amzn-requestid"
    if name not in response.headers:
        response.headers.add(name, request_id)
    if family is Family.S3 and "x-amz-id-2" not in response.headers:
        response.headers.add("x-amz-id-2", request_id)


def _log_access(request: HttpRequest, status: int, what: str, request_id: str, started: float) -> None:
    milliseconds = (time.perf_counter() - started) * 1000
    line = f"{request.client} {request.method} {request.raw_path} {what} → {status} in {milliseconds:.1f} ms"
    _log.debug("%s (request %s)", line, request_id)
