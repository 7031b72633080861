"""What staging needs of the object store, in its own words. `objects.local.LocalObjects` is the implementation."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from sagewright.core.ids import Account


class StoredObject(Protocol):
    """One object as a listing shows it. `content_path` is the file with its bytes, never written through; None when
    they are not on this machine. `etag` is another one when the content is."""

    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...

    @property
    def etag(self) -> str: ...

    @property
    def content_path(self) -> Path | None: ...


class ObjectWriter(Protocol):
    """The object appears whole at `commit`, or never."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...


class ObjectBatch(Protocol):
    """Objects that appear together. A writer's `commit` makes one durable, `publish` makes all of them objects, in one
    step or not at all."""

    def put_stream(self, bucket: str, key: str, content_type: str) -> ObjectWriter: ...

    def publish(self) -> None: ...

    def cancel(self) -> None:
        """Leave nothing of what was not published. Safe to call again."""
        ...


class ObjectStore(Protocol):
    """Reads and writes objects without HTTP. Synchronous: staging runs in threads.

    Errors: NotFound (bucket or key), StoreUnavailable, BlobStoreFull.
    """

    def bucket_exists(self, bucket: str, account: Account | None = None) -> bool: ...

    def list(self, bucket: str, prefix: str) -> Iterable[StoredObject]:
        """Every object whose key starts with `prefix`, in the order of keys."""
        ...

    def open(self, bucket: str, key: str) -> BinaryIO:
        """The object as it is now."""
        ...

    def put_stream(self, bucket: str, key: str, content_type: str) -> ObjectWriter: ...

    def batch(self) -> ObjectBatch: ...

    def delete(self, bucket: str, key: str) -> None:
        """Deleting an object that is not there is success."""
        ...
