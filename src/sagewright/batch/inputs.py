"""Which objects a job reads, and what each becomes (contract C.5). Changes nothing.

s3://b/in/  in/dataset01/data.csv   -> OUT/dataset01/data.csv.out
s3://b/in   in/dataset01/data.csv   -> OUT/dataset01/data.csv.out    the prefix names the folder
s3://b/in/d in/dataset01/data.csv   -> OUT/dataset01/data.csv.out    it is cut at its last slash
manifest    its suffix              -> OUT/suffix.out
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import orjson

from sagewright.core.errors import NotFound, TransferError

_LONGEST_MANIFEST = 64 << 20  # bytes


class StoredObject(Protocol):
    @property
    def key(self) -> str: ...

    @property
    def size(self) -> int: ...


class ObjectWriter(Protocol):
    """The object appears whole at `commit`, or never."""

    def write(self, data: bytes) -> None: ...

    def commit(self) -> None: ...

    def cancel(self) -> None: ...


class ObjectStore(Protocol):
    """`objects.local.LocalObjects`, as far as it is used here."""

    def list(self, bucket: str, prefix: str) -> Iterable[StoredObject]: ...

    def open(self, bucket: str, key: str) -> BinaryIO: ...

    def put_stream(self, bucket: str, key: str, content_type: str) -> ObjectWriter: ...


class Item(NamedTuple):
    """One object to do. `target` is the key of its output in the output's bucket."""

    bucket: str
    key: str
    size: int
    target: str

    @classmethod
    def of(cls, row: Iterable[Any]) -> Self:
        return cls(*row)


def split_uri(uri: str) -> tuple[str, str]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


def items(request: Mapping[str, Any], objects: ObjectStore) -> Iterator[Item]:
    """What the job does, in the order of keys. Raises TransferError when that is nothing, or a manifest cannot be read,
    or the bucket has gone."""
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    found = False
    try:
        for item in _items(request, objects):
            found = True
            yield item
    except NotFound as error:
        raise TransferError(f"ClientError: {source['S3Uri']} cannot be listed: {error}.") from None
    if not found:
        raise TransferError(f"ClientError: No S3 objects found under S3 URL {source['S3Uri']}. Check the prefix.")


def _items(request: Mapping[str, Any], objects: ObjectStore) -> Iterator[Item]:
    source = request["TransformInput"]["DataSource"]["S3DataSource"]
    _, folder = split_uri(request["TransformOutput"]["S3OutputPath"].rstrip("/"))
    bucket, prefix = split_uri(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        yield from _listed(bucket, prefix, folder, objects)
        return
    for each in objects.list(bucket, prefix):
        if each.key.endswith("/") and not each.size:
            continue  # a folder, as consoles make them
        yield Item(bucket, each.key, each.size, _target(folder, _relative(each.key, prefix)))


def _relative(key: str, prefix: str) -> str:
    if prefix and not prefix.endswith("/") and key.startswith(prefix + "/"):
        return key[len(prefix) + 1 :]
    return key[prefix.rfind("/") + 1 :]


def _target(folder: str, relative: str) -> str:
    return f"{folder}/{relative}.out" if folder else f"{relative}.out"


def _listed(bucket: str, key: str, folder: str, objects: ObjectStore) -> Iterator[Item]:
    """A manifest: [{"prefix": "s3://b/p/"}, "a.csv", ...]."""
    where = f"The manifest s3://{bucket}/{key}"
    try:
        with objects.open(bucket, key) as file:
            text = file.read(_LONGEST_MANIFEST + 1)
    except NotFound:
        raise TransferError(f"ClientError: {where} does not exist. Upload it, or correct S3Uri.") from None
    if len(text) > _LONGEST_MANIFEST:
        raise TransferError(f"ClientError: {where} is larger than 64 MiB. Use S3Prefix, or several jobs.")
    try:
        head, *names = orjson.loads(text)
        start = head["prefix"]
        if not str(start).startswith("s3://") or not all(isinstance(name, str) for name in names):
            raise TypeError
    except (ValueError, KeyError, TypeError):
        form = '[{"prefix": "s3://BUCKET/PREFIX/"}, "a.csv", "b.csv"]'
        raise TransferError(f"ClientError: {where} cannot be read. Write it as {form}.") from None
    source, prefix = split_uri(start)
    for name in sorted(set(names)):
        size = next((each.size for each in objects.list(source, prefix + name) if each.key == prefix + name), None)
        if size is None:
            raise TransferError(f"ClientError: {where} names s3://{source}/{prefix}{name}, which does not exist.")
        yield Item(source, prefix + name, size, _target(folder, name))
