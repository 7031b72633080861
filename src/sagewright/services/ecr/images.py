"""ECR's images: describe, list, read, put, delete; which layers are there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import select

from sagewright.core.context import Ctx
from sagewright.core.image_manifests import ManifestUnreadable, digest_of, is_digest, parse
from sagewright.services.ecr.common import existing, invalid, page
from sagewright.services.service import Operation, Request, Response, reads, writes
from sagewright.store import registry_push
from sagewright.store import registry_rows as rows
from sagewright.store.registry_rows import Manifest, Repository
from sagewright.store.registry_tables import blobs, links
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault

_LAYER: Final = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_REASONS: Final = {
    "MissingDigestAndTag": "Invalid request parameters: both tag and digest cannot be null",
    "InvalidImageDigest": "Invalid request parameters: image digest should satisfy the regex 'sha256:[0-9a-f]{64}'",
    "ImageNotFound": "Requested image not found",
    "ImageTagDoesNotMatchDigest": "Requested image tag does not match the digest",
    "ImageReferencedByManifestList": "Requested image referenced by manifest list: ",
}


def operations(secret: bytes) -> dict[str, Operation]:
    return {
        "DescribeImages": reads(partial(_describe, secret)),
        "ListImages": reads(partial(_list, secret)),
        "BatchGetImage": reads(_batch_get),
        "BatchDeleteImage": writes(_batch_delete),
        "PutImage": writes(_put),
        "BatchCheckLayerAvailability": reads(_check_layers),
        "ListImageReferrers": reads(partial(_referrers, secret)),
    }


def _describe(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    tags = _tags(tx, repository)
    if asked := request.get("imageIds"):
        if "maxResults" in request or "nextToken" in request:
            raise invalid("maxResults and nextToken go with a list of all images, not with imageIds.")
        found = {}
        for image_id in asked:
            manifest = find_image(ctx, tx, repository, image_id)
            found[manifest.digest] = manifest
        return {"imageDetails": [_detail(ctx, repository, each, tags) for each in found.values()]}
    keep = _tag_filter(request)
    listed = sorted((m for m in rows.list_manifests(tx, repository) if keep(bool(tags[m.digest]))), key=_digest)
    part, more = page(listed, _digest, request, secret, f"ecr images {repository.id}")
    return {"imageDetails": [_detail(ctx, repository, each, tags) for each in part], **more}


def _list(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    tags, keep = _tags(tx, repository), _tag_filter(request)
    ids: list[tuple[str, str]] = []
    for manifest in rows.list_manifests(tx, repository):
        named = tags[manifest.digest]
        if keep(bool(named)):
            ids += [(manifest.digest, tag) for tag in named or [""]]
    part, more = page(sorted(ids), lambda each: f"{each[0]} {each[1]}", request, secret, f"ecr ids {repository.id}")
    return {"imageIds": [_image_id(digest, tag) for digest, tag in part], **more}


def _batch_get(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    images, failures = [], []
    for image_id in request["imageIds"]:
        found = _find(tx, repository, image_id)
        if isinstance(found, str):
            failures.append(_failure(image_id, found))
        else:
            images.append(_image(ctx, repository, found, image_id.get("imageTag", "")))
    return {"images": images, "failures": failures}


def _batch_delete(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """A tag alone is taken off; the image goes with its last tag. A digest takes the image and all its tags."""
    repository = existing(ctx, tx, request)
    gone, failures = [], []
    for image_id in request["imageIds"]:
        found = _find(tx, repository, image_id)
        if isinstance(found, str):
            failures.append(_failure(image_id, found))
            continue
        named = [tag.name for tag in rows.list_tags(tx, repository) if tag.digest == found.digest]
        dropped = [image_id["imageTag"]] if not image_id.get("imageDigest") else named or [""]
        whole = set(dropped) >= set(named)
        if whole and (holder := rows.holder_of(tx, repository, found.digest)):
            failures.append(_failure(image_id, "ImageReferencedByManifestList", f"[{holder}]"))
            continue
        if whole:
            rows.remove_manifest(tx, repository, found.digest)
        else:
            rows.remove_tag(tx, repository, image_id["imageTag"])
        gone += [_image_id(found.digest, tag) for tag in dropped]
    return {"imageIds": gone, "failures": failures}


def _put(ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Put a manifest under a tag, or the same manifest under a further one."""
    repository, content = existing(ctx, tx, request), request["imageManifest"].encode()
    tag, digest = request.get("imageTag"), digest_of(content)
    if request.get("imageDigest", digest) != digest:
        raise ApiFault(
            "ImageDigestDoesNotMatchException",
            f"The image digest {request['imageDigest']} does not match the manifest's, {digest}.",
        )
    there = rows.find_manifest(tx, repository, digest) is not None
    if there and (not tag or rows.find_tag(tx, repository, tag) == digest):
        raise ApiFault(
            "ImageAlreadyExistsException",
            f"Image with digest '{digest}' and tag '{tag or 'null'}' already exists in the repository with name "
            f"'{repository.name}' in registry with id '{ctx.account}'",
        )
    try:
        put = registry_push.push(tx, repository, content, request.get("imageManifestMediaType"), tag, now=ctx.now)
    except ManifestUnreadable as problem:
        raise invalid(f"Invalid parameter at 'ImageManifest' failed to satisfy constraint: '{problem}'") from None
    except registry_push.BlobMissing as missing:
        raise ApiFault(
            "LayersNotFoundException",
            f"Layers with digests '{missing}' required for pushing image into repository with name "
            f"'{repository.name}' in the registry with id '{ctx.account}' do not exist",
        ) from None
    except registry_push.ManifestMissing as missing:
        raise ApiFault(
            "ReferencedImagesNotFoundException",
            f"Images with digests '{missing}' required for pushing image into repository with name "
            f"'{repository.name}' in the registry with id '{ctx.account}' do not exist",
        ) from None
    except registry_push.TagTaken:
        raise ApiFault(
            "ImageTagAlreadyExistsException",
            f"The image tag '{tag}' already exists in the '{repository.name}' repository and cannot be overwritten "
            "because the repository is immutable.",
        ) from None
    return {"image": _image(ctx, repository, put, tag or "")}


def _check_layers(ctx: Ctx, tx: Tx, request: Request) -> Response:
    repository = existing(ctx, tx, request)
    layers, failures = [], []
    for digest in request["layerDigests"]:
        if not is_digest(digest):
            reason = "Invalid layer digest: layer digest should satisfy the regex 'sha256:[0-9a-f]{64}'"
            failures.append({"layerDigest": digest, "failureCode": "InvalidLayerDigest", "failureReason": reason})
            continue
        statement = (
            select(blobs.c.size)
            .join(links, links.c.digest == blobs.c.digest)
            .where(links.c.repository_id == repository.id, blobs.c.digest == digest)
        )
        size = tx.connection.scalar(statement)
        layer = {"layerDigest": digest, "layerAvailability": "UNAVAILABLE" if size is None else "AVAILABLE"}
        layers.append(layer if size is None else layer | {"layerSize": size, "mediaType": _LAYER})
    return {"layers": layers, "failures": failures}


def _referrers(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Signatures, bills of material and the like that say they are about an image, which need not exist."""
    repository, subject = existing(ctx, tx, request), request["subjectId"]["imageDigest"]
    kinds = (request.get("filter") or {}).get("artifactTypes")
    found = [
        each
        for each in sorted(rows.list_referrers(tx, repository, subject), key=_digest)
        if not kinds or each.artifact_type in kinds
    ]
    part, more = page(found, _digest, request, secret, f"ecr referrers {repository.id}")
    return {"referrers": [_referrer(each) for each in part], **more}


def _referrer(manifest: Manifest) -> dict[str, Any]:
    optional: Sequence[tuple[str, Any]] = (
        ("artifactType", manifest.artifact_type),
        ("annotations", dict(parse(manifest.content, manifest.media_type).annotations)),
    )
    shown: dict[str, Any] = {"digest": manifest.digest, "mediaType": manifest.media_type, "artifactStatus": "ACTIVE"}
    return shown | {"size": len(manifest.content)} | {name: value for name, value in optional if value}


def find_image(ctx: Ctx, tx: Tx, repository: Repository, image_id: Request) -> Manifest:
    """Raises ImageNotFoundException, InvalidParameterException."""
    found = _find(tx, repository, image_id)
    if isinstance(found, str):
        raise _not_found(ctx, repository, image_id, found)
    return found


def _find(tx: Tx, repository: Repository, image_id: Request) -> Manifest | str:
    """The manifest, or AWS's failure code."""
    digest, tag = image_id.get("imageDigest"), image_id.get("imageTag")
    if not digest and not tag:
        return "MissingDigestAndTag"
    if digest and not is_digest(digest):
        return "InvalidImageDigest"
    by_tag = rows.find_tag(tx, repository, tag) if tag else None
    if tag and by_tag is None:
        return "ImageNotFound"
    if digest and tag and by_tag != digest:
        return "ImageTagDoesNotMatchDigest"
    return rows.find_manifest(tx, repository, str(digest or by_tag)) or "ImageNotFound"


def _tags(tx: Tx, repository: Repository) -> defaultdict[str, list[str]]:
    """digest → its tags, by name."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for tag in rows.list_tags(tx, repository):
        found[tag.digest].append(tag.name)
    return found


def _tag_filter(request: Request) -> Callable[[bool], bool]:
    status = (request.get("filter") or {}).get("tagStatus", "ANY")
    return lambda tagged: status == "ANY" or tagged == (status == "TAGGED")


def _detail(ctx: Ctx, repository: Repository, manifest: Manifest, tags: defaultdict[str, list[str]]) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "registryId": ctx.account,
        "repositoryName": repository.name,
        "imageDigest": manifest.digest,
        "imageSizeInBytes": manifest.image_size,
        "imagePushedAt": manifest.pushed_at,
        "imageManifestMediaType": manifest.media_type,
    }
    optional: Sequence[tuple[str, Any]] = (
        ("imageTags", tags[manifest.digest]),
        ("artifactMediaType", manifest.artifact_type),
        ("subjectManifestDigest", manifest.subject),
    )
    return shown | {name: value for name, value in optional if value}


def _image(ctx: Ctx, repository: Repository, manifest: Manifest, tag: str) -> dict[str, Any]:
    return {
        "registryId": ctx.account,
        "repositoryName": repository.name,
        "imageId": _image_id(manifest.digest, tag),
        "imageManifest": manifest.content.decode(),
        "imageManifestMediaType": manifest.media_type,
    }


def _image_id(digest: str, tag: str) -> dict[str, str]:
    return {"imageDigest": digest} | ({"imageTag": tag} if tag else {})


def _failure(image_id: Request, code: str, more: str = "") -> dict[str, Any]:
    return {"imageId": dict(image_id), "failureCode": code, "failureReason": _REASONS[code] + more}


def _not_found(ctx: Ctx, repository: Repository, image_id: Request, code: str) -> ApiFault:
    if code in {"MissingDigestAndTag", "InvalidImageDigest"}:
        return invalid(_REASONS[code])
    digest, tag = image_id.get("imageDigest") or "null", image_id.get("imageTag") or "null"
    return ApiFault(
        "ImageNotFoundException",
        f"The image with imageId {{imageDigest:'{digest}', imageTag:'{tag}'}} does not exist within the repository "
        f"with name '{repository.name}' in the registry with id '{ctx.account}'",
    )


def _digest(manifest: Manifest) -> str:
    return manifest.digest
