"""The registry as the gateway calls it: a request in, a response out.

Owns: login first, then which end point, and errors in the specification's form. Does not own: the end points.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Final

from sagewright.core.credentials import Keyring
from sagewright.core.errors import BlobStoreFull, StoreUnavailable
from sagewright.registry import login
from sagewright.registry.blobs import Blobs
from sagewright.registry.faults import VERSION, RegistryFault
from sagewright.registry.manifests import Manifests
from sagewright.registry.routes import Place, place
from sagewright.registry.uploads import Uploads
from sagewright.registry.work import Shelf
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

_log: Final = logging.getLogger("sagewright.registry")


def is_for_registry(request: HttpRequest) -> bool:
    """Whether a request belongs here. AWS's own `/v2/…` paths come with AWS's signature, a registry's never do."""
    path = request.raw_path
    if not path.startswith("/v2") or path[3:4] not in {"", "/"}:
        return False
    if (request.headers.get("authorization") or "").startswith("AWS"):
        return False
    return "X-Amz-Signature=" not in request.raw_query


class Registry:
    """One object per gateway process."""

    def __init__(self, keyring: Keyring, shelf: Shelf) -> None:
        self._keyring = keyring
        self._clock = shelf.clock
        self._uploads = Uploads(shelf)
        self._blobs = Blobs(shelf)
        self._manifests = Manifests(shelf)

    async def handle(self, request: HttpRequest) -> HttpResponse:
        """Raises only what a broken-off body raises."""
        try:
            login.check(self._keyring, request, self._clock.now())
            return await self._answer(place(request), request)
        except RegistryFault as fault:
            return fault.response()
        except (StoreUnavailable, BlobStoreFull) as error:
            _log.error("%s %s → 503: %s", request.method, request.raw_path, error)
            return RegistryFault("UNAVAILABLE", f"{error} The request may be repeated.").response()

    def _answer(self, at: Place, request: HttpRequest) -> Awaitable[HttpResponse]:
        match at.kind:
            case "uploads":
                found = self._begin(at, request)
            case "upload":
                found = self._upload(at, request)
            case "blob":
                found = self._blob(at, request)
            case "manifest":
                found = self._manifest(at, request)
            case _:
                found = self._list(at, request) if request.method in {"GET", "HEAD"} else None
        if found is None:
            raise RegistryFault("UNSUPPORTED", f"{request.method} is not possible here.")
        return found

    def _begin(self, at: Place, request: HttpRequest) -> Awaitable[HttpResponse] | None:
        return self._uploads.begin(at, request) if request.method == "POST" else None

    def _upload(self, at: Place, request: HttpRequest) -> Awaitable[HttpResponse] | None:
        match request.method:
            case "PATCH":
                return self._uploads.append(at, request)
            case "PUT":
                return self._uploads.finish(at, request)
            case "GET" | "HEAD":
                return self._uploads.progress(at)
            case "DELETE":
                return self._uploads.cancel(at)
        return None

    def _blob(self, at: Place, request: HttpRequest) -> Awaitable[HttpResponse] | None:
        match request.method:
            case "GET":
                return self._blobs.get(at, request)
            case "HEAD":
                return self._blobs.head(at)
            case "DELETE":
                return self._blobs.delete(at)
        return None

    def _manifest(self, at: Place, request: HttpRequest) -> Awaitable[HttpResponse] | None:
        match request.method:
            case "GET" | "HEAD":
                return self._manifests.get(at, body=request.method == "GET")
            case "PUT":
                return self._manifests.put(at, request)
            case "DELETE":
                return self._manifests.delete(at)
        return None

    def _list(self, at: Place, request: HttpRequest) -> Awaitable[HttpResponse]:
        match at.kind:
            case "tags":
                return self._manifests.tags(at, request)
            case "referrers":
                return self._manifests.referrers(at, request)
            case "catalog":
                return self._manifests.catalog(request)
        return _root()


async def _root() -> HttpResponse:
    """GET /v2/: the login is good."""
    return HttpResponse(200, Headers([VERSION, ("content-type", "application/json")]), b"{}")
