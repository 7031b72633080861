"""Objects for code that runs beside the store: the stager in the controller process. Synchronous; no HTTP.

Owns: listing, reading and writing objects in one process with the rows and files. Does not own: S3's requests
(`objects.api`); who may do what (the stager acts for a job that was allowed its role when it was created).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final, Self

from sagewright.blobs.base import BlobStore
from sagewright.core.clock import Clock, SystemClock
from sagewright.core.errors import BlobNotFound, NotFound, TransferError
from sagewright.core.ids import Account
from sagewright.objects.content import ContentWriter, content_path, publish_together, remove_contents
from sagewright.objects.names import MAX_KEY
from sagewright.store import object_rows
from sagewright.store.object_rows import Bucket, ObjectRow
from sagewright.store.resources import Store, Tx

PAGE: Final = 1000
ATTEMPTS: Final = 8
"""How often `open` looks again when the object was replaced between row and file."""

TOGETHER: Final = 1800.0
"""Seconds that the objects of one batch may wait for each other, then those that are written are published. It is well
below the age at which content that no row names is swept."""


@dataclass(frozen=True, slots=True)
class StoredObject:
    """`content_path` is the file with the bytes when it lies on this machine. It never changes, so it may be
    hard-linked, never written to; it is gone once the object is overwritten or deleted."""

    key: str
    size: int  # bytes
    etag: str  # without quotes
    content_path: Path | None


class LocalObjects:
    """Errors: NotFound (bucket or key), TransferError (impossible key), StoreUnavailable, BlobStoreFull."""

    def __init__(self, store: Store, blobs: BlobStore, clock: Clock | None = None) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock or SystemClock()

    def bucket_exists(self, bucket: str, account: Account | None = None) -> bool:
        """Whether there is such a bucket, of `account` if one is given."""
        found = self._store.read(lambda tx: object_rows.find_bucket(tx, bucket))
        return found is not None and account in (None, found.account)

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """Every object whose key starts with `prefix`, in key order, page by page: not one frozen state."""
        after: str | None = ""
        while after is not None:
            page = self._store.read(partial(_page, bucket, prefix, after))
            for row in page.objects:
                path = self._blobs.local_path(content_path(row.content_id))
                yield StoredObject(row.key, row.size, row.etag, path)
            after = page.next

    def open(self, bucket: str, key: str) -> BinaryIO:
        """The whole object as it is now; overwriting or deleting it does not disturb the reader."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._open(bucket, key)
            except BlobNotFound:
                continue  # overwritten or deleted since the row was read: the row says by now which
        return self._open(bucket, key)

    def put_stream(self, bucket: str, key: str, content_type: str = "binary/octet-stream") -> ObjectWriter:
        """A new object. Nothing is visible before `commit`; leaving the `with` block without it leaves nothing."""
        if len(key.encode()) > MAX_KEY:
            raise TransferError(f"The key s3://{bucket}/{key} is longer than {MAX_KEY} bytes: shorten the output path.")
        self._store.read(lambda tx: _existing(tx, bucket))
        content = ContentWriter(self._store, self._blobs)
        return ObjectWriter(content, self._blobs, self._clock, (bucket, key), content_type)

    def batch(self) -> ObjectBatch:
        """Objects that are to appear together."""
        return ObjectBatch(self, self._store, self._blobs)

    def delete(self, bucket: str, key: str) -> None:
        """Deleting what is not there is success. Raises NotFound when the bucket is not there."""
        remove_contents(self._blobs, self._store.write(lambda tx: _removed(tx, bucket, key)))

    def _open(self, bucket: str, key: str) -> BinaryIO:
        _, row = self._store.read(lambda tx: (_existing(tx, bucket), object_rows.find(tx, bucket, key)[1]))
        if row is None:
            raise NotFound(f"s3://{bucket}/{key} does not exist")
        return self._blobs.open_read(content_path(row.content_id))


class ObjectWriter:
    """One object being written; `etag` is known once committed."""

    def __init__(
        self, content: ContentWriter, blobs: BlobStore, clock: Clock, name: tuple[str, str], content_type: str
    ) -> None:
        self.content = content
        self._blobs = blobs
        self._clock = clock
        self._bucket, self._key = name
        self._content_type = content_type
        self.etag: str | None = None

    def write(self, data: bytes) -> None:
        """Raises BlobStoreFull."""
        self.content.write(data)

    def commit(self) -> None:
        """Publish: from now on this is the object. Raises NotFound when the bucket was deleted meanwhile."""
        released = self.content.publish(self.place())
        remove_contents(self._blobs, released)

    def place(self) -> Callable[[Tx], list[str]]:
        """What names it; answers with the content that it takes the place of."""
        self.etag = self.content.md5.hex()
        attributes = {"headers": {"ContentType": self._content_type}}
        content = self.content
        row = ObjectRow(self._key, content.content_id, content.size, self.etag, self._clock.now(), attributes)
        return lambda tx: _placed(tx, self._bucket, row)

    def cancel(self) -> None:
        """Leave nothing. Safe to call again, and after `commit` (then it does nothing)."""
        self.content.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()


class ObjectBatch:
    """Objects that appear in one step, at `publish`, or never. Safe to write from several threads."""

    def __init__(self, objects: LocalObjects, store: Store, blobs: BlobStore) -> None:
        self._objects = objects
        self._store = store
        self._blobs = blobs
        self._lock = threading.Lock()
        self._held: list[ObjectWriter] = []
        self._since = 0.0

    def put_stream(self, bucket: str, key: str, content_type: str = "binary/octet-stream") -> BatchedWriter:
        """Once committed it is durable, and no object yet."""
        return BatchedWriter(self._objects.put_stream(bucket, key, content_type), self._hold)

    def publish(self) -> None:
        """Raises NotFound when a bucket was deleted meanwhile; then none of them appears."""
        with self._lock:
            self._publish()

    def cancel(self) -> None:
        """Leave nothing of what was not published. Safe to call again."""
        with self._lock:
            for each in self._held:
                each.cancel()
            self._held.clear()

    def _hold(self, writer: ObjectWriter) -> None:
        with self._lock:
            now = time.monotonic()
            if not self._held:
                self._since = now
            self._held.append(writer)
            if now - self._since > TOGETHER:
                self._publish()

    def _publish(self) -> None:
        places = [each.place() for each in self._held]
        contents = [each.content for each in self._held]
        released = publish_together(self._store, contents, lambda tx: [gone for place in places for gone in place(tx)])
        self._held.clear()
        remove_contents(self._blobs, released)


class BatchedWriter:
    """One object of a batch being written."""

    def __init__(self, writer: ObjectWriter, hold: Callable[[ObjectWriter], None]) -> None:
        self._writer = writer
        self._hold = hold
        self._held = False

    def write(self, data: bytes) -> None:
        """Raises BlobStoreFull."""
        self._writer.write(data)

    def commit(self) -> None:
        self._writer.content.make_durable()
        self._held = True
        self._hold(self._writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._held:
            self._writer.cancel()


def _page(bucket: str, prefix: str, after: str, tx: Tx) -> object_rows.ListPage:
    return object_rows.list_page(tx, _existing(tx, bucket), prefix=prefix, after=after, limit=PAGE)


def _placed(tx: Tx, bucket: str, row: ObjectRow) -> list[str]:
    found = _existing(tx, bucket)
    return object_rows.put(tx, found, row, old=object_rows.get(tx, found, row.key))


def _removed(tx: Tx, bucket: str, key: str) -> list[str]:
    found = _existing(tx, bucket)
    row = object_rows.get(tx, found, key)
    return object_rows.remove(tx, found, [row]) if row else []


def _existing(tx: Tx, bucket: str) -> Bucket:
    found = object_rows.find_bucket(tx, bucket)
    if found is None:
        raise NotFound(f"bucket {bucket} does not exist")
    return found
