"""ECR's lifecycle policy previews: which images a policy would expire now, without expiring any.

https://docs.aws.amazon.com/AmazonECR/latest/userguide/lpp_creation.html
Owns: the two operations. Does not own: what a policy means (`store.registry_lifecycle`). On AWS a preview takes a
while; here it is worked out when it is asked for, from the policy that was to be tried.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.services.ecr.common import existing, invalid, page
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store import registry_rows as rows
from sagewright.store.registry_lifecycle import POLICY, PolicyUnreadable, expiring, images_of, parse_policy
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault

_TRIED: Final = "lifecyclePolicyPreviewText"  # a name in a repository's settings


def operations(secret: bytes) -> dict[str, Operation]:
    return {
        "StartLifecyclePolicyPreview": writes(_start),
        "GetLifecyclePolicyPreview": reads(partial(_get, secret)),
    }


def _start(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    text = request.get("lifecyclePolicyText") or repository.settings.get(POLICY)
    if text is None:
        raise ApiFault(
            "LifecyclePolicyNotFoundException",
            f"Lifecycle policy does not exist for the repository with name '{repository.name}' in the registry with "
            f"id '{ctx.account}'",
        )
    try:
        parse_policy(text)
    except PolicyUnreadable as problem:
        raise invalid(f"Invalid parameter at 'LifecyclePolicyText' failed to satisfy constraint: '{problem}'") from None
    rows.set_settings(tx, repository, {**repository.settings, _TRIED: text})
    named = {"registryId": ctx.account, "repositoryName": repository.name, "lifecyclePolicyText": text}
    return named | {"status": "IN_PROGRESS"}


def _get(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    text = repository.settings.get(_TRIED)
    if text is None:
        raise ApiFault(
            "LifecyclePolicyPreviewNotFoundException",
            f"Lifecycle policy preview does not exist for the repository with name '{repository.name}' in the registry "
            f"with id '{ctx.account}'",
        )
    images = {image.digest: image for image in images_of(tx, repository)}
    gone = expiring(parse_policy(text), list(images.values()), ctx.now)
    status = (request.get("filter") or {}).get("tagStatus", "ANY")
    asked = request.get("imageIds") or ()
    wanted = [
        digest
        for digest in sorted(gone)
        if status == "ANY" or bool(images[digest].tags) == (status == "TAGGED")
        if not asked or any(_is(images[digest].tags, digest, each) for each in asked)
    ]
    part, more = page(wanted, str, request, secret, f"ecr preview {repository.id}")
    results = [_result(images[digest].tags, digest, gone[digest], images[digest].pushed_at) for digest in part]
    named = {"registryId": ctx.account, "repositoryName": repository.name, "lifecyclePolicyText": text}
    summary = {"expiringImageTotalCount": len(gone)}
    return named | {"status": "COMPLETE", "previewResults": results, "summary": summary, **more}


def _is(tags: tuple[str, ...], digest: str, image_id: Request) -> bool:
    by_tag, by_digest = image_id.get("imageTag"), image_id.get("imageDigest")
    return (by_tag is None or by_tag in tags) and (by_digest is None or by_digest == digest)


def _result(tags: tuple[str, ...], digest: str, priority: int, pushed_at: Any) -> dict[str, Any]:
    shown: dict[str, Any] = {"imageDigest": digest, "imagePushedAt": pushed_at, "action": {"type": "EXPIRE"}}
    return shown | {"appliedRulePriority": priority} | ({"imageTags": list(tags)} if tags else {})
