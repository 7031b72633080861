"""Manifests: objects under one prefix, listed by name, as training channels and batch transform take them.

    s3://b/list.json: [{"prefix": "s3://b/data/"}, "a.csv", "deep/b.csv"]  →  s3://b/data/a.csv, s3://b/data/deep/b.csv

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_S3DataSource.html.
Owns: reading one, finding objects by their keys. Does not own: what an object becomes (`staging.channels`,
`batch.inputs`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import takewhile
from typing import Any, BinaryIO, Final, NamedTuple, Protocol, TypeVar

from sagewright.core.errors import NotFound, TransferError
from sagewright.core.s3_uris import split_uri

LARGEST: Final = 256 << 20  # bytes; it is read as a whole
_FORM: Final = '[{"prefix": "s3://BUCKET/FOLDER/"}, "FILE", "FILE", …]'


class StoredObject(Protocol):
    @property
    def key(self) -> str: ...


Found = TypeVar("Found", bound=StoredObject)
_Found_co = TypeVar("_Found_co", bound=StoredObject, covariant=True)


class Bucket(Protocol[_Found_co]):
    """The object store, as far as it is used here."""

    def list(self, bucket: str, prefix: str) -> Iterable[_Found_co]: ...

    def open(self, bucket: str, key: str) -> BinaryIO: ...


class Manifest(NamedTuple):
    """`names`: key → the name that the manifest gives it, in the manifest's order."""

    prefix: str  # s3://BUCKET/FOLDER/
    bucket: str
    names: dict[str, str]


def read_manifest(uri: str, where: str, objects: Bucket[Any]) -> Manifest:
    """Raises TransferError, whose sentence begins with `where`: it is not there, too large, or has another form."""
    listed = _load(*split_uri(uri), where, objects)
    head = listed[0] if isinstance(listed, list) and listed else None
    prefix = head.get("prefix") if isinstance(head, dict) else None
    if not isinstance(prefix, str) or not prefix.startswith("s3://"):
        raise TransferError(f"{where} does not begin with a prefix. It has to be {_FORM}")
    names = listed[1:]
    for name in names:
        if not isinstance(name, str) or not name:
            raise TransferError(f"{where} has the entry {json.dumps(name)}, which is no text. It has to be {_FORM}")
    if not names:
        raise TransferError(f"{where} lists no objects. It has to be {_FORM}")
    bucket, folder = split_uri(prefix)
    return Manifest(prefix, bucket, {f"{folder}{name}": name for name in names})


def objects_of(manifest: Manifest, where: str, objects: Bucket[Found]) -> dict[str, Found]:
    """Key → object. Raises TransferError when one of them does not exist."""
    found = find_objects(manifest.names, manifest.bucket, objects)
    missing = [key for key in manifest.names if key not in found]
    if missing:
        raise TransferError(
            f"{where} lists {len(missing)} objects that do not exist, the first of them "
            f"s3://{manifest.bucket}/{missing[0]}. Upload them, or take them out of the manifest."
        )
    return found


def find_objects(wanted: Iterable[str], bucket: str, objects: Bucket[Found]) -> dict[str, Found]:
    """Those of the keys that exist. One listing of what all of them begin with, however many they are."""
    keys = frozenset(wanted)
    pairs = zip(min(keys), max(keys), strict=False)
    common = "".join(one for one, other in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return {each.key: each for each in objects.list(bucket, common) if each.key in keys}


def _load(bucket: str, key: str, where: str, objects: Bucket[Any]) -> Any:
    try:
        with objects.open(bucket, key) as content:
            text = content.read(LARGEST + 1)
    except NotFound:
        raise TransferError(f"{where} does not exist. Give the S3Uri of the manifest object itself.") from None
    if len(text) > LARGEST:
        raise TransferError(f"{where} is larger than {LARGEST >> 20} MiB. Split it.")
    try:
        return json.loads(text)
    except ValueError as error:
        raise TransferError(f"{where} is not JSON ({error}). It has to be {_FORM}") from error
