"""Content: the bytes of objects and parts under opaque ids, written while they are hashed.

    open ──write──► ... ──publish──► durable ──row commit──► named
      └──────cancel─────────┴──────────┘ no trace

Owns: content ids, the writer, removal, concatenation, reading for a second time.
Does not own: rows (`store.object_rows`), request bodies (`objects.receiving`), checksums (`objects.checksums`).

Content never changes once written. A row is committed only after the content that it names is durable, and content is
removed only after the commit of the transaction that released it: a crash leaves the old object or the new one, and at
worst content that nobody names, which `objects.sweep` finds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, TypeVar

from sagewright.blobs import paths
from sagewright.blobs.base import BlobPath, BlobStore, BlobWriter
from sagewright.core.errors import BlobError, StoreError
from sagewright.objects.checksums import Algorithm, Hasher, encode
from sagewright.objects.faults import entity_too_large
from sagewright.store import object_rows
from sagewright.store.resources import Store, Tx

T = TypeVar("T")

MAX_UPLOAD: Final = 5 * 1024**3
"""Bytes of one PutObject or UploadPart, as on AWS."""

CHUNK: Final = 1024 * 1024
"""Bytes that are read, hashed and written at a time."""


def content_path(content_id: str) -> BlobPath:
    return paths.object_content(content_id)


def content_folder() -> BlobPath:
    """The folder of all content."""
    return BlobPath(paths.object_content("00").partition("/")[0])


class ContentWriter:
    """New content. Blocking; one caller at a time.

    Nothing is opened before the first write, so a request that is refused early costs nothing.
    """

    def __init__(
        self, store: Store, blobs: BlobStore, algorithms: Iterable[Algorithm] = (), *, most: int | None = None
    ) -> None:
        self.content_id = paths.new_content_id()
        self.size = 0
        self._store = store
        self._blobs = blobs
        self._most = most
        self._blob: BlobWriter | None = None
        self._durable = False
        self._named = False
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._hashers: dict[str, Hasher] = {algorithm.name: algorithm.make() for algorithm in algorithms}

    @property
    def md5(self) -> bytes:
        return self._md5.digest()

    def write(self, data: bytes) -> None:
        """Raises EntityTooLarge, BlobStoreFull."""
        self.size += len(data)
        if self._most is not None and self.size > self._most:
            raise entity_too_large(self.size, self._most)
        self._opened().write(data)
        self._md5.update(data)
        for hasher in self._hashers.values():
            hasher.update(data)

    def append(self, content_id: str) -> None:
        """Add all bytes of another content, unhashed. Raises BlobNotFound."""
        writer = self._opened()
        for chunk in read_content(self._blobs, content_id):
            writer.write(chunk)
            self.size += len(chunk)

    def checksum(self, algorithm: Algorithm) -> str:
        """Base64. Only of an algorithm that was asked for at the start."""
        return encode(self._hashers[algorithm.name].digest())

    def computes(self, algorithm: Algorithm) -> bool:
        return algorithm.name in self._hashers

    def make_durable(self) -> None:
        """Visible to `read_content` from now on, and still nobody's. Safe to call again."""
        if not self._durable:
            self._opened().commit()
            self._durable = True

    def publish(self, work: Callable[[Tx], T]) -> T:
        """Run `work`, which names this content in a row, as one write transaction. Leaves nothing when that fails."""
        return publish_together(self._store, [self], work)

    def cancel(self) -> None:
        """Leave no trace. Does nothing once a row names the content. Safe to call again."""
        if self._blob is not None and not self._named:
            self._blob.cancel()
            self._blobs.delete(content_path(self.content_id))

    def _opened(self) -> BlobWriter:
        if self._blob is None:
            self._blob = self._blobs.open_write(content_path(self.content_id))
        return self._blob

    def note_named(self, *, sure: bool) -> None:
        """A row names it now; unless `sure`, only if the store says so, or cannot be asked."""
        self._named = sure or self._is_named()

    def _is_named(self) -> bool:
        try:
            return bool(self._store.read(lambda tx: object_rows.named(tx, [self.content_id])))
        except StoreError:
            return True


def publish_together(store: Store, contents: Sequence[ContentWriter], work: Callable[[Tx], T]) -> T:
    """Run `work`, which names all of these in rows, as one write transaction. Leaves nothing when that fails."""
    for content in contents:
        content.make_durable()
    outcome: list[T] = []

    def noted(tx: Tx) -> T:
        outcome.append(work(tx))
        return outcome[0]

    try:
        result = store.write(noted)
    except BaseException:
        # Were the rows committed although we were told otherwise (a database server lost just then)? Then the
        # contents must stay. Whoever cannot be asked leaves them to the sweep.
        if outcome:
            for content in contents:
                content.note_named(sure=False)
        raise
    for content in contents:
        content.note_named(sure=True)
    return result


def remove_contents(blobs: BlobStore, released: Iterable[str]) -> None:
    """Remove bytes that no row names, after the commit that said so."""
    for content_id in released:
        with suppress(BlobError, OSError):  # the request has succeeded; what stays behind is found by the sweep
            blobs.delete(content_path(content_id))


def read_content(blobs: BlobStore, content_id: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
    """Chunks of a content. Raises BlobNotFound."""
    with blobs.open_read(content_path(content_id), offset) as file:
        left = length
        while left is None or left > 0:
            chunk = file.read(CHUNK if left is None else min(CHUNK, left))
            if not chunk:
                return
            left = None if left is None else left - len(chunk)
            yield chunk


def checksum_of(blobs: BlobStore, content_id: str, algorithm: Algorithm) -> str:
    """Base64, by reading it all."""
    hasher = algorithm.make()
    for chunk in read_content(blobs, content_id):
        hasher.update(chunk)
    return encode(hasher.digest())
