"""`image add | list | remove`: folder images. Works on the data directory itself, whether or not a server runs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from sagewright.app import state
from sagewright.app.compose import open_store
from sagewright.cli import output
from sagewright.cli.server import data_dir, make
from sagewright.core.errors import SettingsError
from sagewright.core.ids import Key
from sagewright.settings import DataDir, Settings
from sagewright.store.kinds import image as kind
from sagewright.store.resources import Query, SortBy, Store, Tx
from sagewright.workloads.folder_images import add_folder_image, to_row
from sagewright.workloads.workload import FolderImage

_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/:@-]{0,254}")


def add(data: Path | None, folder: Path, name: str, entrypoint: str, requirements: Path | None) -> None:
    image = register(data_dir(data), folder, name, entrypoint, requirements)
    print(f"Added {image.name} ({image.digest[:19]}). Use it as a job's image:")
    print(f'  Estimator("{image.name}", role, 1, "ml.m5.large", ...).fit(...)')


def register(data: DataDir, folder: Path, name: str, entrypoint: str, requirements: Path | None) -> FolderImage:
    """Store the folder and point `name` at it. Raises SettingsError for what cannot work."""
    try:
        words = tuple(shlex.split(entrypoint))
    except ValueError as error:
        raise SettingsError(f"the entrypoint {entrypoint!r} is not a command: {error}") from error
    if not words:
        raise SettingsError(
            'the entrypoint is empty. Give the program to run, for example --entrypoint "python main.py"'
        )
    if requirements is not None and not requirements.is_file():
        raise SettingsError(f"there is no requirements file {requirements}")
    name = name.removesuffix(":latest")
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{name!r} is not an image name: use letters, digits and . _ - / : @, up to 255 of them")
    make(data)
    text = requirements.read_text() if requirements else ""
    image = add_folder_image(data.images, folder.expanduser(), name, words, text)
    with _store(data) as (settings, store):
        store.write(lambda tx: _point(tx, kind.key(settings.account, settings.region, name), image))
    return image


def show(data: Path | None, as_json: bool) -> None:
    with _store(data_dir(data)) as (settings, store):
        query = Query(kind.KIND, settings.account, settings.region, sort_by=SortBy.NAME, descending=False, limit=1000)
        rows = store.read(lambda tx: tx.page(query).items)
    if as_json:
        print(json.dumps([dict(row.spec) for row in rows], indent=2))
        return
    if not rows:
        print('No folder images. Add one: sagewright image add DIR --name NAME --entrypoint "python main.py"')
        return
    cells = (
        (row.key.name, row.spec["digest"][:19], output.ago(row.changed_at), shlex.join(row.spec["entrypoint"]))
        for row in rows
    )
    output.show(("NAME", "DIGEST", "ADDED", "ENTRYPOINT"), cells, elastic=("ENTRYPOINT",))


def remove(data: Path | None, name: str) -> None:
    with _store(data_dir(data)) as (settings, store):
        key = kind.key(settings.account, settings.region, name)

        def forget(tx: Tx) -> bool:
            row = tx.find(key)
            if row is not None:
                tx.remove(row)
            return row is not None

        found = store.write(forget)
    if not found:
        raise SettingsError(f"there is no folder image named {name}. `sagewright image list` shows those there are.")
    print(f"Removed {name}.")


@contextmanager
def _store(data: DataDir) -> Iterator[tuple[Settings, Store]]:
    make(data)
    settings = state.load_settings(data)
    store = open_store(settings)
    try:
        yield settings, store
    finally:
        store.close()


def _point(tx: Tx, key: Key, image: FolderImage) -> None:
    now = datetime.now(UTC)
    row = tx.find(key)
    if row is None:
        tx.insert(key, to_row(image), {}, "", now=now, wake=False)
    else:
        tx.update_spec(row, to_row(image), now=now)
