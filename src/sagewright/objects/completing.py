"""CompleteMultipartUpload: from parts to one object.

    plan (rows) ──► one content out of the parts ──► plan again, in the transaction that puts the object there
        └── completed before, with the same parts ──► the same answer again

A file system that can share blocks copies nothing; a single part is taken over as it is. Nothing is held in memory.

Owns: the checks of a completion, the object-level ETag and checksum. Does not own: rows (`objects.upload_rows`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

from sagewright.blobs.base import BlobStore
from sagewright.core.context import Ctx
from sagewright.core.errors import BlobNotFound
from sagewright.objects import upload_rows
from sagewright.objects.access import Params, bucket_and_object
from sagewright.objects.attributes import checksums_of, encryption_of, quoted
from sagewright.objects.checksums import (
    ALGORITHMS,
    FULL_OBJECT,
    Algorithm,
    claimed,
    combined,
    composite,
    verify,
)
from sagewright.objects.conditions import check_write
from sagewright.objects.content import ContentWriter, checksum_of, remove_contents
from sagewright.objects.faults import bad_digest, entity_too_large, invalid_request, malformed_xml, no_such_upload
from sagewright.objects.multipart import MAX_PARTS, algorithm_of
from sagewright.objects.storage import Storage
from sagewright.objects.upload_rows import PartRow, UploadRow
from sagewright.store import object_rows
from sagewright.store.object_rows import Bucket, ObjectRow
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault

MIN_PART: Final = 5 * 1024 * 1024
"""Bytes of every part but the last, as on AWS."""

MAX_OBJECT: Final = 5 * 1024**4  # bytes, as on AWS

ATTEMPTS: Final = 4
"""Looks at the rows before a completion gives up against somebody who keeps replacing parts."""

_UPLOAD_ONLY: Final = ("checksum_algorithm", "checksum_type")


@dataclass(frozen=True, slots=True)
class Plan:
    """A completion that was checked against the rows: of which parts, and what the object will be."""

    bucket: Bucket
    old: ObjectRow | None
    upload: UploadRow
    parts: tuple[PartRow, ...]
    attributes: Mapping[str, Any]
    etag: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Done:
    """The upload was completed before, of these very parts."""

    result: Mapping[str, Any]


class Changed(Exception):
    """The upload is no longer as it was planned: plan again."""


async def complete_multipart_upload(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return await storage.run(lambda: _complete(storage, ctx, call.params))


def _complete(storage: Storage, ctx: Ctx, params: Params) -> Mapping[str, Any]:
    for _ in range(ATTEMPTS):
        plan = storage.store.read(lambda tx: _planned(tx, ctx, params))
        if isinstance(plan, Done):
            return plan.result
        try:
            return _carried_out(storage, ctx, params, plan)
        except (Changed, BlobNotFound):
            continue  # a part was replaced, or the upload was completed or aborted: the rows say by now which
    message = "The parts of this upload keep changing. Stop uploading parts, then complete it."
    raise ApiFault("OperationAborted", f"A conflicting conditional operation is currently in progress. {message}", 409)


def _carried_out(storage: Storage, ctx: Ctx, params: Params, plan: Plan) -> Mapping[str, Any]:
    if len(plan.parts) == 1:
        content_id, now = plan.parts[0].content_id, storage.clock.now()
        _check_claim(storage.blobs, params, plan, content_id)
        result, released = storage.store.write(
            lambda tx: _placed(tx, ctx, params, plan=plan, content_id=content_id, now=now)
        )
    else:
        result, released = _joined(storage, ctx, params, plan)
    remove_contents(storage.blobs, released)
    return result


def _joined(storage: Storage, ctx: Ctx, params: Params, plan: Plan) -> tuple[Mapping[str, Any], list[str]]:
    content = ContentWriter(storage.store, storage.blobs)
    try:
        for part in plan.parts:
            content.append(part.content_id)
        content.make_durable()
        _check_claim(storage.blobs, params, plan, content.content_id)
        now = storage.clock.now()
        return content.publish(lambda tx: _placed(tx, ctx, params, plan=plan, content_id=content.content_id, now=now))
    except BaseException:
        content.cancel()
        raise


def _placed(
    tx: Tx, ctx: Ctx, params: Params, *, plan: Plan, content_id: str, now: datetime
) -> tuple[Mapping[str, Any], list[str]]:
    """The transaction: object there, upload closed, parts gone. Returns the answer and released content."""
    current = _planned(tx, ctx, params)
    if isinstance(current, Done) or current.parts != plan.parts:
        raise Changed
    upload = current.upload
    size = sum(part.size for part in current.parts)
    row = ObjectRow(upload.key, content_id, size, current.etag, now, current.attributes)
    released = object_rows.put(tx, current.bucket, row, old=current.old)
    layout = [{"number": part.number, "size": part.size, "checksums": part.checksums} for part in current.parts]
    object_rows.set_layout(tx, content_id, layout)
    result = {
        "Location": f"{ctx.base_url}/{current.bucket.name}/{quote(upload.key)}",
        "Bucket": current.bucket.name,
        "Key": upload.key,
        "ETag": quoted(current.etag),
        **checksums_of(current.attributes),
        **encryption_of(current.attributes),
    }
    outcome = {"fingerprint": current.fingerprint, "result": result}
    return result, released + upload_rows.complete(tx, upload, outcome, now)


def _planned(tx: Tx, ctx: Ctx, params: Params) -> Plan | Done:
    """Raises NoSuchUpload, MalformedXML, InvalidPart, InvalidPartOrder, EntityTooSmall, PreconditionFailed ..."""
    bucket, old = bucket_and_object(tx, ctx, params)
    upload = upload_rows.find(tx, bucket, params["Key"], params["UploadId"])
    asked = _asked(params)
    fingerprint = hashlib.sha256(repr([(number, part["ETag"]) for number, part in asked.items()]).encode()).hexdigest()
    if upload is not None and upload.outcome is not None and upload.outcome["fingerprint"] == fingerprint:
        return Done(upload.outcome["result"])
    if upload is None or upload.outcome is not None:
        raise no_such_upload(params["UploadId"])
    check_write(old, params["Key"], params)
    kept = {part.number: part for part in upload_rows.list_parts(tx, upload.id)}
    parts = tuple(_matching(kept.get(number), upload.id, part) for number, part in asked.items())
    _check_sizes(parts, params)
    algorithm = algorithm_of(upload)
    attributes = {name: value for name, value in upload.attributes.items() if name not in _UPLOAD_ONLY}
    attributes["parts"] = len(parts)
    if algorithm is not None:
        attributes |= _checksums(algorithm, upload.attributes["checksum_type"], parts, params)
    etag = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts), usedforsecurity=False).hexdigest()
    return Plan(bucket, old, upload, parts, attributes, f"{etag}-{len(parts)}", fingerprint)


def _asked(params: Params) -> dict[int, Mapping[str, Any]]:
    """The parts of the request by number, ETags without quotes."""
    listed: Sequence[Mapping[str, Any]] = (params.get("MultipartUpload") or {}).get("Parts") or ()
    if not 1 <= len(listed) <= MAX_PARTS:
        raise malformed_xml(f"CompleteMultipartUpload names 1 to {MAX_PARTS} parts.")
    if any(part.get("PartNumber") is None or part.get("ETag") is None for part in listed):
        raise malformed_xml("every Part has a PartNumber and an ETag.")
    numbers = [part["PartNumber"] for part in listed]
    if any(number >= following for number, following in pairwise(numbers)):
        message = (
            "The list of parts was not in ascending order. The parts list must be specified in order by part number."
        )
        raise ApiFault("InvalidPartOrder", message, 400, members={"UploadId": params["UploadId"]})
    return {part["PartNumber"]: {**part, "ETag": part["ETag"].strip('"')} for part in listed}


def _matching(kept: PartRow | None, upload_id: str, asked: Mapping[str, Any]) -> PartRow:
    """The part that is kept, if it is what the request says it is. Raises InvalidPart."""
    same = kept is not None and kept.etag == asked["ETag"] and _same_checksums(kept, asked)
    if kept is None or not same:
        message = (
            "One or more of the specified parts could not be found. The part may not have been uploaded, or the "
            "specified entity tag may not match the part's entity tag."
        )
        members = {"UploadId": upload_id, "PartNumber": str(asked["PartNumber"]), "ETag": asked["ETag"]}
        raise ApiFault("InvalidPart", message, 400, members=members)
    return kept


def _same_checksums(kept: PartRow, asked: Mapping[str, Any]) -> bool:
    """A checksum of an algorithm that nobody computed cannot be compared; the ETag speaks for the part then."""
    return all(asked.get(ALGORITHMS[name].member, value) == value for name, value in kept.checksums.items())


def _check_sizes(parts: Sequence[PartRow], params: Params) -> None:
    for part in parts[:-1]:
        if part.size < MIN_PART:
            sizes = {"ProposedSize": str(part.size), "MinSizeAllowed": str(MIN_PART)}
            which = {"PartNumber": str(part.number), "ETag": part.etag}
            message = "Your proposed upload is smaller than the minimum allowed size"
            raise ApiFault("EntityTooSmall", message, 400, members=sizes | which)
    size, expected = sum(part.size for part in parts), params.get("MpuObjectSize")
    if size > MAX_OBJECT:
        raise entity_too_large(size, MAX_OBJECT)
    if expected is not None and expected != size:
        raise invalid_request(f"The provided 'x-amz-mp-object-size' header value {expected} does not match: {size}.")


def _checksums(algorithm: Algorithm, kind: str, parts: Sequence[PartRow], params: Params) -> dict[str, Any]:
    wanted = params.get("ChecksumType")
    if wanted is not None and wanted != kind:
        raise bad_digest(f"The upload was created using the {kind} checksum type, not {wanted}.")
    values = [part.checksums[algorithm.name] for part in parts]
    if kind == FULL_OBJECT:
        value = combined(algorithm, [(value, part.size) for value, part in zip(values, parts, strict=True)])
    else:
        value = composite(algorithm, values)
    return {"checksums": {algorithm.name: value}, "checksum_type": kind}


def _check_claim(blobs: BlobStore, params: Params, plan: Plan, content_id: str) -> None:
    """What the client says of the whole object. Raises BadDigest."""
    bare = {name: value.partition("-")[0] for name, value in params.items() if name.startswith("Checksum")}
    claim = claimed(bare, {})
    if claim is None:
        return
    kept: Mapping[str, str] = plan.attributes.get("checksums", {})
    actual = kept.get(claim.algorithm.name) or checksum_of(blobs, content_id, claim.algorithm)
    verify(claim, actual.partition("-")[0])
