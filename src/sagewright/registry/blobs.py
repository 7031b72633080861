"""Blobs that are there: HEAD, GET with ranges, DELETE.

Owns: these. Does not own: how they came (`registry.uploads`), when their bytes go (`registry.sweep`).
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

from sagewright.registry.faults import VERSION, RegistryFault, blob_unknown, still_needed
from sagewright.registry.files import FileBody
from sagewright.registry.routes import Place
from sagewright.registry.work import Shelf
from sagewright.store import registry_blobs, registry_rows
from sagewright.store.registry_blobs import Blob
from sagewright.store.resources import Tx
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

RENEW: Final = timedelta(minutes=10)
"""A push that asks for a blob keeps it from the sweep; asking again within this time writes no row."""
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")


class Blobs:
    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    async def head(self, place: Place) -> HttpResponse:
        """What a push asks before it leaves a layer out."""
        blob = await self._find(place)
        now = self._shelf.clock.now()
        if now - blob.used_at > RENEW:
            await self._shelf.write(lambda tx: self._renew(tx, place))
        if not self._shelf.files.exists(blob.file):
            raise blob_unknown(place.reference)  # lost from outside: let it be pushed again
        headers = _headers(blob)
        headers.add("content-length", str(blob.size))
        return HttpResponse(200, headers)

    async def get(self, place: Place, request: HttpRequest) -> HttpResponse:
        blob = await self._find(place)
        span = _span(request.headers.get("range"), blob.size)
        start, length = span or (0, blob.size)
        try:
            descriptor = self._shelf.files.open(blob.file)
        except FileNotFoundError:
            raise blob_unknown(place.reference) from None
        headers = _headers(blob)
        if span is not None:
            headers.add("content-range", f"bytes {start}-{start + length - 1}/{blob.size}")
        return HttpResponse(206 if span else 200, headers, FileBody(descriptor, start, length), length)

    async def delete(self, place: Place) -> HttpResponse:
        """Takes it out of the repository, unless a manifest there needs it; other repositories keep it."""

        def work(tx: Tx) -> bool:
            repository = self._shelf.repository(tx, place.name)
            if holder := registry_rows.holder_of(tx, repository, place.reference):
                raise still_needed(place.reference, holder)
            return registry_blobs.unlink(tx, repository, place.reference)

        if not await self._shelf.write(work):
            raise blob_unknown(place.reference)
        return HttpResponse(202, Headers([VERSION]))

    async def _find(self, place: Place) -> Blob:
        def work(tx: Tx) -> Blob | None:
            return registry_blobs.find(tx, self._shelf.repository(tx, place.name), place.reference)

        found = await self._shelf.read(work)
        if found is None:
            raise blob_unknown(place.reference)
        return found

    def _renew(self, tx: Tx, place: Place) -> None:
        """Raises BLOB_UNKNOWN when a sweep was faster."""
        repository = self._shelf.repository(tx, place.name)
        if registry_blobs.find(tx, repository, place.reference) is None:
            raise blob_unknown(place.reference)
        registry_blobs.link(tx, repository, place.reference, now=self._shelf.clock.now())


def _headers(blob: Blob) -> Headers:
    return Headers(
        [
            VERSION,
            ("content-type", "application/octet-stream"),
            ("docker-content-digest", blob.digest),
            ("etag", f'"{blob.digest}"'),
            ("accept-ranges", "bytes"),
            ("cache-control", "max-age=31536000"),
        ]
    )


def _span(given: str | None, size: int) -> tuple[int, int] | None:
    """Start and length; None for all of it. Several ranges, and other units, are left aside as HTTP allows."""
    found = _RANGE.fullmatch(given.strip()) if given else None
    if found is None or not (found[1] or found[2]):
        return None
    if found[1]:
        start, last = int(found[1]), min(int(found[2]) if found[2] else size - 1, size - 1)
        if found[2] and int(found[2]) < start:
            return None  # not a range at all
    else:
        start, last = max(size - int(found[2]), 0), size - 1
    if start >= size or last < start:
        sentence = f"The blob has {size} bytes; the range {found[0]} holds none of them."
        raise RegistryFault("RANGE_INVALID", sentence, headers=(("content-range", f"bytes */{size}"),))
    return start, last - start + 1
