"""Mark and sweep: content that no row names, left behind by a crash between two steps.

Owns: finding and removing it, forgetting uploads that were completed long ago. Does not own: when it runs (`app`),
files that were never made visible (`blobs.files` removes those at the next start).

Content is durable before its row is committed, so a young file may be about to be named: nothing younger than the grace
is touched. A name once gone never comes back: copies are made of named content only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from sagewright.blobs.base import BlobStat, BlobStore
from sagewright.core.clock import Clock, SystemClock
from sagewright.objects import upload_rows
from sagewright.objects.content import content_folder, content_path
from sagewright.store import object_rows
from sagewright.store.resources import Store, Tx

KEEP_COMPLETED: Final = timedelta(days=1)
"""How long a completed upload is remembered, so that a client may ask again for its outcome."""

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Swept:
    removed: int
    bytes: int


def sweep(store: Store, blobs: BlobStore, older_than: timedelta, clock: Clock | None = None) -> Swept:
    """Remove what no row names and nobody has written to for `older_than`. Safe beside any number of servers.

    `older_than` must exceed the time between the last byte of an upload and its row: a second usually, so give an hour.
    Blobs that do not lie on this machine have no age that could be asked for, and are left alone.
    """
    removed = size = 0
    now = (clock or SystemClock()).now()
    for content_id, held in orphans(store, blobs, now - older_than):
        blobs.delete(content_path(content_id))
        removed += 1
        size += held
    store.write(lambda tx: upload_rows.forget_completed(tx, now - KEEP_COMPLETED))
    return Swept(removed, size)


def orphans(store: Store, blobs: BlobStore, before: datetime) -> Iterator[tuple[str, int]]:
    """Content that no row names and nobody has written to since `before`, and its bytes."""
    latest = before.timestamp()
    candidates = (stat for stat in blobs.list(content_folder()) if _written(blobs, stat) <= latest)
    while batch := {stat.path.rpartition("/")[2]: stat.size for stat in islice(candidates, _BATCH)}:
        named = store.read(partial(_named, tuple(batch)))
        yield from ((content_id, batch[content_id]) for content_id in batch.keys() - named)


def _named(contents: Sequence[str], tx: Tx) -> set[str]:
    return object_rows.named(tx, contents)


def _written(blobs: BlobStore, stat: BlobStat) -> float:
    """When the last byte was written, in seconds since 1970; infinitely late when that cannot be known."""
    path = blobs.local_path(stat.path)
    try:
        return path.stat().st_mtime if path else float("inf")
    except FileNotFoundError:
        return float("inf")  # removed just now
