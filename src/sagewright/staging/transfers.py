"""Transfers in threads of this process: started, observed and forgotten by id.

    unknown ──start──► RUNNING ──► DONE     kept on disk too: FOLDER/.transfers/ID.json
       ▲                  ├──────► FAILED   kept in memory: after a restart it is tried again
       └──── forget ──────┴── the store is away: unknown again, so that it is started again

Owns: threads, what is known of each transfer, marker files, the trash.
Does not own: what moves (`stage`, `collect`, `models`), when a transfer is wanted (controllers).

A marker is believed only if it was written since this machine was started: staged files are not forced to the disk one
by one, so after a power cut they may be there in name only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sagewright.core.errors import BlobStoreFull, NotFound, StoreUnavailable, TransferError
from sagewright.core.ids import TransferId
from sagewright.staging import disk
from sagewright.staging.collect import collect
from sagewright.staging.feeds import Feeds
from sagewright.staging.meter import Cancelled, Meter
from sagewright.staging.mirroring import Mirrors
from sagewright.staging.models import TRASH, ModelFolders
from sagewright.staging.source import ObjectStore
from sagewright.staging.stage import stage
from sagewright.workloads.transfer import (
    CollectOutputs,
    FeedPipes,
    MirrorFolders,
    RunTransform,
    StageInputs,
    StageModel,
    Transfer,
    TransferPhase,
    TransferState,
)

_log: Final = logging.getLogger(__name__)
_TRANSFORMS: Final = 64  # runs of transform jobs at once; each thread only waits for a process
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


Transform = Callable[[RunTransform, Meter], None]
_Moving = StageInputs | CollectOutputs | StageModel | RunTransform  # all but what has a process of its own


@dataclass(slots=True)
class _Entry:
    """One transfer of this process. `ended` None while it runs."""

    meter: Meter = field(default_factory=Meter)
    ended: TransferState | None = None
    work: Future[None] | None = None


class LocalTransfers:
    """See `workloads.transfer.Transfers`. `folder` holds the workloads' folders: what is set aside stays on its
    file system. Safe to call from any thread; `forget` waits for the transfers that it ends."""

    def __init__(
        self, objects: ObjectStore, folder: Path, parallel: int = 4, transform: Transform | None = None
    ) -> None:
        self._objects = objects
        self._markers = folder / ".transfers"
        self._trash = folder / ".trash"
        self._boot = _boot_id()
        self._models = ModelFolders(self._boot)
        self._feeds = Feeds(self._markers)
        self._mirrors = Mirrors(objects)
        self._threads = ThreadPoolExecutor(parallel, "transfer")
        self._transform = transform
        self._transforms = ThreadPoolExecutor(_TRANSFORMS, "transform")
        self._cleaner = ThreadPoolExecutor(1, "cleaner")
        self._lock = threading.Lock()
        self._entries: dict[TransferId, _Entry] = {}
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[TransferId]]] = set()
        self._markers.mkdir(parents=True, exist_ok=True)
        self._clean(self._trash)

    def start(self, transfer: Transfer) -> None:
        if isinstance(transfer, FeedPipes):
            self._feed(transfer)
            return
        if isinstance(transfer, MirrorFolders):
            self._mirrors.start(transfer)
            return
        with self._lock:
            entry = self._entries.get(transfer.id)
            if entry and (entry.ended is None or entry.ended.phase is TransferPhase.DONE):
                return
            if entry is None and self._read_marker(transfer.id):
                return
            entry = self._entries[transfer.id] = _Entry()
            threads = self._transforms if isinstance(transfer, RunTransform) else self._threads
            entry.work = threads.submit(self._run, transfer, entry)

    def observe(self, ids: Collection[TransferId]) -> Mapping[TransferId, TransferState]:
        with self._lock:
            found = {each: self._state(each) or self._feeds.state(each) or self._mirrors.state(each) for each in ids}
        return {each: state for each, state in found.items() if state is not None}

    def forget(self, ids: Collection[TransferId], root: Path) -> None:
        self._end(ids, lambda: disk.set_aside(root, self._trash))
        self._clean(self._trash)

    def forget_models(self, ids: Collection[TransferId], models: Path) -> None:
        self._end(ids)
        self._models.sweep(models, self._wanted)
        self._clean(models / TRASH)

    async def hints(self) -> AsyncIterator[TransferId]:
        queue: asyncio.Queue[TransferId] = asyncio.Queue()
        listener = (asyncio.get_running_loop(), queue)
        self._listeners.add(listener)
        try:
            while True:
                yield await queue.get()
        finally:
            self._listeners.discard(listener)

    def close(self) -> None:
        """End what runs; it is started again by the next process. Waits for the threads."""
        with self._lock:
            for entry in self._entries.values():
                entry.meter.cancel()
        self._mirrors.close()
        self._threads.shutdown(cancel_futures=True)
        self._transforms.shutdown(cancel_futures=True)
        self._cleaner.shutdown(cancel_futures=True)

    # -- running -------------------------------------------------------------

    def _feed(self, feed: FeedPipes) -> None:
        try:
            self._feeds.start(feed)
        except (OSError, TransferError) as error:
            reason = str(disk.refusal(error, feed.root)) if isinstance(error, OSError) else str(error)
            with self._lock:
                self._entries[feed.id] = _Entry(ended=TransferState(feed.id, TransferPhase.FAILED, reason))
            self._tell(feed.id)

    def _run(self, transfer: _Moving, entry: _Entry) -> None:
        try:
            entry.meter.check()
            ended = self._move(transfer, entry.meter)
        except Cancelled:
            return
        except StoreUnavailable as error:
            _log.warning("%s has to start again: %s", transfer.id, error)
            self._drop(transfer.id, entry)
            return
        except (TransferError, NotFound) as error:
            ended = TransferState(transfer.id, TransferPhase.FAILED, str(error), progress=entry.meter.progress)
        except (OSError, BlobStoreFull) as error:
            where = transfer.models if isinstance(transfer, StageModel) else transfer.root
            ended = TransferState(transfer.id, TransferPhase.FAILED, str(disk.refusal(error, where)))
        except Exception as error:
            _log.exception("%s failed in a way that nobody thought of", transfer.id)
            ended = TransferState(transfer.id, TransferPhase.FAILED, f"an internal error: {error!r}")
        entry.ended = ended
        self._tell(transfer.id)

    def _move(self, transfer: _Moving, meter: Meter) -> TransferState:
        """Do it, and leave the marker that says so."""
        match transfer:
            case StageInputs():
                try:
                    stage(transfer, self._objects, meter, self._trash)
                finally:
                    self._clean(self._trash)
                return self._done(transfer.id, meter, transfer.root)
            case CollectOutputs():
                for each in transfer.mirrors:
                    self._mirrors.finish(each, meter)
                return self._done(transfer.id, meter, None, collect(transfer, self._objects, meter))
            case RunTransform():
                if self._transform is None:
                    raise TransferError("This installation cannot run batch transform jobs.")
                self._transform(transfer, meter)
                return self._done(transfer.id, meter, None)
            case StageModel():
                with self._models.staged(transfer, self._objects, meter) as folder:
                    ended = self._done(transfer.id, meter, folder, model=True)
                self._later(lambda: self._models.settle(folder))
                return ended

    def _done(
        self,
        each: TransferId,
        meter: Meter,
        root: Path | None,
        written: tuple[str, ...] = (),
        *,
        model: bool = False,
    ) -> TransferState:
        folder = root if model else None
        ended = TransferState(
            each, TransferPhase.DONE, "", meter.moved, meter.total, written, folder, progress=meter.progress
        )
        self._write_marker(ended, root)
        return ended

    def _end(self, ids: Collection[TransferId], when_ended: Callable[[], None] = lambda: None) -> None:
        """Nothing runs for these any more, and nothing is known of them."""
        with self._lock:
            entries = [entry for each in ids if (entry := self._entries.get(each))]
            for entry in entries:
                entry.meter.cancel()
        for entry in entries:
            self._await(entry)
        for each in ids:
            self._feeds.end(each)
            self._mirrors.end(each)
        when_ended()
        with self._lock:
            for each in ids:
                self._entries.pop(each, None)
                self._marker(each).unlink(missing_ok=True)

    def _await(self, entry: _Entry) -> None:
        """Until its thread has let go; one that was still queued never begins."""
        if entry.work is not None and not entry.work.cancel():
            entry.work.exception()

    def _drop(self, each: TransferId, entry: _Entry) -> None:
        with self._lock:
            if self._entries.get(each) is entry:
                del self._entries[each]

    def _tell(self, each: TransferId) -> None:
        for loop, queue in tuple(self._listeners):
            with suppress(RuntimeError):  # that loop has ended: nobody listens any more
                loop.call_soon_threadsafe(queue.put_nowait, each)

    # -- what is known -------------------------------------------------------

    def _state(self, each: TransferId) -> TransferState | None:
        entry = self._entries.get(each)
        if entry is None:
            return self._read_marker(each)
        if entry.ended is not None:
            return entry.ended
        meter = entry.meter
        return TransferState(
            each,
            TransferPhase.RUNNING,
            bytes_moved=meter.moved,
            bytes_total=meter.total,
            progress=meter.progress,
        )

    def _marker(self, each: TransferId) -> Path:
        return self._markers / f"{each}.json"

    def _write_marker(self, ended: TransferState, root: Path | None) -> None:
        content = {
            "boot": self._boot,
            "root": str(root) if root else None,
            "model": ended.folder is not None,
            "bytes": ended.bytes_moved,
            "written": list(ended.written),
        }
        path = self._marker(ended.id)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(content))
        beside.rename(path)

    def _read_marker(self, each: TransferId) -> TransferState | None:
        """None when there is no marker, or it tells of something that may not be there any more."""
        try:
            content: dict[str, Any] = json.loads(self._marker(each).read_text())
        except (FileNotFoundError, ValueError):
            return None
        root = Path(content["root"]) if content["root"] else None
        model = bool(content.get("model"))
        if root is not None and not (self._models.trusted(root) if model else self._is_there(root, content["boot"])):
            return None
        size, written = content["bytes"], tuple(content["written"])
        return TransferState(each, TransferPhase.DONE, "", size, size, written, root if model else None)

    def _is_there(self, root: Path, boot: str) -> bool:
        return boot == self._boot and root.is_dir()

    def _wanted(self) -> set[Path]:
        """The models that some transfer stands for, whether or not they can be trusted."""
        found = set()
        for path in self._markers.glob("*.json"):
            with suppress(FileNotFoundError, ValueError):
                content = json.loads(path.read_text())
                if content.get("model"):
                    found.add(Path(content["root"]))
        return found

    def _clean(self, trash: Path) -> None:
        self._later(lambda: _empty(trash))

    def _later(self, work: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # closed meanwhile: the next start, or the next need, does it
            self._cleaner.submit(work)


def _empty(trash: Path) -> None:
    if not trash.is_dir():
        return
    for leftover in trash.iterdir():
        try:
            disk.remove_tree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
        except PermissionError as error:
            _log.warning(
                "cannot remove %s (%s): a container left files of another user in it. Remove it with: sudo rm -rf '%s'",
                leftover,
                error.strerror,
                leftover,
            )
        except (OSError, RecursionError) as error:
            _log.warning("cannot remove %s (%s); it is tried again", leftover, error)


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
