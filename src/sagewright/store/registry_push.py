"""Putting a manifest into a repository: what must hold for it, for `docker push` and for ECR's PutImage alike.

Owns: these checks. Does not own: reading a manifest (`core.image_manifests`), either protocol's errors.
"""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase

from sqlalchemy import select

from sagewright.core.image_manifests import digest_of, parse
from sagewright.store import registry_rows
from sagewright.store.registry_rows import Manifest, Repository
from sagewright.store.registry_tables import links
from sagewright.store.resources import Tx


class BlobMissing(Exception):
    """A config or layer is not in the repository; the argument is its digest."""


class ManifestMissing(Exception):
    """A manifest that an index lists is not in the repository; the argument is its digest."""


class TagTaken(Exception):
    """The tag names another manifest and the repository's tags are immutable; the argument is the tag."""


def push(
    tx: Tx,
    repository: Repository,
    content: bytes,
    media_type: str | None,
    tag: str | None,
    *,
    now: datetime,
    digest: str | None = None,
) -> Manifest:
    """`digest` is the content's own, when the client named it by one. Pushing the same again changes nothing.

    Raises ManifestUnreadable, BlobMissing, ManifestMissing, TagTaken.
    """
    parsed = parse(content, media_type)
    missing = _missing(tx, repository, parsed.blobs)
    if missing is not None:
        raise BlobMissing(missing)
    for listed in parsed.manifests:
        if registry_rows.find_manifest(tx, repository, listed) is None:
            raise ManifestMissing(listed)
    manifest = Manifest(
        digest=digest or digest_of(content),
        media_type=parsed.media_type,
        artifact_type=parsed.artifact_type,
        subject=parsed.subject,
        image_size=parsed.image_size,
        pushed_at=now,
        content=content,
    )
    before = registry_rows.find_tag(tx, repository, tag) if tag else None
    if tag and before is not None and before != manifest.digest and is_immutable(repository, tag):
        raise TagTaken(tag)
    registry_rows.put_manifest(tx, repository, manifest)
    if tag and before != manifest.digest:
        registry_rows.set_tag(tx, repository, tag, manifest.digest, now=now)
    return manifest


def is_immutable(repository: Repository, tag: str) -> bool:
    """Whether the tag, once set, may not name another manifest."""
    kind = repository.settings.get("imageTagMutability") or "MUTABLE"
    filters = repository.settings.get("imageTagMutabilityExclusionFilters") or ()
    excluded = any(fnmatchcase(tag, each["filter"].replace("[", "[[]")) for each in filters)
    return excluded if kind == "MUTABLE_WITH_EXCLUSION" else kind.startswith("IMMUTABLE") and not excluded


def _missing(tx: Tx, repository: Repository, digests: tuple[str, ...]) -> str | None:
    """The first of `digests` that is not linked into the repository."""
    if not digests:
        return None
    statement = select(links.c.digest).where(links.c.repository_id == repository.id, links.c.digest.in_(digests))
    there = set(tx.connection.scalars(statement))
    return next((digest for digest in digests if digest not in there), None)
