"""Transfers in threads of this process: started, observed and forgotten by id.

    unknown ──start──► RUNNING ──► DONE     kept on disk too: FOLDER/.transfers/ID.json
       ▲                  ├──────► FAILED   kept in memory: after a restart it is tried again
       └──── forget ──────┴── the store is away: unknown again, so that it is started again

Owns: threads, what is known of each transfer, marker files, the trash.
Does not own: what moves (`stage`, `collect`), when a transfer is wanted (controllers).

A marker is believed only if it was written since this machine was started: staged files are not forced to the disk one
by one, so after a power cut they may be there in name only.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sagewright.core.errors import BlobStoreFull, NotFound, StoreUnavailable, TransferError
from sagewright.core.ids import TransferId
from sagewright.staging import disk
from sagewright.staging.collect import collect
from sagewright.staging.meter import Cancelled, Meter
from sagewright.staging.source import ObjectStore
from sagewright.staging.stage import stage
from sagewright.workloads.transfer import CollectOutputs, StageInputs, TransferPhase, TransferState

_log: Final = logging.getLogger(__name__)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class _Entry:
    """One transfer of this process. `ended` None while it runs."""

    meter: Meter = field(default_factory=Meter)
    ended: TransferState | None = None
    work: Future[None] | None = None


class LocalTransfers:
    """See `workloads.transfer.Transfers`. `folder` holds the workloads' folders: what is set aside stays on its
    file system. Safe to call from any thread; `forget` waits for the transfers that it ends."""

    def __init__(self, objects: ObjectStore, folder: Path, parallel: int = 4) -> None:
        self._objects = objects
        self._markers = folder / ".transfers"
        self._trash = folder / ".trash"
        self._boot = _boot_id()
        self._threads = ThreadPoolExecutor(parallel, "transfer")
        self._cleaner = ThreadPoolExecutor(1, "cleaner")
        self._lock = threading.Lock()
        self._entries: dict[TransferId, _Entry] = {}
        self._listeners: set[tuple[asyncio.AbstractEventLoop, asyncio.Queue[TransferId]]] = set()
        self._markers.mkdir(parents=True, exist_ok=True)
        self._cleaner.submit(self._empty_trash)

    def start(self, transfer: StageInputs | CollectOutputs) -> None:
        with self._lock:
            entry = self._entries.get(transfer.id)
            if entry and (entry.ended is None or entry.ended.phase is TransferPhase.DONE):
                return
            if entry is None and self._read_marker(transfer.id):
                return
            entry = self._entries[transfer.id] = _Entry()
            entry.work = self._threads.submit(self._run, transfer, entry)

    def observe(self, ids: Collection[TransferId]) -> Mapping[TransferId, TransferState]:
        with self._lock:
            found = {each: self._state(each) for each in ids}
        return {each: state for each, state in found.items() if state is not None}

    def forget(self, ids: Collection[TransferId], root: Path) -> None:
        with self._lock:
            entries = [entry for each in ids if (entry := self._entries.get(each))]
            for entry in entries:
                entry.meter.cancel()
        for entry in entries:
            self._await(entry)
        disk.set_aside(root, self._trash)
        with self._lock:
            for each in ids:
                self._entries.pop(each, None)
                self._marker(each).unlink(missing_ok=True)
        self._clean()

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
        self._threads.shutdown(cancel_futures=True)
        self._cleaner.shutdown(cancel_futures=True)

    # -- running -------------------------------------------------------------

    def _run(self, transfer: StageInputs | CollectOutputs, entry: _Entry) -> None:
        try:
            entry.meter.check()
            written = self._move(transfer, entry.meter)
            ended = TransferState(
                transfer.id,
                TransferPhase.DONE,
                bytes_moved=entry.meter.moved,
                bytes_total=entry.meter.total,
                written=written,
            )
            self._write_marker(transfer, ended)
        except Cancelled:
            return
        except StoreUnavailable as error:
            _log.warning("%s has to start again: %s", transfer.id, error)
            self._drop(transfer.id, entry)
            return
        except (TransferError, NotFound) as error:
            ended = TransferState(transfer.id, TransferPhase.FAILED, str(error))
        except (OSError, BlobStoreFull) as error:
            ended = TransferState(transfer.id, TransferPhase.FAILED, str(disk.refusal(error, transfer.root)))
        except Exception as error:
            _log.exception("%s failed in a way that nobody thought of", transfer.id)
            ended = TransferState(transfer.id, TransferPhase.FAILED, f"an internal error: {error!r}")
        entry.ended = ended
        self._tell(transfer.id)

    def _move(self, transfer: StageInputs | CollectOutputs, meter: Meter) -> tuple[str, ...]:
        match transfer:
            case StageInputs():
                try:
                    stage(transfer, self._objects, meter, self._trash)
                finally:
                    self._clean()
                return ()
            case CollectOutputs():
                return collect(transfer, self._objects, meter)

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
        return TransferState(each, TransferPhase.RUNNING, bytes_moved=entry.meter.moved, bytes_total=entry.meter.total)

    def _marker(self, each: TransferId) -> Path:
        return self._markers / f"{each}.json"

    def _write_marker(self, transfer: StageInputs | CollectOutputs, ended: TransferState) -> None:
        content = {
            "boot": self._boot,
            "root": str(transfer.root) if isinstance(transfer, StageInputs) else None,
            "bytes": ended.bytes_moved,
            "written": list(ended.written),
        }
        path = self._marker(transfer.id)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(content))
        beside.rename(path)

    def _read_marker(self, each: TransferId) -> TransferState | None:
        """None when there is no marker, or it tells of something that may not be there any more."""
        try:
            content: dict[str, Any] = json.loads(self._marker(each).read_text())
        except (FileNotFoundError, ValueError):
            return None
        root = content["root"]
        if root is not None and (content["boot"] != self._boot or not Path(root).is_dir()):
            return None
        size = content["bytes"]
        return TransferState(
            each, TransferPhase.DONE, bytes_moved=size, bytes_total=size, written=tuple(content["written"])
        )

    def _clean(self) -> None:
        with suppress(RuntimeError):  # closed meanwhile: the next start empties the trash
            self._cleaner.submit(self._empty_trash)

    def _empty_trash(self) -> None:
        if not self._trash.is_dir():
            return
        for leftover in self._trash.iterdir():
            try:
                disk.remove_tree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
            except OSError as error:
                _log.warning(
                    "cannot remove %s (%s): a container left files of another user in it. Remove it with: "
                    "sudo rm -rf '%s'",
                    leftover,
                    error.strerror,
                    leftover,
                )


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
