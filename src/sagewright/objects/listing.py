"""ListObjects, ListObjectsV2, ListObjectVersions.

Owns: markers and tokens, url encoding, what a listing shows of an object. Does not own: order, prefixes and delimiters
(`store.object_rows.list_page`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from sagewright.core.context import Ctx
from sagewright.objects.access import Params, bucket_of
from sagewright.objects.attributes import STANDARD, quoted
from sagewright.objects.faults import invalid_argument
from sagewright.objects.names import owner
from sagewright.objects.storage import Storage
from sagewright.objects.tokens import seal, unseal
from sagewright.store import object_rows
from sagewright.store.object_rows import Bucket, ListPage, ObjectRow
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call

MAX_KEYS: Final = 1000

Encode = Callable[[str], str]


async def list_objects(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    """Version 1: Marker and NextMarker are keys; NextMarker is given only with a delimiter, as on AWS."""
    params, encode = call.params, encoding(call.params)
    after = params.get("Marker") or ""
    bucket, page = await _page(storage, ctx, params, after)
    result = _common(params, encode, page) | {"Marker": encode(after)}
    result["Contents"] = [_listed(row, encode) | {"Owner": owner(bucket.account)} for row in page.objects]
    if page.next is not None and params.get("Delimiter"):
        result["NextMarker"] = encode(page.next)
    return result


async def list_objects_v2(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params, encode = call.params, encoding(call.params)
    token, start_after = params.get("ContinuationToken"), params.get("StartAfter")
    after = unseal(token) if token is not None else start_after or ""
    bucket, page = await _page(storage, ctx, params, after)
    shown: Mapping[str, Any] = {"Owner": owner(bucket.account)} if params.get("FetchOwner") else {}
    result = _common(params, encode, page)
    result["Contents"] = [{**_listed(row, encode), **shown} for row in page.objects]
    result["KeyCount"] = len(page.objects) + len(page.prefixes)
    if token is not None:
        result["ContinuationToken"] = token
    if start_after is not None:
        result["StartAfter"] = encode(start_after)
    if page.next is not None:
        result["NextContinuationToken"] = seal(page.next)
    return result


async def list_object_versions(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    """Nothing is versioned: every object is its only version, `null`."""
    params, encode = call.params, encoding(call.params)
    after = params.get("KeyMarker") or ""
    if params.get("VersionIdMarker") and not after:
        message = "A version-id marker cannot be specified without a key marker."
        raise invalid_argument(message, "version-id-marker", params["VersionIdMarker"])
    bucket, page = await _page(storage, ctx, params, after)
    result = _common(params, encode, page)
    result |= {"KeyMarker": encode(after), "VersionIdMarker": params.get("VersionIdMarker") or ""}
    version = {"VersionId": "null", "IsLatest": True, "Owner": owner(bucket.account)}
    result["Versions"] = [_listed(row, encode) | version for row in page.objects]
    if page.next is not None:
        result |= {"NextKeyMarker": encode(page.next), "NextVersionIdMarker": "null"}
    return result


def encoding(params: Params) -> Encode:
    """How keys are written: as they are, or URL-encoded. Raises InvalidArgument."""
    asked = params.get("EncodingType")
    if asked not in (None, "url"):
        raise invalid_argument("Invalid Encoding Method specified in Request", "encoding-type", asked)
    return _url if asked else _plain


def page_size(params: Params, member: str, name: str) -> int:
    """Raises InvalidArgument. More than 1000 are never given."""
    asked = params.get(member)
    if asked is None:
        return MAX_KEYS
    if asked < 0:
        raise invalid_argument(f"Argument {name} must be an integer between 0 and 2147483647", name, asked)
    return min(int(asked), MAX_KEYS)


async def _page(storage: Storage, ctx: Ctx, params: Params, after: str) -> tuple[Bucket, ListPage]:
    limit = page_size(params, "MaxKeys", "max-keys")

    def work(tx: Tx) -> tuple[Bucket, ListPage]:
        bucket = bucket_of(tx, ctx, params)
        if limit == 0:
            return bucket, ListPage((), (), None)
        prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
        return bucket, object_rows.list_page(tx, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    return await storage.read(work)


def _common(params: Params, encode: Encode, page: ListPage) -> dict[str, Any]:
    result: dict[str, Any] = {
        "Name": params["Bucket"],
        "Prefix": encode(params.get("Prefix") or ""),
        "MaxKeys": page_size(params, "MaxKeys", "max-keys"),
        "IsTruncated": page.next is not None,
        "CommonPrefixes": [{"Prefix": encode(prefix)} for prefix in page.prefixes],
    }
    if params.get("Delimiter"):
        result["Delimiter"] = encode(params["Delimiter"])
    if params.get("EncodingType"):
        result["EncodingType"] = params["EncodingType"]
    return result


def _listed(row: ObjectRow, encode: Encode) -> dict[str, Any]:
    listed: dict[str, Any] = {
        "Key": encode(row.key),
        "LastModified": row.modified_at,
        "ETag": quoted(row.etag),
        "Size": row.size,
        "StorageClass": row.attributes.get("storage_class", STANDARD),
    }
    if checksums := row.attributes.get("checksums"):
        listed["ChecksumAlgorithm"] = list(checksums)
        listed["ChecksumType"] = row.attributes.get("checksum_type", "FULL_OBJECT")
    return listed


def _plain(text: str) -> str:
    return text


def _url(text: str) -> str:
    """Every octet but letters, digits and `-_.~/`. A space is %20, which all clients read as a space."""
    return quote(text, safe="/")
