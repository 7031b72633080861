"""Buckets and objects as rows, over one transaction. For `objects`, and for `services` that ask what exists.

Owns: reading and writing bucket and object rows, the order of keys, pages of a listing, which content nobody names any
more. Does not own: the bytes, S3's rules and errors (`objects`), uploads in parts (`objects.upload_rows`).

A function that takes a content away from a row answers with the content id that is now *released*: no row names it, and
the caller removes its bytes after the commit, never before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson
from sqlalchemy import ClauseElement, ColumnElement, Dialect, and_, bindparam, delete, insert, select, union_all, update
from sqlalchemy import Select as _Select

from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import Account
from sagewright.store.object_tables import buckets, layouts, objects, parts
from sagewright.store.resources import Tx
from sagewright.store.rows import Cursor, Prepared

Values = Sequence[Any]  # one row as the database gives it

AFTER_ALL_KEYS: Final = b"\xff"
"""Greater than every key: 0xFF occurs in no UTF-8 text."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """`settings` holds what was put on the bucket, by topic: {"tags": {...}, "policy": "...", ...}."""

    id: int
    name: str
    account: str
    region: str
    created_at: datetime
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ObjectRow:
    """`etag` has no quotes. `attributes` is what `objects.attributes` makes of the request that wrote the object."""

    key: str
    content_id: str
    size: int  # bytes
    etag: str
    modified_at: datetime
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ListPage:
    """`next` is the last entry (key or common prefix) of this page, to hand in as `after`; None when it is the last."""

    objects: tuple[ObjectRow, ...]
    prefixes: tuple[str, ...]
    next: str | None


_OBJECT: Final = (
    objects.c.key,
    objects.c.content_id,
    objects.c.size,
    objects.c.etag,
    objects.c.modified_at,
    objects.c.attributes,
)
_BUCKET: Final = (
    buckets.c.id,
    buckets.c.name,
    buckets.c.account,
    buckets.c.region,
    buckets.c.created_at,
    buckets.c.settings,
)
_IS_OBJECT: Final = and_(objects.c.bucket_id == bindparam("bucket"), objects.c.key == bindparam("of"))
_WITH_NAME: Final = buckets.c.name == bindparam("of_name")

_FIND_BUCKET: Final = select(*_BUCKET).where(_WITH_NAME)
_FIND: Final = (
    select(*_BUCKET, *_OBJECT)
    .select_from(
        buckets.outerjoin(objects, and_(objects.c.bucket_id == buckets.c.id, objects.c.key == bindparam("of")))
    )
    .where(_WITH_NAME)
)
_GET: Final = select(*_OBJECT).where(_IS_OBJECT)
_INSERT: Final = insert(objects)
_UPDATE: Final = (
    update(objects)
    .where(_IS_OBJECT)
    .values({name: bindparam(name) for name in ("content_id", "size", "etag", "modified_at", "attributes")})
)
_DELETE: Final = delete(objects).where(_IS_OBJECT)
_PAGE: Final = (
    select(*_OBJECT)
    .where(
        objects.c.bucket_id == bindparam("bucket"), objects.c.key >= bindparam("low"), objects.c.key < bindparam("high")
    )
    .order_by(objects.c.key)
    .limit(bindparam("count"))
)
_NAMED: Final = union_all(
    select(objects.c.content_id).where(objects.c.content_id.in_(bindparam("ids", expanding=True))),
    select(parts.c.content_id).where(parts.c.content_id.in_(bindparam("ids", expanding=True))),
)
_NAMED_ONE: Final = union_all(
    select(objects.c.content_id).where(objects.c.content_id == bindparam("content")),
    select(parts.c.content_id).where(parts.c.content_id == bindparam("content")),
)
_FORGET_LAYOUT: Final = delete(layouts).where(layouts.c.content_id == bindparam("content"))


# -- buckets ---------------------------------------------------------------------------------------------------------


def find_bucket(tx: Tx, name: str) -> Bucket | None:
    row = _first(tx, _FIND_BUCKET, {"of_name": name})
    return _bucket(row) if row else None


def bucket_exists(tx: Tx, account: Account, bucket: str) -> bool:
    """Whether `account` owns a bucket of this name."""
    found = find_bucket(tx, bucket)
    return found is not None and found.account == account


def insert_bucket(tx: Tx, *, name: str, account: str, region: str, now: datetime, settings: Mapping[str, Any]) -> None:
    """The caller has seen in this transaction that the name is free."""
    values = {
        "name": name,
        "account": account,
        "region": region,
        "created_at": to_text(now),
        "settings": to_json(settings),
    }
    tx.connection.execute(insert(buckets), values)


def set_settings(tx: Tx, bucket: Bucket, settings: Mapping[str, Any]) -> None:
    tx.connection.execute(update(buckets).where(buckets.c.id == bucket.id).values(settings=to_json(settings)))


def remove_bucket(tx: Tx, bucket: Bucket) -> None:
    """The caller has seen in this transaction that it is empty."""
    tx.connection.execute(delete(buckets).where(buckets.c.id == bucket.id))


def list_buckets(tx: Tx, account: str, *, prefix: str, region: str | None, after: str, limit: int) -> list[Bucket]:
    """By name. `after` is exclusive."""
    where: list[ColumnElement[bool]] = [buckets.c.account == account, buckets.c.name > after]
    if prefix:
        where.append(buckets.c.name.startswith(prefix, autoescape=True))
    if region:
        where.append(buckets.c.region == region)
    statement: _Select[Any] = select(*_BUCKET).where(*where).order_by(buckets.c.name).limit(limit)
    return [_bucket(row) for row in tx.connection.execute(statement)]


# -- objects ---------------------------------------------------------------------------------------------------------


def find(tx: Tx, bucket: str, key: str) -> tuple[Bucket | None, ObjectRow | None]:
    """Bucket and object in one look, each None when it does not exist."""
    row = _first(tx, _FIND, {"of_name": bucket, "of": key.encode()})
    if row is None:
        return None, None
    return _bucket(row), _object(row[len(_BUCKET) :]) if row[len(_BUCKET)] is not None else None


def get(tx: Tx, bucket: Bucket, key: str) -> ObjectRow | None:
    row = _first(tx, _GET, {"bucket": bucket.id, "of": key.encode()})
    return _object(row) if row else None


def put(tx: Tx, bucket: Bucket, row: ObjectRow, *, old: ObjectRow | None) -> list[str]:
    """Point the key at new content. `old` is what this transaction has read. Returns released content."""
    values = {
        "content_id": row.content_id,
        "size": row.size,
        "etag": row.etag,
        "modified_at": to_text(row.modified_at),
        "attributes": to_json(row.attributes),
    }
    if old is None:
        change(tx, _INSERT, {"bucket_id": bucket.id, "key": row.key.encode(), **values})
        return []
    change(tx, _UPDATE, {"bucket": bucket.id, "of": row.key.encode(), **values})
    return release(tx, [old.content_id])


def remove(tx: Tx, bucket: Bucket, gone: Iterable[ObjectRow]) -> list[str]:
    """Take rows away that were read in this transaction. Returns released content."""
    contents = []
    for row in gone:
        change(tx, _DELETE, {"bucket": bucket.id, "of": row.key.encode()})
        contents.append(row.content_id)
    return release(tx, contents)


def any_object(tx: Tx, bucket: str, prefix: str) -> bool:
    """Whether the bucket exists and holds a key that starts with `prefix`."""
    found = find_bucket(tx, bucket)
    if found is None:
        return False
    return bool(_range(tx, found, prefix.encode(), after_prefix(prefix.encode()), 1))


# -- content ---------------------------------------------------------------------------------------------------------


def named(tx: Tx, contents: Sequence[str]) -> set[str]:
    """Those of `contents` that an object or a part names."""
    if len(contents) == 1:
        return {row[0] for row in rows(tx, _NAMED_ONE, {"content": contents[0]})}
    if not contents:
        return set()
    return {row[0] for row in tx.connection.execute(_NAMED, {"ids": list(contents)})}


def release(tx: Tx, contents: Sequence[str]) -> list[str]:
    """Those of `contents` that no row names any more; what was noted about them goes too."""
    kept = named(tx, contents)
    released = [content for content in dict.fromkeys(contents) if content not in kept]
    for content in released:
        change(tx, _FORGET_LAYOUT, {"content": content})
    return released


def set_layout(tx: Tx, content_id: str, layout: Sequence[Mapping[str, Any]]) -> None:
    """Note of which parts a content was made: {"number", "size", "checksums"} each."""
    tx.connection.execute(insert(layouts), {"content_id": content_id, "parts": to_json(layout)})


def get_layout(tx: Tx, content_id: str) -> list[dict[str, Any]] | None:
    text = tx.connection.scalar(select(layouts.c.parts).where(layouts.c.content_id == content_id))
    return None if text is None else orjson.loads(text)


# -- listing ---------------------------------------------------------------------------------------------------------


def list_page(
    tx: Tx, bucket: Bucket, *, prefix: str = "", delimiter: str = "", after: str = "", limit: int = 1000
) -> ListPage:
    """The next `limit` entries after `after`: keys, and common prefixes up to the first `delimiter` behind `prefix`.

    An entry is listed when it is greater than `after`, as bytes; so is a common prefix. A common prefix costs one seek
    however many keys lie under it.
    """
    rolled = Rollup(prefix.encode(), delimiter.encode())
    low, high = rolled.start(after.encode()), after_prefix(prefix.encode())
    found: list[ObjectRow] = []
    prefixes: list[bytes] = []
    batch = 16 if delimiter else limit + 1
    last = ""
    while True:
        batch_rows = _range(tx, bucket, low, high, min(batch, limit + 1))
        before = len(found) + len(prefixes)
        for row in batch_rows:
            if row[0] < low:
                continue  # below a common prefix of this very batch
            if len(found) + len(prefixes) == limit:
                return ListPage(tuple(found), tuple(part.decode() for part in prefixes), last)
            common = rolled.common(row[0])
            if common is None:
                found.append(_object(row))
                low, last = row[0] + b"\0", found[-1].key
            else:
                prefixes.append(common)
                low, last = after_prefix(common), common.decode()
        if len(batch_rows) < min(batch, limit + 1):
            return ListPage(tuple(found), tuple(part.decode() for part in prefixes), None)
        useful = len(found) + len(prefixes) - before
        batch = batch * 4 if useful * 4 > len(batch_rows) else 16


@dataclass(frozen=True, slots=True)
class Rollup:
    """Keys rolled up into common prefixes. Without a delimiter nothing is."""

    prefix: bytes
    delimiter: bytes

    def common(self, key: bytes) -> bytes | None:
        if not self.delimiter:
            return None
        at = key.find(self.delimiter, len(self.prefix))
        return None if at < 0 else key[: at + len(self.delimiter)]

    def start(self, after: bytes) -> bytes:
        """The least key whose entry may be greater than `after`."""
        if not after or after < self.prefix:
            return self.prefix
        common = self.common(after) if after.startswith(self.prefix) else None
        return after_prefix(common) if common else after + b"\0"


def after_prefix(prefix: bytes) -> bytes:
    """The least text that is greater than every key that starts with `prefix`."""
    return prefix[:-1] + bytes([prefix[-1] + 1]) if prefix else AFTER_ALL_KEYS


def to_json(value: object) -> str:
    return orjson.dumps(value).decode()


def rows(tx: Tx, statement: ClauseElement, values: dict[str, Any]) -> Sequence[Values]:
    """Run a statement all of whose values are bind parameters. On the driver's cursor: a look-up through Core's
    execution machinery takes ten times as long."""
    return _prepared(statement, tx.connection.dialect).run(_cursor(tx), values)


def change(tx: Tx, statement: ClauseElement, values: dict[str, Any]) -> None:
    _prepared(statement, tx.connection.dialect).change(_cursor(tx), values)


@lru_cache(maxsize=128)
def _prepared(statement: ClauseElement, dialect: Dialect) -> Prepared:
    return Prepared(statement, dialect)


def _cursor(tx: Tx) -> Cursor:
    cursor: Cursor = tx.connection.connection.cursor()
    return cursor


def _range(tx: Tx, bucket: Bucket, low: bytes, high: bytes, count: int) -> Sequence[Values]:
    return rows(tx, _PAGE, {"bucket": bucket.id, "low": low, "high": high, "count": count})


def _first(tx: Tx, statement: ClauseElement, values: dict[str, Any]) -> Values | None:
    found = rows(tx, statement, values)
    return found[0] if found else None


def _bucket(row: Values) -> Bucket:
    return Bucket(row[0], row[1], row[2], row[3], from_text(row[4]), orjson.loads(row[5]))


def _object(row: Values) -> ObjectRow:
    return ObjectRow(row[0].decode(), row[1], row[2], row[3], from_text(row[4]), orjson.loads(row[5]))
