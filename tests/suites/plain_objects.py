"""An object store for staging tests: objects are files of one folder, written whole at their commit."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Self

from sagewright.core.errors import BlobStoreFull, NotFound
from sagewright.core.ids import Account


@dataclass(frozen=True)
class PlainObject:
    key: str
    size: int
    content_path: Path

    @property
    def etag(self) -> str:
        return self.content_path.name  # each content has a file of its own


class PlainWriter:
    """A blob writer: nothing is visible before `commit`, nothing is left after `cancel`."""

    def __init__(self, path: Path, publish: Callable[[Path], None]) -> None:
        self._path = path
        self._file = path.open("wb")
        self._publish = publish
        self._done = False
        self.size = 0

    def write(self, data: bytes | bytearray | memoryview) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise BlobStoreFull(str(error)) if error.errno == errno.ENOSPC else error from error
        self.size += len(data)

    def commit(self) -> None:
        self._file.close()
        self._done = True
        self._publish(self._path)

    def cancel(self) -> None:
        if not self._done:
            self._done = True
            self._file.close()
            self._path.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.cancel()


class PlainObjects:
    """Satisfies `staging.source.ObjectStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True)
        self.buckets: dict[str, dict[str, PlainObject]] = {}
        self.listed: Callable[[], None] = lambda: None

    def create_bucket(self, bucket: str) -> None:
        self.buckets.setdefault(bucket, {})

    def put(self, bucket: str, key: str, content: bytes = b"") -> None:
        path = self._folder / secrets.token_hex(8)
        path.write_bytes(content)
        old = self.buckets[bucket].get(key)
        self.buckets[bucket][key] = PlainObject(key, len(content), path)
        if old:
            old.content_path.unlink()

    def delete(self, bucket: str, key: str) -> None:
        if found := self.buckets[bucket].pop(key, None):
            found.content_path.unlink()

    def read(self, bucket: str, key: str) -> bytes:
        return self.buckets[bucket][key].content_path.read_bytes()

    def keys(self, bucket: str) -> list[str]:
        return sorted(self.buckets[bucket])

    def leftovers(self) -> int:
        """Files that belong to no object."""
        known = {each.content_path for bucket in self.buckets.values() for each in bucket.values()}
        return len(set(self._folder.iterdir()) - known)

    def bucket_exists(self, bucket: str, account: Account | None = None) -> bool:
        return bucket in self.buckets

    def open(self, bucket: str, key: str) -> BinaryIO:
        if key not in self.buckets.get(bucket, {}):
            raise NotFound(f"s3://{bucket}/{key} does not exist")
        return self.buckets[bucket][key].content_path.open("rb")

    def list(self, bucket: str, prefix: str) -> Iterable[PlainObject]:
        if bucket not in self.buckets:
            raise NotFound(f"bucket {bucket} does not exist")
        found = [self.buckets[bucket][key] for key in self.keys(bucket) if key.startswith(prefix)]
        self.listed()
        return found

    def batch(self) -> PlainBatch:
        return PlainBatch(self)

    def put_stream(self, bucket: str, key: str, content_type: str) -> PlainWriter:
        def publish(path: Path) -> None:
            self.buckets[bucket][key] = PlainObject(key, path.stat().st_size, path)

        return PlainWriter(self._folder / secrets.token_hex(8), publish)


class PlainBatch:
    """Objects that appear together."""

    def __init__(self, objects: PlainObjects) -> None:
        self._objects = objects
        self._held: list[PlainWriter] = []

    def put_stream(self, bucket: str, key: str, content_type: str) -> PlainBatchedWriter:
        return PlainBatchedWriter(self._objects.put_stream(bucket, key, content_type), self._held.append)

    def publish(self) -> None:
        for each in self._held:
            each.commit()
        self._held.clear()

    def cancel(self) -> None:
        for each in self._held:
            each.cancel()
        self._held.clear()


class PlainBatchedWriter:
    def __init__(self, writer: PlainWriter, hold: Callable[[PlainWriter], None]) -> None:
        self._writer = writer
        self._hold = hold
        self._held = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._writer.write(data)

    def commit(self) -> None:
        self._held = True
        self._hold(self._writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if not self._held:
            self._writer.cancel()
