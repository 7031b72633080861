"""CopyObject and UploadPartCopy.

CopyObject copies the row, not the bytes: both objects name the same content, which stays until the last of them is
gone. So a copy costs one transaction at any size, and keeps the source's ETag and checksums.

Owns: where a copy comes from, directives, the rule for copies onto themselves. Does not own: references to content
(`store.object_rows`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar
from urllib.parse import unquote

from sagewright.core.context import Ctx
from sagewright.core.errors import BlobNotFound
from sagewright.objects.access import Params, bucket_and_object, check_version, permitted
from sagewright.objects.attributes import checksums_of, encryption_of, from_request, members, placement, quoted
from sagewright.objects.checksums import FULL_OBJECT, algorithm_named
from sagewright.objects.conditions import check_copy_source, check_write
from sagewright.objects.content import MAX_UPLOAD, ContentWriter, checksum_of, read_content, remove_contents
from sagewright.objects.faults import entity_too_large, invalid_argument, invalid_request, no_such_key
from sagewright.objects.multipart import algorithm_of, open_upload, part_number, put_part
from sagewright.objects.names import check_key
from sagewright.objects.ranges import ByteRange, copied
from sagewright.objects.storage import Storage
from sagewright.objects.upload_rows import PartRow, UploadRow
from sagewright.store import object_rows
from sagewright.store.object_rows import ObjectRow
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call

T = TypeVar("T")

ATTEMPTS: Final = 8
"""Looks at a source that somebody keeps replacing, before giving up."""

_OF_CONTENT: Final = ("checksums", "checksum_type", "parts")


class Replaced(Exception):
    """The source has new content since it was looked at: look again."""


async def copy_object(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    asked = from_request(params)
    source = parse_source(params)

    def work() -> ObjectRow:
        checksum = _wanted_checksum(storage, ctx, params, source)
        now = storage.clock.now()
        row, released = storage.store.write(
            lambda tx: _placed(tx, ctx, params, name=source, asked=asked, checksum=checksum, now=now)
        )
        remove_contents(storage.blobs, released)
        return row

    row = await storage.run(lambda: _again(work))
    result = {"ETag": quoted(row.etag), "LastModified": row.modified_at, **checksums_of(row.attributes)}
    return {"CopyObjectResult": result, **encryption_of(row.attributes)}


async def upload_part_copy(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    number, source = part_number(params), parse_source(params)

    def work() -> tuple[UploadRow, PartRow]:
        upload, row, span = storage.store.read(lambda tx: _part_source(tx, ctx, params, source))
        algorithm = algorithm_of(upload)
        content = ContentWriter(storage.store, storage.blobs, [algorithm] if algorithm else [])
        try:
            for chunk in read_content(storage.blobs, row.content_id, span.start, span.length):
                content.write(chunk)
            checksums = {algorithm.name: content.checksum(algorithm)} if algorithm else {}
            now = storage.clock.now()
            part = PartRow(number, content.content_id, content.size, content.md5.hex(), now, checksums)
            put_part(storage, ctx, params, content, part)
        except BaseException:
            content.cancel()
            raise
        return upload, part

    upload, part = await storage.run(lambda: _again(work))
    result = {"ETag": quoted(part.etag), "LastModified": part.modified_at, **members(part.checksums)}
    return {"CopyPartResult": result, **encryption_of(upload.attributes)}


def parse_source(params: Params) -> tuple[str, str]:
    """Bucket and key of x-amz-copy-source: `bucket/key`, URL-encoded, with or without a leading slash and a
    `?versionId=`. Raises InvalidArgument, NoSuchVersion."""
    header: str = params["CopySource"]
    path, _, version = header.partition("?versionId=")
    bucket, _, key = unquote(path).removeprefix("/").partition("/")
    if not bucket or not key or bucket.startswith("arn:"):
        message = "Copy Source must mention the source bucket and key: sourcebucket/sourcekey"
        raise invalid_argument(message, "x-amz-copy-source", header)
    check_version(version, key)
    return bucket, check_key(key)


def _again(work: Callable[[], T]) -> T:
    """`work`, once more when the source was replaced or deleted while it ran: the rows say by then which."""
    for _ in range(ATTEMPTS - 1):
        try:
            return work()
        except (Replaced, BlobNotFound):
            continue
    return work()


def _source(tx: Tx, ctx: Ctx, params: Params, name: tuple[str, str]) -> ObjectRow:
    """Raises NoSuchBucket, NoSuchKey, AccessDenied, PreconditionFailed."""
    bucket, row = object_rows.find(tx, *name)
    permitted(bucket, ctx, {"Bucket": name[0], "ExpectedBucketOwner": params.get("ExpectedSourceBucketOwner")})
    if row is None:
        raise no_such_key(name[1])
    check_copy_source(row, params)
    return row


def _placed(
    tx: Tx,
    ctx: Ctx,
    params: Params,
    *,
    name: tuple[str, str],
    asked: Mapping[str, Any],
    checksum: tuple[str, dict[str, Any]] | None,
    now: datetime,
) -> tuple[ObjectRow, list[str]]:
    """The transaction. Returns the new row and released content."""
    bucket, old = bucket_and_object(tx, ctx, params)
    source = _source(tx, ctx, params, name)
    check_write(old, params["Key"], params)
    if (bucket.name, params["Key"]) == name:
        _check_onto_itself(source, params)
    if checksum is not None and checksum[0] != source.content_id:
        raise Replaced
    attributes = _attributes(source, params, asked) | (checksum[1] if checksum else {})
    row = ObjectRow(params["Key"], source.content_id, source.size, source.etag, now, attributes)
    return row, object_rows.put(tx, bucket, row, old=old)


def _attributes(source: ObjectRow, params: Params, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the copy carries, by the directives. Storage class and encryption are never copied, as on AWS."""
    kept = {name: value for name, value in source.attributes.items() if name in _OF_CONTENT}
    described = asked
    if not _replaces(params, "MetadataDirective"):
        headers = dict(source.attributes.get("headers", {}))
        headers.pop("WebsiteRedirectLocation", None)
        if redirect := params.get("WebsiteRedirectLocation"):
            headers["WebsiteRedirectLocation"] = redirect
        described = {"headers": headers, "metadata": source.attributes.get("metadata", {})}
    tags = asked if _replaces(params, "TaggingDirective") else source.attributes
    chosen = {"headers": described.get("headers"), "metadata": described.get("metadata"), "tags": tags.get("tags")}
    return kept | {name: value for name, value in chosen.items() if value} | placement(params)


def _replaces(params: Params, directive: str) -> bool:
    value = params.get(directive) or "COPY"
    if value not in ("COPY", "REPLACE"):
        raise invalid_argument(f"Unknown {directive}: use COPY or REPLACE.", directive, value)
    return bool(value == "REPLACE")


def _check_onto_itself(source: ObjectRow, params: Params) -> None:
    wanted = placement(params)
    changes = (
        _replaces(params, "MetadataDirective")
        or _replaces(params, "TaggingDirective")
        or "encryption" in wanted
        or wanted.get("storage_class") != source.attributes.get("storage_class")
        or params.get("WebsiteRedirectLocation")
    )
    if not changes:
        raise invalid_request(
            "This copy request is illegal because it is trying to copy an object to itself without changing the "
            "object's metadata, storage class, website redirect location or encryption attributes."
        )


def _wanted_checksum(
    storage: Storage, ctx: Ctx, params: Params, name: tuple[str, str]
) -> tuple[str, dict[str, Any]] | None:
    """A checksum that the request wants and the source has not: (content id, attributes). Reads all bytes."""
    if not params.get("ChecksumAlgorithm"):
        return None
    algorithm = algorithm_named(params["ChecksumAlgorithm"])
    source = storage.store.read(lambda tx: _source(tx, ctx, params, name))
    if algorithm.name in source.attributes.get("checksums", {}):
        return None
    value = checksum_of(storage.blobs, source.content_id, algorithm)
    return source.content_id, {"checksums": {algorithm.name: value}, "checksum_type": FULL_OBJECT}


def _part_source(tx: Tx, ctx: Ctx, params: Params, name: tuple[str, str]) -> tuple[UploadRow, ObjectRow, ByteRange]:
    upload = open_upload(tx, ctx, params)
    row = _source(tx, ctx, params, name)
    span = copied(params.get("CopySourceRange"), row.size)
    if span.length > MAX_UPLOAD:
        raise entity_too_large(span.length, MAX_UPLOAD)
    return upload, row, span
