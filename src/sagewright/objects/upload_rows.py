"""Uploads in parts, as rows: begun, growing, completed or gone.

    (begin) ──► open ──complete──► completed ──(a day later: sweep)──► gone
                  └──abort, bucket deleted──────────────────────────────┘

Owns: rows of uploads and parts. Does not own: S3's rules for them (`objects.multipart`), bytes (`objects.content`).
A completed upload keeps its outcome for a while, so that a client whose answer was lost may ask again.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson
from sqlalchemy import and_, bindparam, delete, insert, select, tuple_, update

from sagewright.core.clock import from_text, to_text
from sagewright.store.object_rows import Bucket, Rollup, after_prefix, change, release, rows, to_json
from sagewright.store.object_tables import parts, uploads
from sagewright.store.resources import Tx


@dataclass(frozen=True, slots=True)
class UploadRow:
    """`outcome` is set once completed: {"parts": [[number, etag], ...], "result": {...}}."""

    id: str
    bucket_id: int
    key: str
    initiated_at: datetime
    attributes: Mapping[str, Any]
    outcome: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class PartRow:
    number: int
    content_id: str
    size: int  # bytes
    etag: str
    modified_at: datetime
    checksums: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class UploadPage:
    """`next` is the last entry: (key, upload id), or (common prefix, "")."""

    uploads: tuple[UploadRow, ...]
    prefixes: tuple[str, ...]
    next: tuple[str, str] | None


_UPLOAD: Final = (
    uploads.c.id,
    uploads.c.bucket_id,
    uploads.c.key,
    uploads.c.initiated_at,
    uploads.c.attributes,
    uploads.c.outcome,
)
_PART: Final = (
    parts.c.number,
    parts.c.content_id,
    parts.c.size,
    parts.c.etag,
    parts.c.modified_at,
    parts.c.checksums,
)
_OF_UPLOAD: Final = parts.c.upload_id == bindparam("upload")
_OF_NUMBER: Final = and_(_OF_UPLOAD, parts.c.number == bindparam("of"))

_FIND: Final = select(*_UPLOAD).where(uploads.c.id == bindparam("upload"))
_FIND_PART: Final = select(*_PART).where(_OF_NUMBER)
_INSERT_PART: Final = insert(parts)
_UPDATE_PART: Final = (
    update(parts)
    .where(_OF_NUMBER)
    .values({name: bindparam(name) for name in ("content_id", "size", "etag", "modified_at", "checksums")})
)
_PARTS: Final = (
    select(*_PART)
    .where(_OF_UPLOAD, parts.c.number > bindparam("after"))
    .order_by(parts.c.number)
    .limit(bindparam("count"))
)
_PAGE: Final = (
    select(*_UPLOAD)
    .where(
        uploads.c.bucket_id == bindparam("bucket"),
        tuple_(uploads.c.key, uploads.c.id) > tuple_(bindparam("low"), bindparam("low_id")),
        uploads.c.key < bindparam("high"),
        uploads.c.completed_at.is_(None),
    )
    .order_by(uploads.c.key, uploads.c.id)
    .limit(bindparam("count"))
)


def new_upload_id() -> str:
    """Time-ordered, because uploads of one key are listed in the order in which they were begun."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(26)}"


def begin(tx: Tx, bucket: Bucket, key: str, attributes: Mapping[str, Any], now: datetime) -> str:
    upload_id = new_upload_id()
    values = {
        "id": upload_id,
        "bucket_id": bucket.id,
        "key": key.encode(),
        "initiated_at": to_text(now),
        "attributes": to_json(attributes),
    }
    tx.connection.execute(insert(uploads), values)
    return upload_id


def find(tx: Tx, bucket: Bucket, key: str, upload_id: str) -> UploadRow | None:
    """The upload of that id if it is one of this bucket and key, completed or not."""
    hits = rows(tx, _FIND, {"upload": upload_id})
    found = _upload(hits[0]) if hits else None
    return found if found and (found.bucket_id, found.key) == (bucket.id, key) else None


def put_part(tx: Tx, upload: UploadRow, part: PartRow) -> list[str]:
    """Add a part, or replace the one of that number. Returns released content."""
    values = {
        "content_id": part.content_id,
        "size": part.size,
        "etag": part.etag,
        "modified_at": to_text(part.modified_at),
        "checksums": to_json(part.checksums),
    }
    old = rows(tx, _FIND_PART, {"upload": upload.id, "of": part.number})
    if not old:
        change(tx, _INSERT_PART, {"upload_id": upload.id, "number": part.number, **values})
        return []
    change(tx, _UPDATE_PART, {"upload": upload.id, "of": part.number, **values})
    return release(tx, [_part(old[0]).content_id])


def list_parts(tx: Tx, upload_id: str, *, after: int = 0, limit: int = 10_000) -> list[PartRow]:
    """By number. `after` is exclusive."""
    values = {"upload": upload_id, "after": after, "count": limit}
    return [_part(row) for row in rows(tx, _PARTS, values)]


def complete(tx: Tx, upload: UploadRow, outcome: Mapping[str, Any], now: datetime) -> list[str]:
    """Close the upload and forget its parts, once the object's row names its content. Returns released content."""
    values = {"completed_at": to_text(now), "outcome": to_json(outcome)}
    tx.connection.execute(update(uploads).where(uploads.c.id == upload.id).values(**values))
    return _remove_parts(tx, [upload.id])


def remove(tx: Tx, upload: UploadRow) -> list[str]:
    """Returns released content."""
    tx.connection.execute(delete(uploads).where(uploads.c.id == upload.id))
    return _remove_parts(tx, [upload.id])


def remove_all(tx: Tx, bucket: Bucket) -> list[str]:
    """Every upload of a bucket. Returns released content."""
    found = tx.connection.execute(select(uploads.c.id).where(uploads.c.bucket_id == bucket.id))
    ids = [row[0] for row in found]
    tx.connection.execute(delete(uploads).where(uploads.c.bucket_id == bucket.id))
    released: list[str] = []
    for start in range(0, len(ids), 1000):
        released += _remove_parts(tx, ids[start : start + 1000])
    return released


def forget_completed(tx: Tx, before: datetime) -> None:
    """Drop what is kept of uploads that were completed before `before`."""
    tx.connection.execute(delete(uploads).where(uploads.c.completed_at < to_text(before)))


def list_page(
    tx: Tx,
    bucket: Bucket,
    *,
    prefix: str = "",
    delimiter: str = "",
    after: tuple[str, str] = ("", ""),
    limit: int = 1000,
) -> UploadPage:
    """Open uploads by key, then by age. After ("key", "") come all later keys; after ("key", "id") also the later
    uploads of that key."""
    rolled = Rollup(prefix.encode(), delimiter.encode())
    position = _start(rolled, after[0].encode(), after[1])
    found: list[UploadRow] = []
    prefixes: list[bytes] = []
    last = after
    while True:
        batch = _range(tx, bucket, position, after_prefix(rolled.prefix), limit + 1)
        for row in batch:
            if (row[2], row[0]) <= position:
                continue  # below a common prefix of this very batch
            if len(found) + len(prefixes) == limit:
                return UploadPage(tuple(found), tuple(part.decode() for part in prefixes), last)
            common = rolled.common(row[2])
            if common is None:
                found.append(_upload(row))
                position, last = (row[2], row[0]), (found[-1].key, row[0])
            else:
                prefixes.append(common)
                position, last = (after_prefix(common), ""), (common.decode(), "")
        if len(batch) <= limit:
            return UploadPage(tuple(found), tuple(part.decode() for part in prefixes), None)


def _start(rolled: Rollup, key: bytes, upload_id: str) -> tuple[bytes, str]:
    """The position behind which the listing begins. No upload has an empty id."""
    if upload_id and key >= rolled.prefix and rolled.common(key) is None:
        return key, upload_id
    return rolled.start(key), ""


def _range(tx: Tx, bucket: Bucket, position: tuple[bytes, str], high: bytes, count: int) -> Sequence[Sequence[Any]]:
    values = {"bucket": bucket.id, "low": position[0], "low_id": position[1], "high": high, "count": count}
    return rows(tx, _PAGE, values)


def _remove_parts(tx: Tx, upload_ids: Sequence[str]) -> list[str]:
    contents = tx.connection.execute(select(parts.c.content_id).where(parts.c.upload_id.in_(upload_ids)))
    ids = [row[0] for row in contents]
    tx.connection.execute(delete(parts).where(parts.c.upload_id.in_(upload_ids)))
    released: list[str] = []
    for start in range(0, len(ids), 1000):
        released += release(tx, ids[start : start + 1000])
    return released


def _upload(row: Sequence[Any]) -> UploadRow:
    outcome = orjson.loads(row[5]) if row[5] is not None else None
    return UploadRow(row[0], row[1], row[2].decode(), from_text(row[3]), orjson.loads(row[4]), outcome)


def _part(row: Sequence[Any]) -> PartRow:
    return PartRow(row[0], row[1], row[2], row[3], from_text(row[4]), orjson.loads(row[5]))
