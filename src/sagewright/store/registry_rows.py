"""Repositories, manifests and tags as rows, over one transaction. For `registry` and for ECR's operations.

Owns: reading and writing these rows. Does not own: blobs and uploads (`store.registry_blobs`), the checks of a push
(`store.registry_push`), errors of either protocol.

A repository is seen from every region: the name in an image's address says nothing of one. `region` is where it
was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import delete, insert, select, update

from sagewright.core.clock import from_text, to_text
from sagewright.core.errors import AlreadyExists
from sagewright.core.image_manifests import parse
from sagewright.store.registry_tables import links, manifests, repositories, tags, uploads
from sagewright.store.resources import Tx


@dataclass(frozen=True, slots=True)
class Repository:
    """`settings` has ECR's own member names: imageTagMutability, imageScanningConfiguration, lifecyclePolicyText ..."""

    id: int
    account: str
    region: str
    name: str
    created_at: datetime
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """`content` is what was pushed, byte for byte: `digest` is over it."""

    digest: str
    media_type: str
    artifact_type: str | None
    subject: str | None  # the digest of the manifest that this one is about
    image_size: int  # bytes
    pushed_at: datetime
    content: bytes


@dataclass(frozen=True, slots=True)
class Tag:
    name: str
    digest: str
    tagged_at: datetime


_MANIFEST: Final = (
    manifests.c.digest,
    manifests.c.media_type,
    manifests.c.artifact_type,
    manifests.c.subject,
    manifests.c.image_size,
    manifests.c.pushed_at,
    manifests.c.content,
)


# -- repositories ----------------------------------------------------------------------------------------------------


def create_repository(
    tx: Tx, *, account: str, region: str, name: str, now: datetime, settings: Mapping[str, Any]
) -> Repository:
    """Raises AlreadyExists."""
    if find_repository(tx, account, name) is not None:
        raise AlreadyExists(name)
    values = {"account": account, "region": region, "name": name, "created_at": to_text(now)}
    tx.connection.execute(insert(repositories), values | {"settings": _to_json(settings)})
    made = find_repository(tx, account, name)
    assert made is not None, "it was inserted in this transaction"
    return made


def find_repository(tx: Tx, account: str, name: str) -> Repository | None:
    statement = select(repositories).where(repositories.c.account == account, repositories.c.name == name)
    row = tx.connection.execute(statement).first()
    return _repository(row) if row else None


def list_repositories(tx: Tx, account: str, *, after: str = "", limit: int = 1000) -> list[Repository]:
    """By name. `after` is exclusive."""
    statement = (
        select(repositories)
        .where(repositories.c.account == account, repositories.c.name > after)
        .order_by(repositories.c.name)
        .limit(limit)
    )
    return [_repository(row) for row in tx.connection.execute(statement)]


def set_settings(tx: Tx, repository: Repository, settings: Mapping[str, Any]) -> None:
    changed = update(repositories).where(repositories.c.id == repository.id)
    tx.connection.execute(changed.values(settings=_to_json(settings)))


def remove_repository(tx: Tx, repository: Repository) -> None:
    """With all that is in it. The bytes of blobs that nobody reads any more go with a later sweep."""
    for table in (manifests, tags, links, uploads):
        tx.connection.execute(delete(table).where(table.c.repository_id == repository.id))
    tx.connection.execute(delete(repositories).where(repositories.c.id == repository.id))


# -- manifests -------------------------------------------------------------------------------------------------------


def find_manifest(tx: Tx, repository: Repository, digest: str) -> Manifest | None:
    statement = select(*_MANIFEST).where(manifests.c.repository_id == repository.id, manifests.c.digest == digest)
    row = tx.connection.execute(statement).first()
    return _manifest(row) if row else None


def list_manifests(tx: Tx, repository: Repository) -> list[Manifest]:
    """All of them, the first pushed first."""
    statement = (
        select(*_MANIFEST)
        .where(manifests.c.repository_id == repository.id)
        .order_by(manifests.c.pushed_at, manifests.c.digest)
    )
    return [_manifest(row) for row in tx.connection.execute(statement)]


def list_referrers(tx: Tx, repository: Repository, subject: str) -> list[Manifest]:
    """Manifests that say they are about `subject`, which need not exist."""
    statement = (
        select(*_MANIFEST)
        .where(manifests.c.repository_id == repository.id, manifests.c.subject == subject)
        .order_by(manifests.c.pushed_at, manifests.c.digest)
    )
    return [_manifest(row) for row in tx.connection.execute(statement)]


def put_manifest(tx: Tx, repository: Repository, manifest: Manifest) -> None:
    """A manifest that is there already stays as it is."""
    if find_manifest(tx, repository, manifest.digest) is not None:
        return
    values = {
        "repository_id": repository.id,
        "digest": manifest.digest,
        "media_type": manifest.media_type,
        "artifact_type": manifest.artifact_type,
        "subject": manifest.subject,
        "image_size": manifest.image_size,
        "pushed_at": to_text(manifest.pushed_at),
        "content": manifest.content,
    }
    tx.connection.execute(insert(manifests), values)


def holder_of(tx: Tx, repository: Repository, digest: str) -> str | None:
    """A manifest of the repository that needs this blob or lists this manifest; it must go before the part does."""
    for each in list_manifests(tx, repository):
        parsed = parse(each.content, each.media_type)
        if digest in parsed.blobs or digest in parsed.manifests:
            return each.digest
    return None


def remove_manifest(tx: Tx, repository: Repository, digest: str) -> bool:
    """With its tags. False when there was none."""
    tx.connection.execute(delete(tags).where(tags.c.repository_id == repository.id, tags.c.digest == digest))
    gone = delete(manifests).where(manifests.c.repository_id == repository.id, manifests.c.digest == digest)
    return tx.connection.execute(gone).rowcount > 0


# -- tags ------------------------------------------------------------------------------------------------------------


def find_tag(tx: Tx, repository: Repository, name: str) -> str | None:
    """The digest that a tag names."""
    return tx.connection.scalar(select(tags.c.digest).where(tags.c.repository_id == repository.id, tags.c.tag == name))


def list_tags(tx: Tx, repository: Repository, *, after: str = "", limit: int | None = None) -> list[Tag]:
    """By name. `after` is exclusive; all of them without a limit."""
    statement = (
        select(tags.c.tag, tags.c.digest, tags.c.tagged_at)
        .where(tags.c.repository_id == repository.id, tags.c.tag > after)
        .order_by(tags.c.tag)
        .limit(limit)
    )
    return [Tag(row.tag, row.digest, from_text(row.tagged_at)) for row in tx.connection.execute(statement)]


def set_tag(tx: Tx, repository: Repository, name: str, digest: str, *, now: datetime) -> None:
    """Point the tag at a manifest, whatever it named before."""
    remove_tag(tx, repository, name)
    values = {"repository_id": repository.id, "tag": name, "digest": digest, "tagged_at": to_text(now)}
    tx.connection.execute(insert(tags), values)


def remove_tag(tx: Tx, repository: Repository, name: str) -> bool:
    """False when there was none. Its manifest stays."""
    gone = delete(tags).where(tags.c.repository_id == repository.id, tags.c.tag == name)
    return tx.connection.execute(gone).rowcount > 0


def resolve(tx: Tx, repository: Repository, reference: str) -> Manifest | None:
    """The manifest that a tag or a digest names."""
    digest = reference if ":" in reference else find_tag(tx, repository, reference)
    return find_manifest(tx, repository, digest) if digest else None


def _repository(row: Any) -> Repository:
    return Repository(row.id, row.account, row.region, row.name, from_text(row.created_at), orjson.loads(row.settings))


def _manifest(row: Any) -> Manifest:
    return Manifest(
        digest=row.digest,
        media_type=row.media_type,
        artifact_type=row.artifact_type,
        subject=row.subject,
        image_size=row.image_size,
        pushed_at=from_text(row.pushed_at),
        content=bytes(row.content),
    )


def _to_json(value: Mapping[str, Any]) -> str:
    return orjson.dumps(dict(value)).decode()
