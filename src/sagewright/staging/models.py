"""Staging models: an artifact becomes a folder, once per content, which instances share and only read.

    s3://b/m/model.tar.gz, etag ─► HASH ─► MODELS/HASH.partial ─► MODELS/HASH ─► MODELS/.complete/HASH
    no artifact                 ─► empty

A folder is trusted because of its file in `.complete`: it holds the boot in which the folder was made, and `durable`
once all of it was forced to the disk. After a power cut a folder that is there in name only is made again.
Owns: which content is which folder, whether it can be trusted, removing what nobody stands for.
Does not own: what an archive may hold (`archive`), which transfers stand for a folder (`transfers` has their
markers), when it is wanted (controllers).
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sagewright.core.errors import BlobStoreFull, NotFound, TransferError
from sagewright.core.s3_uris import split_uri
from sagewright.staging import disk
from sagewright.staging.archive import unpack
from sagewright.staging.meter import Meter
from sagewright.staging.plan import plan_channel
from sagewright.staging.source import ObjectStore, StoredObject
from sagewright.workloads.transfer import StageModel

EMPTY: Final = "empty"
TRASH: Final = ".trash"
_COMPLETE: Final = ".complete"
_DURABLE: Final = "durable"
_ATTEMPTS: Final = 5  # looks at an object that is replaced just while it is read
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class _Replaced(Exception):
    """The object is another one since it was listed."""


class ModelFolders:
    """Folders below a `models`. Safe to call from any thread; one content is staged by one thread at a time."""

    def __init__(self, boot: str) -> None:
        self._boot = boot
        self._lock = threading.Lock()
        self._busy: dict[Path, threading.Lock] = {}
        self._held: Counter[Path] = Counter()

    @contextmanager
    def staged(self, transfer: StageModel, objects: ObjectStore, meter: Meter) -> Iterator[Path]:
        """The folder, complete; it is not removed inside. Raises TransferError, Cancelled, StoreError."""
        for _ in range(_ATTEMPTS):
            found = _find(transfer, objects)
            folder = transfer.models / _name(transfer, found)
            with self._holding(folder):
                try:
                    with self._alone(folder, meter):
                        self._complete(transfer, found, folder, objects, meter)
                except _Replaced:
                    continue
                yield folder
            return
        raise TransferError(f"The model data at {transfer.uri} is replaced again and again while it is downloaded.")

    def trusted(self, folder: Path) -> bool:
        try:
            told = _note(folder).read_text()
        except OSError:
            return False
        return told in {_DURABLE, self._boot} and folder.is_dir()

    def settle(self, folder: Path) -> None:
        """Force it to the disk, so that it is trusted after a power cut too. Takes as long as the disk does, and does
        not keep it from being removed meanwhile."""
        with suppress(OSError):
            synced = folder.stat().st_ino
            if _note(folder).read_text() == _DURABLE:
                return
            _sync_tree(folder)
            with self._lock:
                if _note(folder).exists() and folder.stat().st_ino == synced:
                    _write_note(folder, _DURABLE)

    def sweep(self, models: Path, wanted: Callable[[], Collection[Path]]) -> None:
        """Remove what is neither wanted nor held. `wanted` is asked while nobody can let go of a folder."""
        if not models.is_dir():
            return
        with self._lock:
            kept = {*wanted(), *self._held}
            for path in models.iterdir():
                if not path.name.startswith(".") and path.with_name(path.name.removesuffix(".partial")) not in kept:
                    _note(path).unlink(missing_ok=True)
                    disk.set_aside(path, models / TRASH)

    @contextmanager
    def _holding(self, folder: Path) -> Iterator[None]:
        with self._lock:
            self._held[folder] += 1
        try:
            yield
        finally:
            with self._lock:
                self._held[folder] -= 1
                if not self._held[folder]:
                    del self._held[folder]
                    self._busy.pop(folder, None)

    @contextmanager
    def _alone(self, folder: Path, meter: Meter) -> Iterator[None]:
        with self._lock:
            busy = self._busy.setdefault(folder, threading.Lock())
        while not busy.acquire(timeout=0.1):
            meter.check()
        try:
            yield
        finally:
            busy.release()

    def _complete(
        self, transfer: StageModel, found: Sequence[StoredObject], folder: Path, objects: ObjectStore, meter: Meter
    ) -> None:
        if self.trusted(folder):
            return
        try:
            _build(transfer, found, folder, objects, meter)
            _write_note(folder, self._boot)
        except (OSError, BlobStoreFull) as error:
            raise _refusal(error, transfer) from error


def _find(transfer: StageModel, objects: ObjectStore) -> list[StoredObject]:
    """The objects that are the artifact, as they are now."""
    if transfer.uri is None:
        return []
    bucket, name = split_uri(transfer.uri)
    whole = transfer.uri.endswith("/")
    if objects.bucket_exists(bucket, transfer.account):
        listed = iter(objects.list(bucket, name))
        found = list(listed) if whole else [each for each in [next(listed, None)] if each and each.key == name]
        if found:
            return found
    what = "objects below that prefix" if whole else "object"
    raise TransferError(
        f"Could not find model data at {transfer.uri}. Check that the bucket and the {what} exist: "
        f"aws s3 ls {transfer.uri}"
    )


def _name(transfer: StageModel, found: Sequence[StoredObject]) -> str:
    """One name for one content. Where it lies counts too: an etag alone is no promise."""
    if not found:
        return EMPTY
    digest = hashlib.sha256(f"{transfer.uri}\0{transfer.unpack}".encode())
    for each in found:
        digest.update(f"\0{each.key}\0{each.etag}\0{each.size}".encode())
    return digest.hexdigest()[:32]


def _build(
    transfer: StageModel, found: Sequence[StoredObject], folder: Path, objects: ObjectStore, meter: Meter
) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    disk.make_folder(folder.parent, 0o711)
    for leftover in (partial, folder):
        disk.set_aside(leftover, folder.parent / TRASH)
    disk.make_folder(partial, 0o755)
    meter.total = sum(each.size for each in found)
    if transfer.uri is not None and transfer.unpack:
        with _open(found[0], split_uri(transfer.uri)[0], objects) as content:
            unpack(content, transfer.uri, partial, meter)
    elif transfer.uri is not None:
        _copy(transfer.uri, found, partial, objects, meter)
    meter.check()
    partial.rename(folder)


def _copy(uri: str, found: Sequence[StoredObject], folder: Path, objects: ObjectStore, meter: Meter) -> None:
    """S3Object with no compression: a file named by the last segment of its key. S3Prefix: the tree below it."""
    bucket, prefix = split_uri(uri)
    for each in found:
        if "//" in f"/{each.key.removeprefix(prefix)}":
            raise TransferError(
                f"Object s3://{bucket}/{each.key} of the model has an empty name in its key. Rename it."
            )
    plan = plan_channel("model", bucket, prefix, found)
    for name in plan.folders:
        disk.make_folder(folder / name, 0o755)
    for name, each in plan.files.items():
        target = str(folder / name)
        if each.content_path is None:
            with _open(each, bucket, objects) as content:
                disk.save(content, target, meter)
            continue
        try:
            disk.copy_file(each.content_path, target, meter)
        except FileNotFoundError as error:
            raise _Replaced from error


def _open(each: StoredObject, bucket: str, objects: ObjectStore) -> BinaryIO:
    """Exactly the content that was listed, where it lies on this machine: its file never changes."""
    try:
        return objects.open(bucket, each.key) if each.content_path is None else each.content_path.open("rb")
    except (FileNotFoundError, NotFound) as error:
        raise _Replaced from error


def _refusal(error: OSError | BlobStoreFull, transfer: StageModel) -> TransferError:
    if isinstance(error, BlobStoreFull) or error.errno in _FULL:
        return TransferError(
            f"No space left on the disk of {transfer.models} for the model {transfer.uri}. Free some space and deploy "
            "it again."
        )
    return disk.refusal(error, transfer.models)


def _note(folder: Path) -> Path:
    return folder.parent / _COMPLETE / folder.name


def _write_note(folder: Path, told: str) -> None:
    path = _note(folder)
    path.parent.mkdir(exist_ok=True)
    beside = path.with_suffix(".new")
    beside.write_text(told)
    beside.rename(path)


def _sync_tree(folder: Path) -> None:
    for path, folders, files in os.walk(folder):
        for name in (*files, *folders):
            if not (each := Path(path, name)).is_symlink():
                _sync(each)
    _sync(folder)
    _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
