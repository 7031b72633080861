"""From names in a request to rows that the caller may see.

Owns: NoSuchBucket, AccessDenied (another account's bucket, a wrong x-amz-expected-bucket-owner), version ids.
Does not own: bucket policies, which are kept and not evaluated yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sagewright.core.context import Ctx
from sagewright.objects.faults import access_denied, no_such_bucket, no_such_key, no_such_version
from sagewright.objects.names import check_key
from sagewright.store import object_rows
from sagewright.store.object_rows import Bucket, ObjectRow
from sagewright.store.resources import Tx

Params = Mapping[str, Any]


def bucket_of(tx: Tx, ctx: Ctx, params: Params) -> Bucket:
    """Raises NoSuchBucket, AccessDenied."""
    return permitted(object_rows.find_bucket(tx, params["Bucket"]), ctx, params)


def bucket_and_object(tx: Tx, ctx: Ctx, params: Params) -> tuple[Bucket, ObjectRow | None]:
    """The object is None when the key is free. Raises NoSuchBucket, AccessDenied, KeyTooLongError."""
    bucket, row = object_rows.find(tx, params["Bucket"], check_key(params["Key"]))
    return permitted(bucket, ctx, params), row


def existing_object(tx: Tx, ctx: Ctx, params: Params) -> ObjectRow:
    """Raises NoSuchKey and NoSuchVersion too."""
    _, row = bucket_and_object(tx, ctx, params)
    check_version(params.get("VersionId"), params["Key"])
    if row is None:
        raise no_such_key(params["Key"])
    return row


def permitted(bucket: Bucket | None, ctx: Ctx, params: Params) -> Bucket:
    """`bucket` (named by params' Bucket) if the caller may use it."""
    if bucket is None:
        raise no_such_bucket(params["Bucket"])
    expected = params.get("ExpectedBucketOwner")
    if bucket.account != ctx.account:
        raise access_denied()
    if expected is not None and expected != bucket.account:
        raise access_denied(f"Access Denied: the bucket is not owned by account {expected}, which the request expects.")
    return bucket


def check_version(version: str | None, key: str) -> None:
    if version not in (None, "", "null"):
        raise no_such_version(key, str(version))
