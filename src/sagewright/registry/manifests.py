"""Manifests, tags, referrers and the catalogue.

Owns: these end points. Does not own: what must hold for a push (`store.registry_push`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from sagewright.core.image_manifests import (
    LARGEST,
    OCI_INDEX,
    SHA256,
    ManifestUnreadable,
    algorithm_of,
    digest_of,
    parse,
)
from sagewright.registry.faults import VERSION, RegistryFault, digest_invalid, manifest_unknown, still_needed
from sagewright.registry.routes import Place, query
from sagewright.registry.work import Shelf
from sagewright.store import registry_push, registry_rows
from sagewright.store.registry_rows import Manifest
from sagewright.store.resources import Tx
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

_PAGE: Final = 1000


class Manifests:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def get(self, place: Place, *, body: bool) -> HttpResponse:
        """GET, and HEAD without the body. The manifest goes out as it came in, whatever `Accept` says."""

        def work(tx: Tx) -> Manifest | None:
            return registry_rows.resolve(tx, self._shelf.repository(tx, place.name), place.reference)

        found = await self._shelf.read(work)
        if found is None:
            raise manifest_unknown(place.reference)
        headers = [
            VERSION,
            ("content-type", found.media_type),
            ("docker-content-digest", found.digest),
            ("etag", f'"{found.digest}"'),
            ("content-length", str(len(found.content))),
        ]
        return HttpResponse(200, Headers(headers), found.content if body else b"")

    async def put(self, place: Place, request: HttpRequest) -> HttpResponse:
        content = await _whole(request)
        tag = None if ":" in place.reference else place.reference
        digest = digest_of(content, SHA256 if tag else algorithm_of(place.reference))
        if tag is None and digest != place.reference:
            raise digest_invalid(place.reference, digest)
        now = self._shelf.clock.now()
        media_type = request.headers.get("content-type")

        def work(tx: Tx) -> Manifest:
            repository = self._shelf.repository(tx, place.name)
            return registry_push.push(tx, repository, content, media_type, tag, now=now, digest=digest)

        try:
            kept = await self._shelf.write(work)
        except ManifestUnreadable as error:
            raise RegistryFault("MANIFEST_INVALID", str(error)) from error
        except (registry_push.BlobMissing, registry_push.ManifestMissing) as error:
            sentence = f"The manifest names {error}, which is not in this repository: push that first."
            raise RegistryFault("MANIFEST_BLOB_UNKNOWN", sentence, detail={"digest": str(error)}) from error
        except registry_push.TagTaken as error:
            sentence = (
                f"The image tag '{error}' already exists in the '{place.name}' repository and cannot be overwritten "
                "because the repository is immutable."
            )
            raise RegistryFault("TAG_INVALID", sentence, detail={"tag": str(error)}) from error
        headers = Headers([VERSION, ("location", f"/v2/{place.name}/manifests/{kept.digest}")])
        headers.add("docker-content-digest", kept.digest)
        if kept.subject:
            headers.add("oci-subject", kept.subject)
        return HttpResponse(201, headers)

    async def delete(self, place: Place) -> HttpResponse:
        """A tag alone, or a manifest with all its tags, unless an index lists it."""

        def work(tx: Tx) -> bool:
            repository = self._shelf.repository(tx, place.name)
            if ":" in place.reference:
                if holder := registry_rows.holder_of(tx, repository, place.reference):
                    raise still_needed(place.reference, holder)
                return registry_rows.remove_manifest(tx, repository, place.reference)
            return registry_rows.remove_tag(tx, repository, place.reference)

        if not await self._shelf.write(work):
            raise manifest_unknown(place.reference)
        return HttpResponse(202, Headers([VERSION]))

    async def tags(self, place: Place, request: HttpRequest) -> HttpResponse:
        limit, last = _paging(request)

        def work(tx: Tx) -> list[str]:
            repository = self._shelf.repository(tx, place.name)
            found = registry_rows.list_tags(tx, repository, after=last, limit=None if limit is None else limit + 1)
            return [tag.name for tag in found]

        found = await self._shelf.read(work)
        return _page(f"/v2/{place.name}/tags/list", {"name": place.name}, "tags", found, limit)

    async def catalog(self, request: HttpRequest) -> HttpResponse:
        limit, last = _paging(request)
        most = _PAGE if limit is None else limit

        def work(tx: Tx) -> list[str]:
            found = registry_rows.list_repositories(tx, self._shelf.account, after=last, limit=most + 1)
            return [repository.name for repository in found]

        return _page("/v2/_catalog", {}, "repositories", await self._shelf.read(work), most)

    async def referrers(self, place: Place, request: HttpRequest) -> HttpResponse:
        """Everything that says it is about the given digest."""

        def work(tx: Tx) -> list[Manifest]:
            return registry_rows.list_referrers(tx, self._shelf.repository(tx, place.name), place.reference)

        found = await self._shelf.read(work)
        headers = Headers([VERSION, ("content-type", OCI_INDEX)])
        if wanted := query(request).get("artifactType"):
            found = [each for each in found if each.artifact_type == wanted]
            headers.add("oci-filters-applied", "artifactType")
        listed = [_descriptor(each) for each in found]
        return HttpResponse(
            200, headers, orjson.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed})
        )


def _descriptor(manifest: Manifest) -> dict[str, Any]:
    described: dict[str, Any] = {
        "mediaType": manifest.media_type,
        "digest": manifest.digest,
        "size": len(manifest.content),
    }
    if manifest.artifact_type:
        described["artifactType"] = manifest.artifact_type
    if annotations := parse(manifest.content, manifest.media_type).annotations:
        described["annotations"] = annotations
    return described


def _paging(request: HttpRequest) -> tuple[int | None, str]:
    asked = query(request)
    number = asked.get("n")
    if number is not None and not (number.isascii() and number.isdigit() and len(number) < 10):
        raise RegistryFault(
            "PAGINATION_NUMBER_INVALID", "n must be a number that is not negative.", detail={"n": number}
        )
    return (None if number is None else int(number)), asked.get("last", "")


def _page(path: str, document: dict[str, Any], member: str, found: Sequence[str], limit: int | None) -> HttpResponse:
    """`found` has one more than `limit` when there is a further page."""
    listed = list(found if limit is None else found[:limit])
    headers = Headers([VERSION, ("content-type", "application/json")])
    if limit and len(found) > limit:
        headers.add("link", f'<{path}?{urlencode({"last": listed[-1], "n": limit})}>; rel="next"')
    return HttpResponse(200, headers, orjson.dumps(document | {member: listed}))


async def _whole(request: HttpRequest) -> bytes:
    if request.body is not None:
        return request.body
    pieces, size = [], 0
    if request.stream is not None:
        async for piece in request.stream:
            size += len(piece)
            if size > LARGEST:
                raise RegistryFault("SIZE_INVALID", f"A manifest has at most {LARGEST} bytes.")
            pieces.append(piece)
    return b"".join(pieces)
