"""Buckets: create, look at, list, delete.

Owns: the bucket operations. Does not own: what is configured on a bucket (`objects.bucket_settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.core.ids import DEFAULT_REGION
from sagewright.objects import tags, upload_rows
from sagewright.objects.access import bucket_of
from sagewright.objects.content import remove_contents
from sagewright.objects.faults import invalid_argument, not_supported
from sagewright.objects.names import check_bucket_name, owner
from sagewright.objects.storage import Storage
from sagewright.objects.tokens import seal, unseal
from sagewright.store import object_rows
from sagewright.store.object_rows import Bucket
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault

MAX_BUCKETS: Final = 10_000  # per page of ListBuckets


async def create_bucket(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    name = params["Bucket"]
    check_bucket_name(name)
    _refuse_unsupported(params)
    configuration = params.get("CreateBucketConfiguration") or {}
    region = configuration.get("LocationConstraint") or storage.region
    settings = {"tags": tags.from_bucket(configuration["Tags"])} if configuration.get("Tags") else {}

    def work(tx: Tx) -> None:
        found = object_rows.find_bucket(tx, name)
        if found is None:
            now = storage.clock.now()
            object_rows.insert_bucket(tx, name=name, account=ctx.account, region=region, now=now, settings=settings)
        else:
            _check_again(found, ctx, region)

    await storage.write(work)
    return {"Location": f"/{name}", "BucketArn": bucket_arn(name)}


async def head_bucket(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    bucket = await storage.read(lambda tx: bucket_of(tx, ctx, call.params))
    return {"BucketRegion": bucket.region, "BucketArn": bucket_arn(bucket.name), "AccessPointAlias": False}


async def get_bucket_location(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    bucket = await storage.read(lambda tx: bucket_of(tx, ctx, call.params))
    return {} if bucket.region == DEFAULT_REGION else {"LocationConstraint": bucket.region}


async def delete_bucket(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    """Uploads in parts that were never completed go with it."""

    def work(tx: Tx) -> list[str]:
        bucket = bucket_of(tx, ctx, call.params)
        if object_rows.any_object(tx, bucket.name, ""):
            message = "The bucket you tried to delete is not empty"
            raise ApiFault("BucketNotEmpty", message, 409, members={"BucketName": bucket.name})
        released = upload_rows.remove_all(tx, bucket)
        object_rows.remove_bucket(tx, bucket)
        return released

    released = await storage.write(work)
    if released:
        await storage.run(lambda: remove_contents(storage.blobs, released))
    return {}


async def list_buckets(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    params = call.params
    limit = params.get("MaxBuckets")
    if limit is not None and not 1 <= limit <= MAX_BUCKETS:
        raise invalid_argument(
            f"Argument max-buckets must be an integer between 1 and {MAX_BUCKETS}", "max-buckets", limit
        )
    prefix, region = params.get("Prefix") or "", params.get("BucketRegion")
    after = unseal(params["ContinuationToken"]) if params.get("ContinuationToken") else ""
    count = limit or MAX_BUCKETS

    def work(tx: Tx) -> list[Bucket]:
        return object_rows.list_buckets(tx, ctx.account, prefix=prefix, region=region, after=after, limit=count + 1)

    found = await storage.read(work)
    result: dict[str, Any] = {"Owner": owner(ctx.account), "Buckets": [_listed(bucket) for bucket in found[:count]]}
    if prefix:
        result["Prefix"] = prefix
    if len(found) > count:
        result["ContinuationToken"] = seal(found[count - 1].name)
    return result


def bucket_arn(name: str) -> str:
    return f"arn:aws:s3:::{name}"


def _listed(bucket: Bucket) -> dict[str, Any]:
    return {
        "Name": bucket.name,
        "CreationDate": bucket.created_at,
        "BucketRegion": bucket.region,
        "BucketArn": bucket_arn(bucket.name),
    }


def _check_again(found: Bucket, ctx: Ctx, region: str) -> None:
    """Creating one's own bucket again succeeds in us-east-1, and only there, as on AWS."""
    members = {"BucketName": found.name}
    if found.account != ctx.account:
        message = (
            "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
            "Please select a different name and try again."
        )
        raise ApiFault("BucketAlreadyExists", message, 409, members=members)
    if not found.region == region == DEFAULT_REGION:
        message = "Your previous request to create the named bucket succeeded and you already own it."
        raise ApiFault("BucketAlreadyOwnedByYou", message, 409, members=members)


def _refuse_unsupported(params: Mapping[str, Any]) -> None:
    configuration = params.get("CreateBucketConfiguration") or {}
    if configuration.get("Location") or configuration.get("Bucket"):
        raise not_supported("directory buckets")
    if params.get("ObjectLockEnabledForBucket"):
        raise not_supported("Object Lock")
    acl = params.get("ACL") or "private"
    if acl != "private" or any(name.startswith("Grant") for name in params):
        message = "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
        raise ApiFault("InvalidBucketAclWithObjectOwnership", message, 400)
    constraint = configuration.get("LocationConstraint")
    if constraint == DEFAULT_REGION:
        message = f"The specified location-constraint is not valid: leave it out for {DEFAULT_REGION}."
        raise ApiFault("InvalidLocationConstraint", message, 400, members={"LocationConstraint": constraint})
