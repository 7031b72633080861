"""Garbage collection: links that no manifest needs, blobs without a link, uploads given up, files without a row.

Owns: the order, ages. Does not own: when it runs (`app.controller`), the statements (`store.registry_blobs`).

What a push has asked for, brought or mounted within the grace is left alone, so a push may take its manifest's time.
Rows go in one transaction and files after it; a file's name is never given again, so no later push can lose by that.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from itertools import islice
from typing import Final

from sagewright.core.clock import Clock, SystemClock
from sagewright.registry.files import Files
from sagewright.store import registry_blobs
from sagewright.store.resources import Store, Tx

KEEP_UPLOADS: Final = timedelta(days=1)
"""An upload to which nothing was written for so long is given up."""
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Swept:
    """How many files went."""

    removed: int


def sweep(store: Store, files: Files, older_than: timedelta, clock: Clock | None = None) -> Swept:
    """Safe beside any number of servers."""
    now = (clock or SystemClock()).now()
    gone = store.write(partial(_take_away, files, now, now - older_than))
    latest = (now - older_than).timestamp()
    names = (name for name in list(files.names()) if (files.last_written(name) or float("inf")) <= latest)
    while batch := list(islice(names, _BATCH)):
        named = store.read(partial(_named, batch))
        gone.extend(name for name in batch if name not in named)
    removed = set(gone)
    for name in removed:
        files.remove(name)
    return Swept(len(removed))


def orphans(store: Store, files: Files, older_than: timedelta, clock: Clock | None = None) -> list[str]:
    """The files that a sweep would remove now. Changes nothing."""
    now = (clock or SystemClock()).now()
    found: list[str] = []

    def look(tx: Tx) -> None:
        found.extend(_take_away(files, now, now - older_than, tx))
        raise _OnlyLooking

    with suppress(_OnlyLooking):
        store.write(look)
    latest = (now - older_than).timestamp()
    names = [name for name in files.names() if (files.last_written(name) or float("inf")) <= latest]
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        named = store.read(partial(_named, batch))
        found.extend(name for name in batch if name not in named)
    return list(dict.fromkeys(found))


class _OnlyLooking(Exception):
    """Takes the transaction back."""


def _take_away(files: Files, now: datetime, before: datetime, tx: Tx) -> list[str]:
    gone = []
    oldest = now - KEEP_UPLOADS
    for upload in registry_blobs.uploads_before(tx, oldest):
        if (files.last_written(upload) or 0.0) < oldest.timestamp():
            registry_blobs.end_upload(tx, upload)
            gone.append(upload)
    return gone + registry_blobs.remove_unused(tx, before)


def _named(names: list[str], tx: Tx) -> set[str]:
    return registry_blobs.named_files(tx, names)
