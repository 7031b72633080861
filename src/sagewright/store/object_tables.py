"""The tables of S3 metadata, on the same `metadata` as the other tables.

    s3_buckets ──< s3_objects >── content id ──  bytes in the blob store
         └──< s3_uploads ──< s3_parts >── content id
                     s3_layouts: where the parts of one content begin, for objects that were uploaded in parts

Owns: columns and indexes. Does not own: statements (`store.object_rows`, `objects.upload_rows`), the bytes (`blobs`).

Several objects may name the same content id: CopyObject copies rows, not bytes. Content is removed when the last row
that names it is gone. Keys are bytes, UTF-8 encoded: both databases compare them as S3 orders keys, and a key may hold
any character, also NUL, which PostgreSQL's text cannot.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, PrimaryKeyConstraint, Table, Text

from sagewright.store.tables import BYTEWISE, metadata

buckets: Final = Table(
    "s3_buckets",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("name", BYTEWISE, nullable=False, unique=True),
    Column("account", BYTEWISE, nullable=False),
    Column("region", BYTEWISE, nullable=False),
    Column("created_at", BYTEWISE, nullable=False),
    Column("settings", Text, nullable=False),
    sqlite_autoincrement=True,  # an id is never given to a second bucket
)

objects: Final = Table(
    "s3_objects",
    metadata,
    Column("bucket_id", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("content_id", BYTEWISE, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", BYTEWISE, nullable=False),
    Column("modified_at", BYTEWISE, nullable=False),
    Column("attributes", Text, nullable=False),
    PrimaryKeyConstraint("bucket_id", "key"),
    sqlite_with_rowid=False,  # a listing reads one stretch of one tree
)
Index("s3_objects_by_content", objects.c.content_id)

layouts: Final = Table(
    "s3_layouts",
    metadata,
    Column("content_id", BYTEWISE, primary_key=True),
    Column("parts", Text, nullable=False),
)

uploads: Final = Table(
    "s3_uploads",
    metadata,
    Column("id", BYTEWISE, primary_key=True),
    Column("bucket_id", Integer, nullable=False),
    Column("key", LargeBinary, nullable=False),
    Column("initiated_at", BYTEWISE, nullable=False),
    Column("attributes", Text, nullable=False),
    Column("completed_at", BYTEWISE),
    Column("outcome", Text),
)
Index("s3_uploads_by_key", uploads.c.bucket_id, uploads.c.key, uploads.c.id)

parts: Final = Table(
    "s3_parts",
    metadata,
    Column("upload_id", BYTEWISE, nullable=False),
    Column("number", Integer, nullable=False),
    Column("content_id", BYTEWISE, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("etag", BYTEWISE, nullable=False),
    Column("modified_at", BYTEWISE, nullable=False),
    Column("checksums", Text, nullable=False),
    PrimaryKeyConstraint("upload_id", "number"),
)
Index("s3_parts_by_content", parts.c.content_id)

ALL: Final = (buckets, objects, layouts, uploads, parts)
"""What migration 2 makes."""
