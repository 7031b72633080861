"""What is configured on a bucket or an object besides content: tags, policy, CORS, public access, ACLs.

Owns: the operations that put, get and delete such settings, and truthful answers for features that no bucket here has.
Does not own: acting on them. A policy and CORS rules are kept and given back; they are not evaluated yet.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.objects import tags
from sagewright.objects.access import bucket_of
from sagewright.objects.faults import malformed_xml
from sagewright.objects.names import full_control
from sagewright.objects.storage import Storage
from sagewright.store import object_rows
from sagewright.store.resources import Tx
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault

Operation = Callable[[Storage, Ctx, Call], Awaitable[Mapping[str, Any]]]

MAX_POLICY: Final = 20 * 1024  # bytes, as on AWS
_NO_TAGS: Final = ("NoSuchTagSet", "The TagSet does not exist")
_NO_POLICY: Final = ("NoSuchBucketPolicy", "The bucket policy does not exist")
_NO_BLOCK: Final = ("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found")
_NO_CORS: Final = ("NoSuchCORSConfiguration", "The CORS configuration does not exist")
_BLOCKS: Final = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


async def put_bucket_tagging(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return await _put(storage, ctx, call, "tags", tags.from_bucket(call.params["Tagging"].get("TagSet") or ()))


async def get_bucket_tagging(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return {"TagSet": tags.tag_set(await _get(storage, ctx, call, "tags", _NO_TAGS))}


async def put_bucket_policy(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    text: str = call.params["Policy"]
    _check_policy(text)
    return await _put(storage, ctx, call, "policy", text)


async def get_bucket_policy(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return {"Policy": await _get(storage, ctx, call, "policy", _NO_POLICY)}


async def get_bucket_policy_status(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    """Never public: every request must be signed by the owner's account."""
    await _get(storage, ctx, call, "policy", _NO_POLICY)
    return {"PolicyStatus": {"IsPublic": False}}


async def put_public_access_block(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    asked = call.params["PublicAccessBlockConfiguration"]
    return await _put(storage, ctx, call, "public_access_block", {name: bool(asked.get(name)) for name in _BLOCKS})


async def get_public_access_block(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return {"PublicAccessBlockConfiguration": await _get(storage, ctx, call, "public_access_block", _NO_BLOCK)}


async def put_bucket_cors(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    rules = call.params["CORSConfiguration"].get("CORSRules") or []
    if not 1 <= len(rules) <= 100:
        raise malformed_xml("a CORS configuration has 1 to 100 rules.")
    return await _put(storage, ctx, call, "cors", rules)


async def get_bucket_cors(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    return {"CORSRules": await _get(storage, ctx, call, "cors", _NO_CORS)}


async def get_bucket_acl(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
    bucket = await storage.read(lambda tx: bucket_of(tx, ctx, call.params))
    return full_control(bucket.account)


def deletes(topic: str) -> Operation:
    """An operation that takes a setting away; success when there was none."""

    async def operation(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        return await _put(storage, ctx, call, topic, None)

    return operation


def answers(result: Mapping[str, Any]) -> Operation:
    """An operation whose answer is the same for every bucket: a feature in its unconfigured state."""

    async def operation(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        await storage.read(lambda tx: bucket_of(tx, ctx, call.params))
        return result

    return operation


def lacks(code: str, message: str) -> Operation:
    """An operation that asks for a configuration which no bucket here has."""

    async def operation(storage: Storage, ctx: Ctx, call: Call) -> Mapping[str, Any]:
        await storage.read(lambda tx: bucket_of(tx, ctx, call.params))
        raise ApiFault(code, message, 404, members={"BucketName": call.params["Bucket"]})

    return operation


async def _put(storage: Storage, ctx: Ctx, call: Call, topic: str, value: object) -> Mapping[str, Any]:
    def work(tx: Tx) -> None:
        bucket = bucket_of(tx, ctx, call.params)
        settings = {name: kept for name, kept in bucket.settings.items() if name != topic}
        object_rows.set_settings(tx, bucket, settings if value is None else settings | {topic: value})

    await storage.write(work)
    return {}


async def _get(storage: Storage, ctx: Ctx, call: Call, topic: str, missing: tuple[str, str]) -> Any:
    """The setting. Raises the fault `missing` (code, message) when there is none."""
    bucket = await storage.read(lambda tx: bucket_of(tx, ctx, call.params))
    if topic not in bucket.settings:
        raise ApiFault(*missing, 404, members={"BucketName": bucket.name})
    return bucket.settings[topic]


def _check_policy(text: str) -> None:
    """Raises MalformedPolicy. Only the form is checked."""
    try:
        policy = json.loads(text)
    except ValueError:
        raise ApiFault("MalformedPolicy", "Policies must be valid JSON and the first byte must be '{'", 400) from None
    if not isinstance(policy, dict) or "Statement" not in policy:
        raise ApiFault("MalformedPolicy", "Missing required field Statement", 400)
    if len(text.encode()) > MAX_POLICY:
        raise ApiFault("MalformedPolicy", f"The policy is longer than {MAX_POLICY} bytes", 400)
