"""Which objects a job reads, and what each becomes (contract C.5). Changes nothing.

s3://b/in/  in/dataset01/data.csv   -> OUT/dataset01/data.csv.out
s3://b/in   in/dataset01/data.csv   -> OUT/dataset01/data.csv.out    the prefix names the folder
s3://b/in/d in/dataset01/data.csv   -> OUT/dataset01/data.csv.out    it is cut at its last slash
manifest    its suffix              -> OUT/suffix.out
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

from sagewright.core.errors import NotFound, TransferError
from sagewright.core.s3_uris import split_uri
from sagewright.workloads.manifests import objects_of, read_manifest


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
        yield from _listed(source["S3Uri"], folder, objects)
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


def _listed(uri: str, folder: str, objects: ObjectStore) -> Iterator[Item]:
    where = f"ClientError: The manifest {uri}"
    manifest = read_manifest(uri, where, objects)
    found = objects_of(manifest, where, objects)
    for key in sorted(found):
        yield Item(manifest.bucket, key, found[key].size, _target(folder, manifest.names[key]))
