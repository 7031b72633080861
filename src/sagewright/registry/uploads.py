"""Blobs on their way in: begin, append, ask how far, finish, cancel, mount.

    POST ──► row ──PATCH…──► file grows, hash keeps up ──PUT?digest=──► verify, fsync, one transaction: blob, link

Owns: these steps and their order. Does not own: bytes on the disk (`registry.files`), rows (`store.registry_blobs`).

The hash goes along with the bytes in the process that takes them; when the next request of an upload meets another
process, or this one after a restart, or the digest is a sha512, the file is read once more at the end. Either way what
is kept was verified.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import uuid
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from sagewright.core.image_manifests import SHA256, algorithm_of, is_digest
from sagewright.registry.faults import VERSION, RegistryFault, digest_invalid, upload_unknown
from sagewright.registry.files import Growing
from sagewright.registry.routes import Place, query
from sagewright.registry.threads import in_thread
from sagewright.registry.work import Shelf
from sagewright.store import registry_blobs, registry_rows
from sagewright.store.resources import Tx
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

BATCH: Final = 1024 * 1024
"""Bytes gathered before a thread is troubled."""
_REMEMBERED: Final = 512  # hashes of uploads under way
_PATIENCE: Final = 5.0  # seconds for an earlier request of the same upload to let go
_RANGE: Final = re.compile(r"(?:bytes[ =])?(\d+)-(\d+)(?:/.*)?")


@dataclass(slots=True)
class _Hashed:
    """The hash over the first `size` bytes."""

    hash: hashlib._Hash
    size: int


class Uploads:
    """One object per process."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._hashes: OrderedDict[str, _Hashed] = OrderedDict()

    async def begin(self, place: Place, request: HttpRequest) -> HttpResponse:
        """POST: a mount, a whole blob at once, or the begin of an upload."""
        asked = query(request)
        if "mount" in asked and await self._mount(place.name, asked["mount"], asked.get("from")):
            return created(place.name, asked["mount"])
        if "digest" in asked:
            _check_digest(asked["digest"])
        upload = str(uuid.uuid4())
        now = self._shelf.clock.now()

        def work(tx: Tx) -> None:
            registry_blobs.begin_upload(tx, self._shelf.repository(tx, place.name), upload, now=now)

        await self._shelf.write(work)
        begun = Place("upload", place.name, upload)
        if "digest" in asked:
            return await self.finish(begun, request)
        return self._progress(begun, 202, 0)

    async def append(self, place: Place, request: HttpRequest) -> HttpResponse:
        """PATCH: the next bytes."""
        await self._must_be_under_way(place)
        growing = await self._open(place)
        try:
            self._check_range(place, request, growing)
            await self._receive(place.reference, request, growing)
            return self._progress(place, 202, growing.size)
        finally:
            growing.close()

    async def finish(self, place: Place, request: HttpRequest) -> HttpResponse:
        """PUT: the last bytes, if any, and the digest of all of them."""
        digest = query(request).get("digest") or ""
        _check_digest(digest)
        await self._must_be_under_way(place)
        growing = await self._open(place)
        try:
            self._check_range(place, request, growing)
            await self._receive(place.reference, request, growing)
            spare = await in_thread(lambda: self._keep(place, digest, growing))
        finally:
            growing.close()
        self._hashes.pop(place.reference, None)
        if spare is not None:
            await in_thread(lambda: self._shelf.files.remove(spare))
        return created(place.name, digest)

    async def progress(self, place: Place) -> HttpResponse:
        """GET: how far it is."""
        await self._must_be_under_way(place)
        return self._progress(place, 204, self._shelf.files.size(place.reference))

    async def cancel(self, place: Place) -> HttpResponse:
        """DELETE."""
        await self._must_be_under_way(place)
        await self._shelf.write(lambda tx: registry_blobs.end_upload(tx, place.reference))
        await in_thread(lambda: self._shelf.files.remove(place.reference))
        self._hashes.pop(place.reference, None)
        return HttpResponse(204, Headers([VERSION]))

    async def _mount(self, name: str, digest: str, source: str | None) -> bool:
        """Whether the blob could be linked from another repository. When it cannot, it is uploaded instead."""
        if source is None or not is_digest(digest):
            return False
        now = self._shelf.clock.now()

        def work(tx: Tx) -> bool:
            repository = self._shelf.repository(tx, name)
            other = registry_rows.find_repository(tx, self._shelf.account, source)
            found = registry_blobs.find(tx, other, digest) if other else None
            if found is None or not self._shelf.files.exists(found.file):
                return False
            registry_blobs.link(tx, repository, digest, now=now)
            return True

        return await self._shelf.write(work)

    async def _must_be_under_way(self, place: Place) -> None:
        def work(tx: Tx) -> bool:
            return registry_blobs.has_upload(tx, self._shelf.repository(tx, place.name), place.reference)

        if not await self._shelf.read(work):
            raise upload_unknown(place.reference)

    async def _open(self, place: Place) -> Growing:
        """A client that lost its connection and comes back may meet its own earlier request: wait for that to end."""
        files, loop = self._shelf.files, asyncio.get_running_loop()
        deadline = loop.time() + _PATIENCE
        while (growing := await in_thread(lambda: files.append(place.reference))) is None:
            if loop.time() > deadline:
                sentence = "Another request is writing to this upload. Ask for its progress and go on from there."
                raise RegistryFault("BLOB_UPLOAD_INVALID", sentence)
            await asyncio.sleep(0.05)
        return growing

    def _check_range(self, place: Place, request: HttpRequest, growing: Growing) -> None:
        """Content-Range must go on where the upload stands, and fit the length."""
        given = request.headers.get("content-range")
        if given is None:
            return
        found = _RANGE.fullmatch(given.strip())
        if found is None:
            raise RegistryFault("BLOB_UPLOAD_INVALID", "Content-Range must have the form START-END.")
        start, end = int(found[1]), int(found[2])
        if start != growing.size:
            sentence = f"The upload has {growing.size} bytes; a chunk that begins at byte {start} does not follow them."
            raise RegistryFault("RANGE_INVALID", sentence, headers=_where(place, growing.size))
        length = request.headers.get("content-length")
        if length is not None and length.isdigit() and int(length) != end - start + 1:
            sentence = f"Content-Range means {end - start + 1} bytes, Content-Length says {length}."
            raise RegistryFault("SIZE_INVALID", sentence)

    async def _receive(self, upload: str, request: HttpRequest, growing: Growing) -> None:
        """Write and hash the body. What came before a client left is kept: it may come back for the rest."""
        known = self._hashes.get(upload)
        hashed = known if known is not None and known.size == growing.size else None
        if hashed is None and growing.size == 0:
            hashed = _Hashed(hashlib.sha256(), 0)

        def take(pieces: list[bytes]) -> None:
            data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            growing.write(data)
            if hashed is not None:
                hashed.hash.update(data)
                hashed.size = growing.size

        try:
            await _pour(_body(request), take)
        finally:
            if hashed is not None:
                self._hashes[upload] = hashed
                self._hashes.move_to_end(upload)
                while len(self._hashes) > _REMEMBERED:
                    self._hashes.popitem(last=False)

    def _keep(self, place: Place, digest: str, growing: Growing) -> str | None:
        """Verify and publish, in a thread. Returns the file that is not needed, if there is one."""
        hashed, algorithm = self._hashes.get(place.reference), algorithm_of(digest)
        along = hashed.hash if hashed is not None and hashed.size == growing.size and algorithm == SHA256 else None
        actual = f"{algorithm}:{(along or growing.hash(algorithm)).hexdigest()}"
        if actual != digest:
            self._shelf.store.write(lambda tx: registry_blobs.end_upload(tx, place.reference))
            self._shelf.files.remove(place.reference)
            raise digest_invalid(digest, actual)
        growing.make_durable()
        now = self._shelf.clock.now()

        def work(tx: Tx) -> str | None:
            repository = self._shelf.repository(tx, place.name)
            if not registry_blobs.end_upload(tx, place.reference):
                raise upload_unknown(place.reference)
            spare: str | None = None
            there = registry_blobs.file_of(tx, digest)
            if there is None:
                registry_blobs.insert_blob(tx, digest, place.reference, growing.size)
            elif self._shelf.files.exists(there):
                spare = place.reference
            else:
                registry_blobs.move_blob(tx, digest, place.reference, growing.size)
            registry_blobs.link(tx, repository, digest, now=now)
            return spare

        return self._shelf.store.write(work)

    def _progress(self, place: Place, status: int, size: int) -> HttpResponse:
        headers = Headers([VERSION, *_where(place, size), ("content-length", "0")])
        if status == 204:
            headers = Headers([VERSION, *_where(place, size)])
        return HttpResponse(status, headers)


def created(name: str, digest: str) -> HttpResponse:
    """The answer to what made a blob readable in a repository."""
    headers = [VERSION, ("location", f"/v2/{name}/blobs/{digest}"), ("docker-content-digest", digest)]
    return HttpResponse(201, Headers(headers))


def _where(place: Place, size: int) -> tuple[tuple[str, str], ...]:
    return (
        ("location", f"/v2/{place.name}/blobs/uploads/{place.reference}"),
        ("range", f"0-{max(size - 1, 0)}"),
        ("docker-upload-uuid", place.reference),
    )


def _check_digest(digest: str) -> None:
    if not is_digest(digest):
        raise digest_invalid(digest)


async def _body(request: HttpRequest) -> AsyncIterator[bytes]:
    if request.body is not None:
        if request.body:
            yield request.body
    elif request.stream is not None:
        async for piece in request.stream:
            yield piece


async def _pour(body: AsyncIterator[bytes], take: Callable[[list[bytes]], None]) -> None:
    """Hand the body to `take` in a thread, a batch at a time, while the next one is gathered. When the body breaks
    off, what had come is still taken."""
    flight: asyncio.Future[None] | None = None
    gathered: list[bytes] = []
    size = 0
    try:
        async for piece in body:
            gathered.append(piece)
            size += len(piece)
            if size >= BATCH:
                if flight is not None:
                    await asyncio.shield(flight)
                batch, gathered, size = gathered, [], 0
                flight = asyncio.ensure_future(in_thread(partial(take, batch)))
    except BaseException:
        failed = flight is not None and _failed(flight)
        await asyncio.shield(_last(None if failed else flight, [] if failed else gathered, take))
        raise
    await asyncio.shield(_last(flight, gathered, take))


async def _last(
    flight: asyncio.Future[None] | None, gathered: list[bytes], take: Callable[[list[bytes]], None]
) -> None:
    """A thread cannot be stopped: the file must not be closed before it has ended."""
    if flight is not None:
        await flight
    if gathered:
        await in_thread(lambda: take(gathered))


def _failed(flight: asyncio.Future[None]) -> bool:
    return flight.done() and (flight.cancelled() or flight.exception() is not None)
