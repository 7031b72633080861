"""The tables of the image registry, on the same `metadata` as the other tables.

    registry_repositories ──< registry_manifests      the manifest's own bytes
              ├──< registry_tags                      name → manifest digest
              ├──< registry_links >── registry_blobs  which blobs a repository may read; where each blob's bytes lie
              └──< registry_uploads                   blobs on their way in

Owns: columns and indexes. Does not own: statements (`store.registry_rows`, `store.registry_blobs`), the bytes of blobs
(`registry.files`).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from sagewright.store.tables import BYTEWISE, metadata

repositories: Final = Table(
    "registry_repositories",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("account", BYTEWISE, nullable=False),
    Column("region", BYTEWISE, nullable=False),
    Column("name", BYTEWISE, nullable=False),
    Column("created_at", BYTEWISE, nullable=False),
    Column("settings", Text, nullable=False),
    sqlite_autoincrement=True,  # an id is never given to a second repository
)
Index("registry_repositories_by_name", repositories.c.account, repositories.c.name, unique=True)

manifests: Final = Table(
    "registry_manifests",
    metadata,
    Column("repository_id", Integer, nullable=False),
    Column("digest", BYTEWISE, nullable=False),
    Column("media_type", BYTEWISE, nullable=False),
    Column("artifact_type", BYTEWISE),
    Column("subject", BYTEWISE),
    Column("image_size", BigInteger, nullable=False),  # bytes of config and layers, as ECR counts
    Column("pushed_at", BYTEWISE, nullable=False),
    Column("content", LargeBinary, nullable=False),
    PrimaryKeyConstraint("repository_id", "digest"),
)
Index("registry_manifests_by_subject", manifests.c.repository_id, manifests.c.subject)

tags: Final = Table(
    "registry_tags",
    metadata,
    Column("repository_id", Integer, nullable=False),
    Column("tag", BYTEWISE, nullable=False),
    Column("digest", BYTEWISE, nullable=False),
    Column("tagged_at", BYTEWISE, nullable=False),
    PrimaryKeyConstraint("repository_id", "tag"),
    sqlite_with_rowid=False,  # a listing reads one stretch of one tree
)
Index("registry_tags_by_digest", tags.c.repository_id, tags.c.digest)

blobs: Final = Table(
    "registry_blobs",
    metadata,
    Column("digest", BYTEWISE, primary_key=True),
    Column("file", BYTEWISE, nullable=False, unique=True),  # the id of the upload that brought it
    Column("size", BigInteger, nullable=False),
)

links: Final = Table(
    "registry_links",
    metadata,
    Column("repository_id", Integer, nullable=False),
    Column("digest", BYTEWISE, nullable=False),
    Column("used_at", BYTEWISE, nullable=False),  # when a push last asked for it or brought it
    PrimaryKeyConstraint("repository_id", "digest"),
)
Index("registry_links_by_digest", links.c.digest)

uploads: Final = Table(
    "registry_uploads",
    metadata,
    Column("id", BYTEWISE, primary_key=True),
    Column("repository_id", Integer, nullable=False),
    Column("started_at", BYTEWISE, nullable=False),
)

ALL: Final = (repositories, manifests, tags, blobs, links, uploads)
