"""Objects: get, head, put, delete, and what they carry.

    get     row and open file in one step ──► conditions ──► range ──► bytes
    put     bucket and conditions ──► body into new content ──► one transaction points the key at it

Owns: the object operations. Does not own: copies (`objects.copy`), uploads in parts (`objects.multipart`), lists
(`objects.listing`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, Final

from sagewright.core.context import Ctx
from sagewright.core.errors import BlobNotFound
from sagewright.objects import tags
from sagewright.objects.access import Params, bucket_and_object, bucket_of, check_version, existing_object
from sagewright.objects.attributes import STANDARD, checksums_of, encryption_of, from_request, members, quoted, shown
from sagewright.objects.body import body_of
from sagewright.objects.conditions import check_delete, check_read, check_write
from sagewright.objects.content import content_path, remove_contents
from sagewright.objects.faults import invalid_request, malformed_xml
from sagewright.objects.names import check_key, full_control
from sagewright.objects.ranges import ByteRange, requested, whole
from sagewright.objects.receiving import Upload
from sagewright.objects.storage import Storage
from sagewright.store import object_rows
from sagewright.store.object_rows import Bucket, ObjectRow
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault

ATTEMPTS: Final = 8
"""How often a read looks again when the object was replaced between row and file."""

_OVERRIDES: Final = {
    "ResponseCacheControl": "CacheControl",
    "ResponseContentDisposition": "ContentDisposition",
    "ResponseContentEncoding": "ContentEncoding",
    "ResponseContentLanguage": "ContentLanguage",
    "ResponseContentType": "ContentType",
    "ResponseExpires": "Expires",
}


async def put_object(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    attributes = from_request(params)
    await storage.read(lambda tx: _check_target(tx, ctx, params))
    upload = Upload(storage, call)

    def finish() -> ObjectRow:
        kept = attributes | ({"checksums": upload.checksums} if upload.checksums else {})
        content = upload.content
        moment = storage.clock.now()
        row = ObjectRow(params["Key"], content.content_id, content.size, content.md5.hex(), moment, kept)
        released = content.publish(lambda tx: place(tx, ctx, params, row))
        remove_contents(storage.blobs, released)
        return row

    row = await upload.receive(finish)
    return {"ETag": quoted(row.etag), **encryption_of(row.attributes), **checksums_of(row.attributes)}


def place(tx: Tx, ctx: Ctx, params: Params, row: ObjectRow) -> list[str]:
    """Point the key at `row`, if the request's conditions hold now. Returns released content."""
    bucket, old = _check_target(tx, ctx, params)
    return object_rows.put(tx, bucket, row, old=old)


async def get_object(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    row, span, parts, file = await _opened(storage, ctx, params)
    body = await body_of(file, span or whole(row.size), storage.run) if file else b""
    return _described(row, span, parts, params) | {"Body": body}


async def head_object(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    row, span, parts = await storage.read(lambda tx: _looked_up(tx, ctx, call.params))
    return _described(row, span, parts, call.params)


async def delete_object(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    """Deleting what is not there is success."""
    params = call.params

    def work(tx: Tx) -> list[str]:
        bucket, row = bucket_and_object(tx, ctx, params)
        check_version(params.get("VersionId"), params["Key"])
        check_delete(row, params["Key"], params)
        return object_rows.remove(tx, bucket, [row]) if row else []

    await _removing(storage, work)
    return {}


async def delete_objects(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    """Up to 1000 keys in one transaction; each may fail on its own."""
    asked: Sequence[Mapping[str, Any]] = call.params["Delete"].get("Objects") or ()
    if not 1 <= len(asked) <= 1000:
        raise malformed_xml("a DeleteObjects request names 1 to 1000 objects.")
    deleted: list[dict[str, Any]] = []
    errors: list[dict[str, Any]] = []

    def work(tx: Tx) -> list[str]:
        bucket = bucket_of(tx, ctx, call.params)
        found: dict[str, ObjectRow] = {}
        for entry in asked:
            try:
                if row := _deletable(tx, bucket, entry):
                    found[row.key] = row
            except ApiFault as fault:
                errors.append({"Key": entry["Key"], "Code": fault.code, "Message": fault.message})
            else:
                deleted.append({"Key": entry["Key"]})
        return object_rows.remove(tx, bucket, found.values())

    await _removing(storage, work)
    return {"Deleted": [] if call.params["Delete"].get("Quiet") else deleted, "Errors": errors}


async def get_object_attributes(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    asked = {name.strip() for entry in params["ObjectAttributes"] for name in entry.split(",")}

    def work(tx: Tx) -> tuple[ObjectRow, list[dict[str, Any]] | None]:
        row = existing_object(tx, ctx, params)
        return row, object_rows.get_layout(tx, row.content_id) if row.attributes.get("parts") else None

    row, layout = await storage.read(work)
    checksum = checksums_of(row.attributes)
    values: dict[str, Any] = {
        "ETag": row.etag,
        "ObjectSize": row.size,
        "StorageClass": row.attributes.get("storage_class", STANDARD),
        "Checksum": checksum or None,
        "ObjectParts": _object_parts(layout, params) if layout else None,
    }
    if unknown := asked - values.keys():
        raise invalid_request(f"Unknown object attributes: {', '.join(sorted(unknown))}. Use {', '.join(values)}.")
    answer = {name: value for name, value in values.items() if name in asked and value is not None}
    return answer | {"LastModified": row.modified_at.replace(microsecond=0)}


async def get_object_acl(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    await storage.read(lambda tx: existing_object(tx, ctx, call.params))
    return full_control(ctx.account)


async def get_object_tagging(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    row = await storage.read(lambda tx: existing_object(tx, ctx, call.params))
    return {"TagSet": tags.tag_set(row.attributes.get("tags", {}))}


async def put_object_tagging(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return await _set_tags(storage, ctx, call.params, tags.from_object(call.params["Tagging"]))


async def delete_object_tagging(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return await _set_tags(storage, ctx, call.params, {})


async def _set_tags(storage: Storage, ctx: Ctx, params: Params, wanted: Mapping[str, str]) -> Mapping[str, Any]:
    def work(tx: Tx) -> None:
        bucket, row = bucket_of(tx, ctx, params), existing_object(tx, ctx, params)
        kept = {name: value for name, value in row.attributes.items() if name != "tags"}
        changed = replace(row, attributes=kept | {"tags": dict(wanted)} if wanted else kept)
        object_rows.put(tx, bucket, changed, old=row)

    await storage.write(work)
    return {}


def _check_target(tx: Tx, ctx: Ctx, params: Params) -> tuple[Bucket, ObjectRow | None]:
    bucket, old = bucket_and_object(tx, ctx, params)
    check_write(old, params["Key"], params)
    return bucket, old


def _looked_up(tx: Tx, ctx: Ctx, params: Params) -> tuple[ObjectRow, ByteRange | None, int | None]:
    """Object, asked range (None: all of it), and the number of parts when one part was asked for."""
    row = existing_object(tx, ctx, params)
    check_read(row, params)
    number = params.get("PartNumber")
    if number is None:
        return row, requested(params.get("Range"), row.size), None
    if params.get("Range"):
        raise invalid_request("Cannot specify both Range header and partNumber query parameter")
    layout = object_rows.get_layout(tx, row.content_id) if row.attributes.get("parts") else None
    return row, _part_span(row, layout, number), len(layout) if layout else None


async def _opened(
    storage: Storage, ctx: Ctx, params: Params
) -> tuple[ObjectRow, ByteRange | None, int | None, BinaryIO | None]:
    def work(tx: Tx) -> tuple[ObjectRow, ByteRange | None, int | None, BinaryIO | None]:
        row, span, parts = _looked_up(tx, ctx, params)
        return row, span, parts, storage.blobs.open_read(content_path(row.content_id)) if row.size else None

    for _ in range(ATTEMPTS - 1):
        try:
            return await storage.read(work)
        except BlobNotFound:
            continue  # overwritten or deleted since the row was read: the row says by now which
    return await storage.read(work)


def _described(row: ObjectRow, span: ByteRange | None, parts: int | None, params: Params) -> dict[str, Any]:
    """A checksum is of the whole object, so it is shown with whole objects only."""
    whole_asked = span is None and params.get("ChecksumMode") == "ENABLED"
    result = shown(row, checksums=whole_asked)
    result["ContentLength"] = span.length if span else row.size
    if span:
        result["ContentRange"] = span.content_range
    if parts is not None:
        result["PartsCount"] = parts
    return result | {name: params[asked] for asked, name in _OVERRIDES.items() if params.get(asked) is not None}


def _part_span(row: ObjectRow, layout: Sequence[Mapping[str, Any]] | None, number: int) -> ByteRange | None:
    """Where the part with this position lies. An object that was not uploaded in parts is its only part."""
    sizes = [part["size"] for part in layout] if layout else [row.size]
    if not 1 <= number <= len(sizes):
        counts = {"PartNumberRequested": str(number), "ActualPartCount": str(len(sizes))}
        raise ApiFault("InvalidPartNumber", "The requested partnumber is not satisfiable", 416, members=counts)
    start = sum(sizes[: number - 1])
    return ByteRange(start, sizes[number - 1], row.size) if row.size else None


def _object_parts(layout: Sequence[Mapping[str, Any]], params: Params) -> dict[str, Any]:
    after, limit = int(params.get("PartNumberMarker") or 0), int(params.get("MaxParts") or 1000)
    following = [part for part in layout if part["number"] > after]
    page = following[:limit]
    result: dict[str, Any] = {
        "TotalPartsCount": len(layout),
        "PartNumberMarker": after,
        "MaxParts": limit,
        "IsTruncated": len(following) > len(page),
        "NextPartNumberMarker": page[-1]["number"] if page else after,
    }
    if any(part["checksums"] for part in layout):  # AWS lists parts only of objects with part checksums
        result["Parts"] = [
            {"PartNumber": part["number"], "Size": part["size"], **members(part["checksums"])} for part in page
        ]
    return result


def _deletable(tx: Tx, bucket: Bucket, entry: Mapping[str, Any]) -> ObjectRow | None:
    key = check_key(entry["Key"])
    check_version(entry.get("VersionId"), key)
    row = object_rows.get(tx, bucket, key)
    check_delete(row, key, entry)
    return row


async def _removing(storage: Storage, work: Any) -> None:
    """Take rows away in one transaction, then the content that it released."""

    def removing() -> None:
        remove_contents(storage.blobs, storage.store.write(work))

    await storage.run(removing)
