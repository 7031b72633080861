"""A world for the reconcile line: the real loop, copier, store and streams; a fake engine; everything may die.

One `World` is one machine: its database, streams, engine and the disk of the transfers outlive the controller
process. A life of that process is `World.live`; at each seam (before and after each commit, action and append) it
may end, and then nothing that it had begun has any further effect.
Time is virtual (`virtual_time`). What is checked is written in `World.check_*`.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.engine import FakeEngine
from sagewright.backends.fake.program import Program
from sagewright.blobs.streams import LogStreams
from sagewright.controllers.log_copier import LogCopier
from sagewright.controllers.look import Observer
from sagewright.controllers.loop import Loop
from sagewright.controllers.reconciler import Reconciler
from sagewright.controllers.training_jobs import TrainingController
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import from_text, to_text
from sagewright.core.errors import BlobStoreFull, StoreUnavailable
from sagewright.core.ids import BackendName, Key, Kind, TransferId, WorkloadId
from sagewright.settings import ControllerSettings
from sagewright.store.db import Database
from sagewright.store.kinds import training_job
from sagewright.store.kinds.training_job import MOVES, TERMINAL, TrainingStatus
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.backend import Capabilities, LogCursor, LogRecord
from sagewright.workloads.observation import Observation
from sagewright.workloads.transfer import CollectOutputs, StageInputs, TransferPhase, TransferState
from sagewright.workloads.workload import Workload
from suites.training import job_key, spec
from suites.virtual_time import InlineExecutor, LoopClock

T = TypeVar("T")
DOCKER = BackendName("docker")


class Crash(BaseException):
    """The process is killed here."""


@dataclass
class Chaos:
    """Probabilities per call; 0 when the world has calmed down."""

    crash: float = 0.0
    unavailable: float = 0.0
    reply_lost: float = 0.0
    hint_lost: float = 0.0
    transfer_fails: float = 0.0


class Disk:
    """What transfers leave behind beside folders: which are done. Outlives lives."""

    def __init__(self) -> None:
        self.done: dict[TransferId, TransferState] = {}
        self.ran: Counter[TransferId] = Counter()


class World:
    """See the module. `random` decides everything that may happen."""

    def __init__(self, folder: Path, random: Random, choose: Callable[[Workload], Any]) -> None:
        self.random = random
        self.chaos = Chaos()
        self.full_disk = False
        self.disk = Disk()
        self.clock = LoopClock()
        self.programs: dict[WorkloadId, Program] = {}
        self.engine = FakeEngine(self.clock, choose)
        self.engine.faults = self._fault
        self._remember_programs()
        self.threads = InlineExecutor()
        self.store = Database.open(folder / "store.db", listener=self._heard)
        self.streams = LogStreams(folder / "streams")
        self.transfers_folder = folder / "workloads"
        self.transfers_folder.mkdir()
        self.keys: list[Key] = []
        self.ends: Counter[Key] = Counter()
        self.states: dict[Key, str] = {}
        self.submitted: dict[WorkloadId, Key] = {}
        self.vanished: set[WorkloadId] = set()
        self.life: Life | None = None

    # -- the user --------------------------------------------------------------

    def create(self, name: str, **more: Any) -> Key:
        wanted = spec(name, **more)

        def insert(tx: Tx) -> Resource:
            return tx.insert(
                job_key(name),
                wanted.to_row(),
                TrainingStatus().to_row(),
                training_job.IN_PROGRESS,
                now=self.clock.now(),
                wake=True,
            )

        self.store.write(insert)
        self.keys.append(job_key(name))
        return job_key(name)

    def stop(self, key: Key) -> None:
        self._wish(key, lambda row: row.state not in TERMINAL, stop_requested_at=to_text(self.clock.now()))

    def delete(self, key: Key) -> None:
        self._wish(key, lambda row: row.state in TERMINAL, delete_requested=True)

    def _wish(self, key: Key, allowed: Callable[[Resource], bool], **wish: Any) -> None:
        def update(tx: Tx) -> None:
            row = tx.find(key)
            if row is not None and allowed(row):
                tx.update_spec(row, {**row.spec, **wish}, now=self.clock.now())

        self.store.write(update)

    def job(self, key: Key) -> Job | None:
        row = self.store.read(lambda tx: tx.find(key))
        return Job.of(row) if row else None

    # -- the world -------------------------------------------------------------

    def new_id(self, kind: Kind, name: str, attempt: int, host: int) -> WorkloadId:
        """As `core.ids.workload_id`, from this history's own randomness."""
        return WorkloadId(f"{kind}-{name}-{attempt}-algo-{host}-{self.random.randbytes(4).hex()}")

    def vanish(self) -> None:
        """Somebody removes a container by hand."""
        if self.engine.programs:
            workload = self.random.choice(sorted(self.engine.programs))
            self.vanished.add(workload)
            self.engine.vanish(workload)

    def reboot(self) -> None:
        """The machine restarts: what ran is lost."""
        for workload in self.engine.live():
            self.vanished.add(workload)
            self.engine.lose(workload)

    def _fault(self, verb: Any, workload: WorkloadId | None) -> Any:
        from sagewright.backends.fake.engine import Fault

        drawn = self.random.random()
        if drawn < self.chaos.unavailable:
            return Fault.UNAVAILABLE
        return Fault.REPLY_LOST if drawn < self.chaos.unavailable + self.chaos.reply_lost else Fault.NONE

    def _remember_programs(self) -> None:
        make = self.engine.make

        def remembering(workload: Workload, installation: str) -> Program:
            program = make(workload, installation)
            self.programs[workload.id] = program
            return program

        self.engine.make = remembering  # type: ignore[method-assign]

    def _heard(self, keys: Collection[Key]) -> None:
        if self.life and self.random.random() >= self.chaos.hint_lost:
            for key in keys:
                self.life.changes.put_nowait(key)

    # -- lives -----------------------------------------------------------------

    async def live(self, until: float, settings: ControllerSettings | None = None) -> bool:
        """One life of the controller process, until the given time or a crash. True when it crashed."""
        self.life = Life(self, settings or ControllerSettings())
        try:
            return await self.life.run(until)
        finally:
            await self.life.end()
            self.life = None

    # -- what must hold --------------------------------------------------------

    def check_now(self) -> None:
        """At every instant: at most one live workload per job, and nothing staged under a live one."""
        live = Counter(self.submitted[each] for each in self.engine.live())
        assert all(count == 1 for count in live.values()), f"two live workloads of one job: {live}"

    def note_row(self, row: Resource | None, key: Key) -> None:
        """After each commit: legal moves, one end, transitions that clients can print."""
        if row is None:
            return
        before = self.states.get(key, training_job.IN_PROGRESS)
        assert row.state in MOVES[before], f"{key.name}: {before} -> {row.state}"
        self.ends[key] += before not in TERMINAL and row.state in TERMINAL
        self.states[key] = row.state
        check_status(row)

    def check_settled(self) -> None:
        """In the end: every job has ended, once; nothing is left of it but its row and its log."""
        for key in self.keys:
            job = self.job(key)
            if job is None:
                assert self.ends[key] == 1
                continue
            assert job.resource.state in TERMINAL, f"{key.name} is {job.resource.state}: {job.status}"
            assert (job.resource.wake_at, job.status.cleaned or job.workload is None) == (None, True), job.status
            assert self.ends[key] == 1
            self._check_end(job)
        assert not self.engine.programs, f"left behind: {list(self.engine.programs)}"
        assert not list(self.transfers_folder.iterdir())
        assert not self.disk.done
        for workload, starts in self.engine.starts.items():
            assert starts <= 1 or workload in self.vanished, f"{workload} ran {starts} times"

    def _check_end(self, job: Job) -> None:
        reason = job.status.failure_reason
        assert (job.resource.state == training_job.FAILED) == bool(reason)
        if reason:
            assert len(reason) <= 1024
            assert reason.partition(": ")[2]
        if job.resource.state == training_job.COMPLETED:
            assert job.status.exit_code == 0
            assert job.workload is not None
            assert self.engine.starts[job.workload] >= 1
        if job.workload and job.workload in self.programs:
            self._check_log(job, self.programs[job.workload])

    def _check_log(self, job: Job, program: Program) -> None:
        """Every line exactly once; of a container that vanished, a beginning."""
        group, stream = job.log_stream
        expected = [record.message for record in program.records]
        with suppress(Exception):
            kept = [event.message for event in self.streams.read_all(group, stream)]
            if program.workload.id in self.vanished or not job.ran or _gave_up(job):
                assert kept == expected[: len(kept)], job.name
            else:
                assert kept == expected, job.name
            return
        assert not job.ran or _gave_up(job), f"{job.name} ran and has no log"


def _gave_up(job: Job) -> bool:
    return "Sagewright waited" in (job.status.failure_reason or "")


def check_status(row: Resource) -> None:
    """What every reader of a status may rely on (compat-surface: both Status and StatusMessage are indexed)."""
    status = TrainingStatus.from_row(row.status)
    for entry in status.transitions:
        assert entry["Status"]
        assert entry["StatusMessage"]
        assert entry["StartTime"] <= entry.get("EndTime", entry["StartTime"])
    for earlier, later in pairwise(status.transitions):
        assert from_text(earlier["EndTime"]) <= from_text(later["StartTime"])
        assert (earlier["Status"], earlier["StatusMessage"]) != (later["Status"], later["StatusMessage"])
    if status.transitions:
        assert status.transitions[-1]["Status"] == status.secondary
    if row.state in TERMINAL:
        assert status.transitions[-1]["EndTime"]
        assert status.secondary in {row.state, "MaxRuntimeExceeded"}


class Life:
    """One controller process. After its death every seam refuses, so nothing has a later effect."""

    def __init__(self, world: World, settings: ControllerSettings) -> None:
        self.world = world
        self.dead = False
        self.changes: asyncio.Queue[Key] = asyncio.Queue()
        self._died = asyncio.Event()
        self._backend = FakeBackend(world.engine)
        backends = {DOCKER: SeamBackend(self, self._backend)}
        self.transfers = SimTransfers(self)
        store = SeamStore(self)
        self._copier = LogCopier(
            SeamStreams(self),  # type: ignore[arg-type]
            world.threads,
            self._wake,
            settings.backoff,
        )
        observer = Observer(backends, self.transfers, self._copier, world.threads)
        reconciler = Reconciler(
            store=store,  # type: ignore[arg-type]
            controllers=[TrainingController(world.transfers_folder, lambda job: {}, new_id=world.new_id)],
            backends=backends,
            transfers=self.transfers,
            observer=observer,
            clock=world.clock,
            threads=world.threads,
        )
        self._loop = Loop(reconciler, backends, self.transfers, self._changed(), settings)

    def _wake(self, workload: WorkloadId) -> None:
        self._loop.wake(workload)

    async def run(self, until: float) -> bool:
        clock = asyncio.get_running_loop()
        running = asyncio.create_task(self._loop.run())
        died = asyncio.create_task(self._died.wait())
        await asyncio.wait((running, died), timeout=max(0.0, until - clock.time()), return_when=asyncio.FIRST_COMPLETED)
        crashed = self.dead
        self.dead = True
        for task in (died, running):
            task.cancel()
        await asyncio.wait((died, running))
        if not running.cancelled() and (error := running.exception()) and not crashed:
            raise error
        return crashed

    async def end(self) -> None:
        self.dead = True
        self.transfers.die()
        await self._copier.aclose()
        await self._backend.aclose()

    def seam(self) -> None:
        """The process may die here; once dead, it does nothing any more."""
        if not self.dead and self.world.random.random() < self.world.chaos.crash:
            self.dead = True
            self._died.set()
        if self.dead:
            raise Crash

    async def _changed(self) -> AsyncIterator[Key]:
        while True:
            yield await self.changes.get()


class SeamBackend:
    """A backend in whose calls the process may die, before or after their effect."""

    def __init__(self, life: Life, inner: FakeBackend) -> None:
        self._life = life
        self._inner = inner

    async def describe(self) -> Capabilities:
        return await self._inner.describe()

    async def submit(self, workload: Workload) -> None:
        self._life.seam()
        world = self._life.world
        world.submitted[workload.id] = job_key(workload.labels["sagewright.training-job"])
        job = world.job(world.submitted[workload.id])
        assert job is not None
        assert job.workload == workload.id, "the id was not committed before it was used"
        await self._inner.submit(workload)
        world.check_now()
        self._life.seam()

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]:
        self._life.seam()
        return await self._inner.observe(ids)

    async def stop(self, workload: WorkloadId) -> None:
        self._life.seam()
        await self._inner.stop(workload)
        self._life.seam()

    async def remove(self, workload: WorkloadId) -> None:
        self._life.seam()
        await self._inner.remove(workload)
        self._life.seam()

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
    """Transfers that take time, fail, and are forgotten with their process unless they were done."""

    def __init__(self, life: Life) -> None:
        self._life = life
        self._disk = life.world.disk
        self._running: dict[TransferId, asyncio.Task[None]] = {}
        self._failed: dict[TransferId, TransferState] = {}
        self._hints: asyncio.Queue[TransferId] = asyncio.Queue()

    def start(self, transfer: StageInputs | CollectOutputs) -> None:
        self._life.seam()
        if transfer.id in self._running or transfer.id in self._disk.done:
            return
        world = self._life.world
        workload = WorkloadId(transfer.id.rpartition(".")[0])
        assert workload not in world.engine.live(), "files are moved under a live container"
        self._disk.ran[transfer.id] += 1
        transfer.root.mkdir(parents=True, exist_ok=True)
        self._running[transfer.id] = asyncio.create_task(self._move(transfer))
        self._life.seam()

    def observe(self, ids: Collection[TransferId]) -> Mapping[TransferId, TransferState]:
        running = {each: TransferState(each, TransferPhase.RUNNING) for each in self._running}
        known = running | self._failed | self._disk.done
        return {each: known[each] for each in ids if each in known}

    def forget(self, ids: Collection[TransferId], root: Path) -> None:
        self._life.seam()
        for each in ids:
            if task := self._running.pop(each, None):
                task.cancel()
            self._failed.pop(each, None)
        shutil.rmtree(root, ignore_errors=True)
        self._life.seam()
        for each in ids:
            self._disk.done.pop(each, None)

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
            self._disk.done[transfer.id] = TransferState(transfer.id, TransferPhase.DONE, written=written)
        del self._running[transfer.id]
        self._hints.put_nowait(transfer.id)

