"""Conditional requests: If-Match and its relatives, for reads, writes, copies and deletes.

Source: RFC 9110 section 13; https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from email.utils import format_datetime
from typing import Any

from sagewright.objects.faults import no_such_key, not_modified, not_supported, precondition_failed
from sagewright.store.object_rows import ObjectRow


def etag_matches(header: str, etag: str) -> bool:
    """Whether an If-Match or If-None-Match header names `etag` (without quotes): `*`, one tag, or a list of tags."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]
    return "*" in tags or etag in tags


def check_read(row: ObjectRow, params: Mapping[str, Any]) -> None:
    """GET and HEAD. Raises PreconditionFailed (412) or NotModified (304, with the headers a cache needs)."""
    _check_match(row, params.get("IfMatch"), params.get("IfUnmodifiedSince"))
    if _unchanged(row, params.get("IfNoneMatch"), params.get("IfModifiedSince")):
        moment = format_datetime(row.modified_at.replace(microsecond=0), usegmt=True)
        raise not_modified({"ETag": f'"{row.etag}"', "Last-Modified": moment})


def check_copy_source(row: ObjectRow, params: Mapping[str, Any]) -> None:
    """CopyObject and UploadPartCopy: the same conditions, but every failure is 412."""
    _check_match(row, params.get("CopySourceIfMatch"), params.get("CopySourceIfUnmodifiedSince"))
    if _unchanged(row, params.get("CopySourceIfNoneMatch"), params.get("CopySourceIfModifiedSince")):
        raise precondition_failed("x-amz-copy-source-If-None-Match")


def check_write(old: ObjectRow | None, key: str, params: Mapping[str, Any]) -> None:
    """PUT, CompleteMultipartUpload and CopyObject, against the object that would be replaced."""
    none_match, match = params.get("IfNoneMatch"), params.get("IfMatch")
    if none_match is not None and none_match.strip() != "*":
        raise not_supported("If-None-Match with a value other than * on a write")
    if none_match is not None and old is not None:
        raise precondition_failed("If-None-Match")
    if match is not None:
        if old is None:
            raise no_such_key(key)
        if not etag_matches(match, old.etag):
            raise precondition_failed("If-Match")


def check_delete(old: ObjectRow | None, key: str, params: Mapping[str, Any]) -> None:
    """DeleteObject, and each entry of DeleteObjects (whose members are called differently)."""
    match = params.get("IfMatch", params.get("ETag"))
    if match is not None and old is None:
        raise no_such_key(key)
    if old is None:
        return
    size = params.get("IfMatchSize", params.get("Size"))
    moment = params.get("IfMatchLastModifiedTime", params.get("LastModifiedTime"))
    if match is not None and not etag_matches(match, old.etag):
        raise precondition_failed("If-Match")
    if size is not None and size != old.size:
        raise precondition_failed("x-amz-if-match-size")
    if moment is not None and _seconds(moment) != _seconds(old.modified_at):
        raise precondition_failed("x-amz-if-match-last-modified-time")


def _check_match(row: ObjectRow, match: str | None, unmodified_since: datetime | None) -> None:
    """A given If-Match decides alone; If-Unmodified-Since counts only without it."""
    if match is not None:
        if not etag_matches(match, row.etag):
            raise precondition_failed("If-Match")
    elif unmodified_since is not None and _seconds(row.modified_at) > _seconds(unmodified_since):
        raise precondition_failed("If-Unmodified-Since")


def _unchanged(row: ObjectRow, none_match: str | None, modified_since: datetime | None) -> bool:
    if none_match is not None:
        return etag_matches(none_match, row.etag)
    return modified_since is not None and _seconds(row.modified_at) <= _seconds(modified_since)


def _seconds(moment: datetime) -> int:
    """Clients know Last-Modified to the second."""
    return int(moment.timestamp())
