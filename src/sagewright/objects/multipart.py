"""Uploads in parts: begin, parts, abort, and their lists.

Owns: S3's rules for uploads in parts. Does not own: completion (`objects.completing`), rows (`objects.upload_rows`).
Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/mpuoverview.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.objects import upload_rows
from sagewright.objects.access import Params, bucket_of
from sagewright.objects.attributes import STANDARD, encryption_of, from_request, members, quoted
from sagewright.objects.checksums import Algorithm, algorithm_named, check_type, default_type
from sagewright.objects.content import ContentWriter, remove_contents
from sagewright.objects.faults import invalid_argument, invalid_request, no_such_upload
from sagewright.objects.listing import encoding, page_size
from sagewright.objects.names import check_key, owner
from sagewright.objects.receiving import Upload
from sagewright.objects.storage import Storage
from sagewright.objects.upload_rows import PartRow, UploadRow
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call

MAX_PARTS: Final = 10_000


async def create_multipart_upload(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    key = check_key(params["Key"])
    attributes = from_request(params) | _checksum_plan(params)

    def work(tx: Tx) -> str:
        return upload_rows.begin(tx, bucket_of(tx, ctx, params), key, attributes, storage.clock.now())

    upload_id = await storage.write(work)
    shown = {"Bucket": params["Bucket"], "Key": key, "UploadId": upload_id}
    return {**shown, **encryption_of(attributes), **_shown_plan(attributes)}


async def upload_part(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    number = part_number(params)
    begun = await storage.read(lambda tx: open_upload(tx, ctx, params))
    body = Upload(storage, call, algorithm_of(begun))

    def finish() -> PartRow:
        content = body.content
        moment = storage.clock.now()
        part = PartRow(number, content.content_id, content.size, content.md5.hex(), moment, body.checksums)
        put_part(storage, ctx, params, content, part)
        return part

    part = await body.receive(finish)
    sent = members(part.checksums) if body.claim else {}
    return {"ETag": quoted(part.etag), **sent, **encryption_of(begun.attributes)}


def put_part(storage: Storage, ctx: Ctx, params: Params, content: ContentWriter, part: PartRow) -> None:
    """Publish a part that has been received or copied. Raises NoSuchUpload when the upload ended meanwhile."""
    released = content.publish(lambda tx: upload_rows.put_part(tx, open_upload(tx, ctx, params), part))
    remove_contents(storage.blobs, released)


async def abort_multipart_upload(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    def work() -> None:
        released = storage.store.write(lambda tx: upload_rows.remove(tx, open_upload(tx, ctx, call.params)))
        remove_contents(storage.blobs, released)

    await storage.run(work)
    return {}


async def list_parts(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    limit, after = page_size(params, "MaxParts", "max-parts"), int(params.get("PartNumberMarker") or 0)

    def work(tx: Tx) -> tuple[UploadRow, list[PartRow]]:
        upload = open_upload(tx, ctx, params)
        return upload, upload_rows.list_parts(tx, upload.id, after=after, limit=limit + 1)

    upload, found = await storage.read(work)
    page = found[:limit]
    return {
        "Bucket": params["Bucket"],
        "Key": upload.key,
        "UploadId": upload.id,
        "PartNumberMarker": after,
        "NextPartNumberMarker": page[-1].number if page else after,
        "MaxParts": limit,
        "IsTruncated": limit > 0 and len(found) > limit,
        "Parts": [_listed(part) for part in page],
        "Initiator": owner(ctx.account),
        "Owner": owner(ctx.account),
        "StorageClass": upload.attributes.get("storage_class", STANDARD),
        **_shown_plan(upload.attributes),
    }


async def list_multipart_uploads(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params, encode = call.params, encoding(call.params)
    limit = page_size(params, "MaxUploads", "max-uploads")
    prefix, delimiter = params.get("Prefix") or "", params.get("Delimiter") or ""
    after = (params.get("KeyMarker") or "", params.get("UploadIdMarker") or "")

    def work(tx: Tx) -> upload_rows.UploadPage:
        bucket = bucket_of(tx, ctx, params)
        if limit == 0:
            return upload_rows.UploadPage((), (), None)
        return upload_rows.list_page(tx, bucket, prefix=prefix, delimiter=delimiter, after=after, limit=limit)

    page = await storage.read(work)
    result: dict[str, Any] = {
        "Bucket": params["Bucket"],
        "KeyMarker": encode(after[0]),
        "UploadIdMarker": after[1],
        "Prefix": encode(prefix),
        "MaxUploads": limit,
        "IsTruncated": page.next is not None,
        "Uploads": [_listed_upload(upload, ctx) | {"Key": encode(upload.key)} for upload in page.uploads],
        "CommonPrefixes": [{"Prefix": encode(common)} for common in page.prefixes],
    }
    if delimiter:
        result["Delimiter"] = encode(delimiter)
    if params.get("EncodingType"):
        result["EncodingType"] = params["EncodingType"]
    if page.next is not None:
        result |= {"NextKeyMarker": encode(page.next[0]), "NextUploadIdMarker": page.next[1]}
    return result


def open_upload(tx: Tx, ctx: Ctx, params: Params) -> UploadRow:
    """Raises NoSuchUpload, also for one that was completed."""
    upload = upload_rows.find(tx, bucket_of(tx, ctx, params), check_key(params["Key"]), params["UploadId"])
    if upload is None or upload.outcome is not None:
        raise no_such_upload(params["UploadId"])
    return upload


def part_number(params: Params) -> int:
    number: int = params["PartNumber"]
    if not 1 <= number <= MAX_PARTS:
        message = f"Part number must be an integer between 1 and {MAX_PARTS}, inclusive"
        raise invalid_argument(message, "partNumber", number)
    return number


def algorithm_of(upload: UploadRow) -> Algorithm | None:
    name = upload.attributes.get("checksum_algorithm")
    return algorithm_named(name) if name else None


def _checksum_plan(params: Params) -> dict[str, str]:
    """The algorithm and type that an upload is begun with. Raises InvalidRequest."""
    name, wanted = params.get("ChecksumAlgorithm"), params.get("ChecksumType")
    if not name:
        if wanted:
            raise invalid_request("The x-amz-checksum-type header can only be used with x-amz-checksum-algorithm.")
        return {}
    algorithm = algorithm_named(name)
    return {
        "checksum_algorithm": algorithm.name,
        "checksum_type": check_type(algorithm, wanted) if wanted else default_type(algorithm),
    }


def _shown_plan(attributes: Mapping[str, Any]) -> dict[str, Any]:
    if "checksum_algorithm" not in attributes:
        return {}
    return {"ChecksumAlgorithm": attributes["checksum_algorithm"], "ChecksumType": attributes["checksum_type"]}


def _listed(part: PartRow) -> dict[str, Any]:
    return {
        "PartNumber": part.number,
        "LastModified": part.modified_at,
        "ETag": quoted(part.etag),
        "Size": part.size,
        **members(part.checksums),
    }


def _listed_upload(upload: UploadRow, ctx: Ctx) -> dict[str, Any]:
    return {
        "UploadId": upload.id,
        "Initiated": upload.initiated_at,
        "StorageClass": upload.attributes.get("storage_class", STANDARD),
        "Initiator": owner(ctx.account),
        "Owner": owner(ctx.account),
        **_shown_plan(upload.attributes),
    }
