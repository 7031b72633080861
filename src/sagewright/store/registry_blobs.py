"""Blobs of the image registry as rows: who may read which, where the bytes are, what is on its way in.

Owns: reading and writing links, blobs and uploads; which of them nobody needs any more. Does not own: bytes
(`registry.files`), when a sweep runs (`registry.sweep`).

A blob's file is named by the upload that brought it, never by the digest: a file whose row was taken away can be
removed after the commit, and a push of the same digest meanwhile has a file of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, insert, select, update

from sagewright.core.clock import from_text, to_text
from sagewright.core.image_manifests import ManifestUnreadable, parse
from sagewright.store.registry_rows import Repository
from sagewright.store.registry_tables import blobs, links, manifests, uploads
from sagewright.store.resources import Tx


@dataclass(frozen=True, slots=True)
class Blob:
    """`used_at` is when a push last asked for it in the repository where it was looked up."""

    digest: str
    file: str
    size: int  # bytes
    used_at: datetime


def find(tx: Tx, repository: Repository, digest: str) -> Blob | None:
    """None when the repository may not read it, even if another one holds it."""
    statement = (
        select(blobs.c.digest, blobs.c.file, blobs.c.size, links.c.used_at)
        .select_from(links.join(blobs, blobs.c.digest == links.c.digest))
        .where(links.c.repository_id == repository.id, links.c.digest == digest)
    )
    row = tx.connection.execute(statement).first()
    return Blob(row.digest, row.file, row.size, from_text(row.used_at)) if row else None


def file_of(tx: Tx, digest: str) -> str | None:
    """Where the bytes are, whoever may read them."""
    return tx.connection.scalar(select(blobs.c.file).where(blobs.c.digest == digest))


def link(tx: Tx, repository: Repository, digest: str, *, now: datetime) -> None:
    """Let the repository read a blob that exists, and keep it from the sweep for a while."""
    unlink(tx, repository, digest)
    values = {"repository_id": repository.id, "digest": digest, "used_at": to_text(now)}
    tx.connection.execute(insert(links), values)


def unlink(tx: Tx, repository: Repository, digest: str) -> bool:
    gone = delete(links).where(links.c.repository_id == repository.id, links.c.digest == digest)
    return tx.connection.execute(gone).rowcount > 0


def insert_blob(tx: Tx, digest: str, file: str, size: int) -> None:
    tx.connection.execute(insert(blobs), {"digest": digest, "file": file, "size": size})


def move_blob(tx: Tx, digest: str, file: str, size: int) -> None:
    """The bytes are elsewhere now: the file that the row named is lost."""
    tx.connection.execute(update(blobs).where(blobs.c.digest == digest).values(file=file, size=size))


# -- uploads ---------------------------------------------------------------------------------------------------------


def begin_upload(tx: Tx, repository: Repository, upload: str, *, now: datetime) -> None:
    values = {"id": upload, "repository_id": repository.id, "started_at": to_text(now)}
    tx.connection.execute(insert(uploads), values)


def has_upload(tx: Tx, repository: Repository, upload: str) -> bool:
    statement = select(uploads.c.id).where(uploads.c.id == upload, uploads.c.repository_id == repository.id)
    return tx.connection.scalar(statement) is not None


def end_upload(tx: Tx, upload: str) -> bool:
    """False when it was not under way."""
    return tx.connection.execute(delete(uploads).where(uploads.c.id == upload)).rowcount > 0


def uploads_before(tx: Tx, moment: datetime) -> list[str]:
    """Uploads that were begun before `moment`."""
    return list(tx.connection.scalars(select(uploads.c.id).where(uploads.c.started_at < to_text(moment))))


# -- what nobody needs -----------------------------------------------------------------------------------------------


def remove_unused(tx: Tx, before: datetime) -> list[str]:
    """Take away links that no manifest of their repository needs and no push asked for since `before`, then blobs
    without a link. Returns the files that no row names now: remove them after the commit."""
    for repository, digest in list(_unused_links(tx, before)):
        tx.connection.execute(delete(links).where(links.c.repository_id == repository, links.c.digest == digest))
    bare = blobs.c.digest.not_in(select(links.c.digest))
    files = list(tx.connection.scalars(select(blobs.c.file).where(bare)))
    tx.connection.execute(delete(blobs).where(bare))
    return files


def named_files(tx: Tx, files: Collection[str]) -> set[str]:
    """Those of `files` that a blob or an upload names."""
    wanted = list(files)
    return {
        *tx.connection.scalars(select(blobs.c.file).where(blobs.c.file.in_(wanted))),
        *tx.connection.scalars(select(uploads.c.id).where(uploads.c.id.in_(wanted))),
    }


def _unused_links(tx: Tx, before: datetime) -> Iterator[tuple[int, str]]:
    old: dict[int, set[str]] = {}
    statement = select(links.c.repository_id, links.c.digest).where(links.c.used_at < to_text(before))
    for row in tx.connection.execute(statement):
        old.setdefault(row.repository_id, set()).add(row.digest)
    for repository, digests in old.items():
        yield from ((repository, digest) for digest in sorted(digests - _needed(tx, repository)))


def _needed(tx: Tx, repository: int) -> set[str]:
    statement = select(manifests.c.content, manifests.c.media_type).where(manifests.c.repository_id == repository)
    needed: set[str] = set()
    for row in tx.connection.execute(statement):
        try:
            needed.update(parse(bytes(row.content), row.media_type).blobs)
        except ManifestUnreadable as error:  # cannot be: it was read before it was kept
            raise AssertionError(f"a manifest in the store cannot be read: {error}") from error
    return needed
