"""Garbage collection of the registry: what goes, and what a push still needs."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.core.image_manifests import OCI_IMAGE, digest_of
from sagewright.registry.blobs import Blobs
from sagewright.registry.files import Files
from sagewright.registry.routes import Place
from sagewright.registry.sweep import sweep
from sagewright.registry.uploads import Uploads
from sagewright.registry.work import Shelf
from sagewright.store import registry_blobs, registry_push, registry_rows
from sagewright.store.db import Database
from sagewright.wire.messages import Headers, HttpRequest

HOUR = timedelta(hours=1)


@dataclass
class Hands:
    """A clock that is set by hand."""

    time: datetime

    def now(self) -> datetime:
        return self.time


class World:
    def __init__(self, root: Path) -> None:
        self.store = Database.open(root / "rows.db")
        self.files = Files(root / "registry")
        self.clock = Hands(datetime.now(UTC))
        self.shelf = Shelf(self.store, self.files, self.clock, "1", reads_inline=True)
        self.uploads = Uploads(self.shelf)
        self.repository("a")

    def repository(self, name: str) -> None:
        self.store.write(
            lambda tx: registry_rows.create_repository(
                tx, account="1", region="us-east-1", name=name, now=self.clock.now(), settings={}
            )
        )

    def blob(self, data: bytes, name: str = "a") -> str:
        digest = digest_of(data)
        request = HttpRequest("POST", "", f"digest={digest}", Headers(), data)
        assert asyncio.run(self.uploads.begin(Place("uploads", name, ""), request)).status == 201
        return digest

    def image(self, *digests: str, tag: str | None = None) -> str:
        parts = [{"digest": digest, "size": 1} for digest in digests]
        content = json.dumps({"schemaVersion": 2, "config": parts[0], "layers": parts[1:]}).encode()
        kept = self.store.write(
            lambda tx: registry_push.push(
                tx, self.shelf.repository(tx, "a"), content, OCI_IMAGE, tag, now=self.clock.now()
            )
        )
        return kept.digest

    def later(self, time: timedelta) -> None:
        """Files are as much older as the clock is on."""
        self.clock.time += time
        for path in self.files._root.glob("??/*"):
            written = path.stat().st_mtime - time.total_seconds()
            os.utime(path, (written, written))

    def sweep(self) -> int:
        """As if the files were as old as the rows: their ages are counted from the real time."""
        return sweep(self.store, self.files, HOUR, self.clock).removed

    def there(self, digest: str, name: str = "a") -> bool:
        found = self.store.read(lambda tx: registry_blobs.find(tx, self.shelf.repository(tx, name), digest))
        return found is not None and self.files.exists(found.file)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


def test_blobs_of_a_manifest_stay_and_go_with_it(world: World) -> None:
    config, layer = world.blob(b"config"), world.blob(b"layer")
    image = world.image(config, layer)
    world.later(5 * HOUR)
    assert world.sweep() == 0
    world.store.write(lambda tx: registry_rows.remove_manifest(tx, world.shelf.repository(tx, "a"), image))
    assert world.sweep() == 2
    assert not world.there(config)
    assert list(world.files.names()) == []


def test_a_blob_waits_an_hour_for_its_manifest(world: World) -> None:
    layer = world.blob(b"layer")
    world.later(HOUR - timedelta(minutes=1))
    assert world.sweep() == 0
    assert world.there(layer)
    world.later(timedelta(minutes=2))
    assert world.sweep() == 1


def test_a_push_that_asks_for_an_old_blob_keeps_it(world: World) -> None:
    layer = world.blob(b"layer")
    world.later(5 * HOUR)
    assert asyncio.run(Blobs(world.shelf).head(Place("blob", "a", layer))).status == 200
    assert world.sweep() == 0
    assert world.image(layer, tag="v1")
    world.later(5 * HOUR)
    assert world.sweep() == 0
    assert world.there(layer)


def test_what_another_repository_reads_stays(world: World) -> None:
    world.repository("b")
    layer = world.blob(b"layer")
    world.image(layer)
    world.later(5 * HOUR)
    assert world.blob(b"layer", "b") == layer
    world.store.write(lambda tx: registry_rows.remove_repository(tx, world.shelf.repository(tx, "a")))
    assert world.sweep() == 0
    assert world.there(layer, "b")


def test_uploads_stay_for_a_day_after_their_last_byte(world: World) -> None:
    begun = asyncio.run(world.uploads.begin(Place("uploads", "a", ""), HttpRequest("POST", "", "", Headers(), b"")))
    upload = Place("upload", "a", begun.headers.get("docker-upload-uuid") or "")
    asyncio.run(world.uploads.append(upload, HttpRequest("PATCH", "", "", Headers(), b"half")))
    world.later(23 * HOUR)
    assert world.sweep() == 0
    world.later(2 * HOUR)
    assert world.sweep() == 1
    assert not world.store.read(
        lambda tx: registry_blobs.has_upload(tx, world.shelf.repository(tx, "a"), upload.reference)
    )


def test_a_file_that_no_row_names_goes_when_it_is_old(world: World) -> None:
    name = "01234567-0123-0123-0123-0123456789ab"
    growing = world.files.append(name)
    assert growing is not None
    growing.write(b"left by a crash")
    growing.close()
    assert world.sweep() == 0
    world.later(2 * HOUR)
    assert world.sweep() == 1


def test_another_process_may_finish_an_upload(world: World) -> None:
    """Its hash is not in memory there: the file is read again."""
    begun = asyncio.run(world.uploads.begin(Place("uploads", "a", ""), HttpRequest("POST", "", "", Headers(), b"")))
    upload = Place("upload", "a", begun.headers.get("docker-upload-uuid") or "")
    asyncio.run(world.uploads.append(upload, HttpRequest("PATCH", "", "", Headers(), b"one ")))
    other = Uploads(world.shelf)
    asyncio.run(other.append(upload, HttpRequest("PATCH", "", "", Headers(), b"two ")))
    digest = digest_of(b"one two three")
    last = HttpRequest("PUT", "", f"digest={digest}", Headers(), b"three")
    assert asyncio.run(world.uploads.finish(upload, last)).status == 201
    assert world.there(digest)


def test_a_blob_whose_file_was_lost_can_be_pushed_again(world: World) -> None:
    layer = world.blob(b"layer")
    for name in list(world.files.names()):
        world.files.remove(name)
    assert not world.there(layer)
    world.blob(b"layer")
    assert world.there(layer)
