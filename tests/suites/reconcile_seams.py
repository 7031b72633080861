"""The seams of `reconcile_world`: every call of the controller process at which it may die, or be refused.

Each wraps one neighbour of the reconcile line (backend, store, streams, transfers) for one `Life`.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sagewright.backends.fake.backend import FakeBackend
from sagewright.controllers.training_steps import stage_id
from sagewright.core.errors import BlobStoreFull, StoreUnavailable
from sagewright.core.ids import TransferId, WorkloadId
from sagewright.store.resources import Tx
from sagewright.workloads.backend import Capabilities, LogCursor, LogRecord
from sagewright.workloads.observation import Observation
from sagewright.workloads.transfer import (
    CollectOutputs,
    FeedPipes,
    MirrorFolders,
    StageInputs,
    TransferPhase,
    TransferState,
)
from sagewright.workloads.warm import CACHE
from sagewright.workloads.workload import Workload
from suites.training import job_key

if TYPE_CHECKING:
    from suites.reconcile_world import Life

T = TypeVar("T")


class Crash(BaseException):
    """The process is killed here."""


class SeamBackend:
    """A backend in whose calls the process may die, before or after their effect."""

    def __init__(self, life: Life, inner: FakeBackend) -> None:
        self._life = life
        self._inner = inner

    async def describe(self) -> Capabilities:
        return await self._inner.describe()

    async def submit(self, workload: Workload) -> None:
        await self._life.wait()
        world = self._life.world
        world.submitted[workload.id] = job_key(workload.labels["sagewright.training-job"])
        job = world.job(world.submitted[workload.id])
        assert job is not None
        assert workload.id in job.workloads, "the id was not committed before it was used"
        staged = {stage_id(each) for each in job.workloads}
        assert staged <= world.disk.done.keys(), "a job starts as a whole, once everything is staged"
        assert all(mount.source.is_dir() for mount in workload.mounts if mount.target == CACHE), "the cache is gone"
        await self._inner.submit(workload)
        world.check_now()
        await self._life.wait()

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]:
        await self._life.wait()
        found = await self._inner.observe(ids)
        await self._life.wait()
        return found

    async def stop(self, workload: WorkloadId) -> None:
        await self._life.wait()
        await self._inner.stop(workload)
        await self._life.wait()

    async def remove(self, workload: WorkloadId) -> None:
        await self._life.wait()
        await self._inner.remove(workload)
        await self._life.wait()

    async def logs(self, workload: WorkloadId, *, after: LogCursor | None = None) -> AsyncIterator[LogRecord]:
        async for record in self._inner.logs(workload, after=after):
            yield record

    def hints(self) -> AsyncIterator[WorkloadId]:
        return self._inner.hints()

    async def aclose(self) -> None:
        await self._inner.aclose()


class SeamStore:
    """The store of one life: it may die around each commit, and the disk may be full."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def read(self, work: Callable[[Tx], T]) -> T:
        self._life.seam()
        return self._life.world.store.read(work)

    def write(self, work: Callable[[Tx], T]) -> T:
        self._life.seam()
        world = self._life.world
        if world.full_disk:
            raise StoreUnavailable("database or disk is full")
        result = world.store.write(work)
        for key in world.keys:
            world.note_row(world.store.read(lambda tx, key=key: tx.find(key)), key)
        self._life.seam()
        return result


class SeamStreams:
    """Log streams of one life: a kill may tear the last line."""

    def __init__(self, life: Life) -> None:
        self._life = life

    def append(self, group: str, stream: str, records: Any, *, durable: bool = False) -> None:
        world = self._life.world
        if world.full_disk and records:
            raise BlobStoreFull("No space is left on the disk")
        try:
            self._life.seam()
            world.streams.append(group, stream, records, durable=durable)
            self._life.seam()
        except Crash:
            self._tear(group, stream)
            raise

    def sync(self, group: str, stream: str) -> None:
        self.append(group, stream, (), durable=True)

    def __getattr__(self, name: str) -> Any:
        self._life.seam()
        return getattr(self._life.world.streams, name)

    def _tear(self, group: str, stream: str) -> None:
        """Half a line reached the file: the next life must cut it off."""
        path = self._life.world.streams._path(group, stream)
        if path.exists() and self._life.world.random.random() < 0.5:
            with path.open("ab") as file:
                file.write(b"99 12345 torn li")


class SimTransfers:
    """Transfers that take time, fail, and are forgotten with their process unless they were done. Mirrors are never
    done, and end with their process."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._disk = life.world.disk
        self._running: dict[TransferId, asyncio.Task[None]] = {}
        self._failed: dict[TransferId, TransferState] = {}
        self._mirrors: dict[TransferId, TransferState] = {}
        self._hints: asyncio.Queue[TransferId] = asyncio.Queue()

    def start(self, transfer: StageInputs | CollectOutputs | FeedPipes | MirrorFolders) -> None:
        self._life.seam()
        if isinstance(transfer, FeedPipes | MirrorFolders):
            known = self._disk.feeds if isinstance(transfer, FeedPipes) else self._mirrors
            known.setdefault(transfer.id, TransferState(transfer.id, TransferPhase.RUNNING))
            self._life.seam()
            return
        if transfer.id in self._running or transfer.id in self._disk.done:
            return
        world = self._life.world
        workloads = {WorkloadId(transfer.id.rpartition(".")[0])}
        if isinstance(transfer, CollectOutputs):
            workloads |= {WorkloadId(each.parent.name) for each in transfer.peers}
        assert not workloads & world.engine.live(), "files are moved under a live container"
        assert all(each.is_dir() for each in roots(transfer)), "what is to be published is gone"
        self._disk.ran[transfer.id] += 1
        transfer.root.mkdir(parents=True, exist_ok=True)
        for folder in transfer.beside if isinstance(transfer, StageInputs) else ():
            folder.mkdir(parents=True, exist_ok=True)
        self._running[transfer.id] = asyncio.create_task(self._move(transfer))
        self._life.seam()

    def observe(self, ids: Collection[TransferId]) -> Mapping[TransferId, TransferState]:
        running = {each: TransferState(each, TransferPhase.RUNNING) for each in self._running}
        known = running | self._failed | self._disk.done | self._disk.feeds | self._mirrors
        return {each: known[each] for each in ids if each in known}

    def forget(self, ids: Collection[TransferId], root: Path) -> None:
        self._life.seam()
        for each in ids:
            if task := self._running.pop(each, None):
                task.cancel()
            self._failed.pop(each, None)
            self._mirrors.pop(each, None)
        self._life.world.check_forgotten(WorkloadId(root.name))
        shutil.rmtree(root, ignore_errors=True)
        self._life.seam()
        for each in ids:
            self._disk.done.pop(each, None)
            self._disk.feeds.pop(each, None)

    async def hints(self) -> AsyncIterator[TransferId]:
        while True:
            yield await self._hints.get()

    def die(self) -> None:
        for task in self._running.values():
            task.cancel()

    async def _move(self, transfer: StageInputs | CollectOutputs) -> None:
        world = self._life.world
        await asyncio.sleep(world.random.choice([0.0, 0.001, 2.0, 30.0]))
        if self._life.dead:
            return
        if world.full_disk or world.random.random() < world.chaos.transfer_fails:
            error = OSError(errno.ENOSPC, "No space left on device")
            self._failed[transfer.id] = TransferState(transfer.id, TransferPhase.FAILED, str(error))
        else:
            written = tuple(transfer.archives.values()) if isinstance(transfer, CollectOutputs) else ()
            self._disk.published[transfer.id] += bool(written)
            if isinstance(transfer, CollectOutputs):
                assert all(each.is_dir() for each in roots(transfer)), "what was published was taken away meanwhile"
                self._disk.saved |= {WorkloadId(each.root.parent.name) for each in transfer.mirrors}
            self._disk.done[transfer.id] = TransferState(transfer.id, TransferPhase.DONE, written=written)
        del self._running[transfer.id]
        self._hints.put_nowait(transfer.id)


def roots(transfer: StageInputs | CollectOutputs) -> tuple[Path, ...]:
    """What a collection reads."""
    return (transfer.root, *transfer.peers) if isinstance(transfer, CollectOutputs) else ()
