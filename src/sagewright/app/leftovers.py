"""What a data directory holds that nobody needs any more: found, measured, and removed if that is wished.

    what              is left over when
    log streams       their last line is old, and what printed them has ended
    containers        they carry this installation's label and belong to no unfinished resource
    folders           below `workloads`, of no unfinished resource; and what was set aside to be removed
    object content    no row names it (an upload that was cut off)
    image content     no manifest needs it
    models            unpacked, and no endpoint or job stands for them; only while no server runs
    environments      built, of no folder image, no model and no workload, and unused for an hour
    layer trials      of a server that was killed in one, and that does not come back to remove it

Most of this is swept by the server, too, as it goes: this finds what a crash, a full disk or a missing permission left.
Candidates are listed before the rows are read: what is started meanwhile had its id in a row before it existed, so it
is never taken for left over. Owns: these rules. Does not own: asking the user (`cli.prune`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from sagewright.app import compose, state
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.core.credentials import Keyring
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import BackendName, Kind, WorkloadId
from sagewright.objects import sweep as object_sweep
from sagewright.registry import sweep as registry_sweep
from sagewright.registry.files import Files
from sagewright.settings import Settings
from sagewright.staging import disk
from sagewright.store.kinds import endpoint, image, model, training_job, transform_job
from sagewright.store.resources import Query, Resource, Store, Tx
from sagewright.workloads import folder_images
from sagewright.workloads.backend import ComputeBackend, HasSpares, Spare
from sagewright.workloads.workload import FolderImage

LOGS, CONTAINERS, FOLDERS = "log streams", "containers", "folders"
OBJECTS, IMAGES, MODELS = "object content", "image content", "models"
SPARES: Final = frozenset({"environments", "layer trials"})  # `workloads.backend.Spare.what`
_KINDS: Final = (training_job.KIND, endpoint.KIND, transform_job.KIND)
_GROUPS: Final = "/aws/sagemaker/"
_END_OF_TIME: Final = datetime(9000, 1, 1, tzinfo=UTC)
_GRACE: Final = timedelta(hours=1)  # content younger than this may still be on its way to a row


@dataclass(frozen=True, slots=True)
class Leftover:
    """`where` is a log group, a backend or a folder; `bytes` 0 where nothing is measured."""

    what: str
    where: str
    name: str
    bytes: int = 0


class Leftovers:
    """Of one data directory, whether or not its server runs. `find` changes nothing."""

    def __init__(self, settings: Settings, store: Store) -> None:
        self._settings = settings
        self._store = store
        self._streams = LogStreams(settings.data.streams)
        self.problems: list[str] = []
        """What could not be looked at or removed, in words."""

    def find(self, logs_before: datetime) -> list[Leftover]:
        data = self._settings.data
        containers = asyncio.run(self._containers())
        folders = _named(data.workloads)
        needed = self._store.read(self._needed)
        found = list(self._logs(logs_before, self._store.read(self._unfinished)))
        found += [each for each in containers if each.name not in needed]
        found += [_folder(FOLDERS, each) for each in folders if each.name not in needed]
        found += [_folder(FOLDERS, each) for each in _children(data.workloads / ".trash")]
        now = datetime.now(UTC)
        content = object_sweep.orphans(self._store, FileBlobs(data.blobs), now - _GRACE)
        found += [Leftover(OBJECTS, str(data.blobs), name, size) for name, size in content]
        images = Files(data.registry)
        orphans = registry_sweep.orphans(self._store, images, _GRACE)
        found += [Leftover(IMAGES, str(data.registry), name, images.size(name)) for name in orphans]
        known = self._store.read(self._images)
        return [*found, *self._models(), *asyncio.run(self._spares(known, now - _GRACE))]

    def old_folders(self, before: datetime) -> list[Leftover]:
        """Those of the folders that nobody has touched since; what the server itself removes now and then."""
        oldest = before.timestamp()
        folders = [each for each in _named(self._settings.data.workloads) if each.lstat().st_mtime < oldest]
        needed = self._store.read(self._needed) if folders else ()
        return [_folder(FOLDERS, each) for each in folders if each.name not in needed]

    def remove(self, found: list[Leftover]) -> int:
        """How many bytes that freed. What cannot be removed is told in `problems`."""
        freed = sum(self._remove_one(each) for each in found if each.what in {LOGS, FOLDERS, MODELS})
        asyncio.run(self._remove_containers([each for each in found if each.what == CONTAINERS]))
        freed += asyncio.run(self._discard([each for each in found if each.what in SPARES]))
        if any(each.what == OBJECTS for each in found):
            freed += object_sweep.sweep(self._store, FileBlobs(self._settings.data.blobs), _GRACE).bytes
        if any(each.what == IMAGES for each in found):
            registry_sweep.sweep(self._store, Files(self._settings.data.registry), _GRACE)
            freed += sum(each.bytes for each in found if each.what == IMAGES)
        return freed

    # -- rows ----------------------------------------------------------------

    def _unfinished(self, tx: Tx) -> list[Resource]:
        """Whatever has something left to do, and every endpoint."""
        rows = [row for key in tx.due(_KINDS, _END_OF_TIME, 1_000_000) if (row := tx.find(key))]
        return rows + list(self._all(tx, endpoint.KIND))

    def _all(self, tx: Tx, kind: Kind) -> Iterator[Resource]:
        settings, after = self._settings, None
        while True:
            page = tx.page(Query(kind, settings.account, settings.region, limit=1000, after=after))
            yield from page.items
            if (after := page.next) is None:
                return

    def _images(self, tx: Tx) -> list[FolderImage]:
        """Every folder image that a name, a model or something unfinished stands for."""
        rows = [*self._unfinished(tx), *self._all(tx, image.KIND), *self._all(tx, model.KIND)]
        return [folder_images.from_row(found) for row in rows for found in _folder_images([row.spec, row.status])]

    def _needed(self, tx: Tx) -> _Needed:
        return _Needed("\n".join(orjson.dumps(dict(row.status)).decode() for row in self._unfinished(tx)))

    # -- each kind of leftover ----------------------------------------------

    def _logs(self, before: datetime, unfinished: list[Resource]) -> Iterator[Leftover]:
        oldest = int(before.timestamp() * 1000)
        names = {str(row.key.name) for row in unfinished}
        for group in self._streams.groups(_GROUPS):
            if group.rpartition("/")[2] in names:  # an endpoint's group
                continue
            for info in self._streams.streams(group):
                if (info.last_ts or info.changed) < oldest and info.name.partition("/")[0] not in names:
                    yield Leftover(LOGS, group, info.name, info.bytes)

    async def _containers(self) -> list[Leftover]:
        found = []
        async with _Backends(self._settings) as backends:
            for name, backend in backends.items():
                try:
                    ids = await backend.observe(None)
                except BackendUnavailable as error:
                    if (await backend.describe()).installed:
                        self.problems.append(f"{name}: {error}")
                    continue
                found += [Leftover(CONTAINERS, name, each) for each in sorted(ids)]
        return found

    def _models(self) -> Iterator[Leftover]:
        """A running server looks after them, and holds in memory which are being made."""
        data = self._settings.data
        if state.load_running(data) is not None:
            return
        marked = "\n".join(_read(each) for each in (data.workloads / ".transfers").glob("*.json"))
        for folder in _children(data.models):
            if not folder.name.startswith(".") and str(folder) not in marked:
                yield _folder(MODELS, folder)

    async def _spares(self, images: list[FolderImage], before: datetime) -> list[Leftover]:
        found = []
        async with _Backends(self._settings) as backends:
            for name, backend in backends.items():
                if isinstance(backend, HasSpares):
                    with suppress(BackendUnavailable):  # told when its containers were looked for
                        for each in await backend.spares(images, before):
                            found.append(Leftover(each.what, name, each.name, _size(each.folder) if each.folder else 0))
        return found

    # -- removing ------------------------------------------------------------

    def _remove_one(self, each: Leftover) -> int:
        if each.what == LOGS:
            self._streams.remove(each.where, each.name)
            return each.bytes
        folder = Path(each.where) / each.name
        try:
            disk.remove_tree(folder) if folder.is_dir() and not folder.is_symlink() else folder.unlink(missing_ok=True)
        except OSError as error:
            self.problems.append(
                f"{folder}: {error.strerror}. Files of a container's root need: sudo rm -rf '{folder}'"
            )
            return 0
        return each.bytes

    async def _remove_containers(self, found: list[Leftover]) -> None:
        if not found:
            return
        async with _Backends(self._settings) as backends:
            for each in found:
                try:
                    await backends[BackendName(each.where)].remove(WorkloadId(each.name))
                except BackendUnavailable as error:
                    self.problems.append(f"{each.where}: {error}")

    async def _discard(self, found: list[Leftover]) -> int:
        freed = 0
        async with _Backends(self._settings) as backends:
            for name, backend in backends.items():
                some = [each for each in found if each.where == name]
                if some and isinstance(backend, HasSpares):
                    try:
                        spares = [Spare(each.what, each.name) for each in some]
                        await backend.discard(spares, datetime.now(UTC) - _GRACE)
                        freed += sum(each.bytes for each in some)
                    except BackendUnavailable as error:
                        self.problems.append(f"{name}: {error}")
        return freed


class _Needed:
    """The ids that unfinished rows speak of."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __contains__(self, name: object) -> bool:
        return f'"{name}' in self._text


class _Backends:
    """The backends, closed at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._made: Mapping[BackendName, ComputeBackend] = {}

    async def __aenter__(self) -> Mapping[BackendName, ComputeBackend]:
        self._made = compose.backends(self._settings, Keyring.open(self._settings.data.keys))
        return self._made

    async def __aexit__(self, *_: object) -> None:
        for backend in self._made.values():
            await backend.aclose()


def _folder_images(value: object) -> Iterator[dict[str, object]]:
    """Those told anywhere in a row (`folder_images.to_row`)."""
    if isinstance(value, dict):
        if value.keys() >= {"digest", "path", "entrypoint", "requirements"}:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _folder_images(each)


def _children(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _named(folder: Path) -> list[Path]:
    return [each for each in _children(folder) if not each.name.startswith(".")]


def _folder(what: str, folder: Path) -> Leftover:
    return Leftover(what, str(folder.parent), folder.name, _size(folder))


def _size(folder: Path) -> int:
    """Bytes that removing it frees: what has another name elsewhere stays."""
    total = 0
    for path, _, files in os.walk(folder):
        for name in files:
            with suppress(OSError):
                found = Path(path, name).lstat()
                total += found.st_blocks * 512 if found.st_nlink == 1 else 0
    return total


def _read(path: Path) -> str:
    with suppress(OSError):
        return path.read_text()
    return ""
