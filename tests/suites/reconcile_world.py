"""A world for the reconcile line: the real loop, copier, store and streams; a fake engine; everything may die.

One `World` is one machine: its database, streams, engine and the disk of the transfers outlive the controller
process. A life of that process is `World.live`; at each seam (before and after each commit, action and append) it
may end, and then nothing that it had begun has any further effect.
Time is virtual (`virtual_time`). What is checked is written in `World.check_*`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.engine import FakeEngine
from sagewright.backends.fake.program import Program
from sagewright.blobs.streams import LogStreams
from sagewright.controllers.log_copier import LogCopier
from sagewright.controllers.look import Observer
from sagewright.controllers.loop import Loop
from sagewright.controllers.reconciler import Reconciler
from sagewright.controllers.training_jobs import Timing, TrainingController
from sagewright.controllers.training_queue import JobQueue
from sagewright.controllers.training_steps import Job, collect_id
from sagewright.core.clock import from_text, to_text
from sagewright.core.errors import BlobNotFound
from sagewright.core.ids import BackendName, Key, Kind, TransferId, WorkloadId
from sagewright.settings import ControllerSettings
from sagewright.store.db import Database
from sagewright.store.kinds import training_job
from sagewright.store.kinds.training_job import MOVES, TERMINAL, TrainingStatus
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.transfer import TransferPhase, TransferState
from sagewright.workloads.workload import Workload
from suites.reconcile_seams import Crash, SeamBackend, SeamStore, SeamStreams, SimTransfers
from suites.training import job_key, spec
from suites.virtual_time import InlineExecutor, LoopClock

DOCKER = BackendName("docker")
POLL = Timing(poll=timedelta(seconds=4))  # rarer than in life: a third of the looks for the same histories


@dataclass
class Chaos:
    """Probabilities per call; 0 when the world has calmed down."""

    crash: float = 0.0
    unavailable: float = 0.0
    reply_lost: float = 0.0
    hint_lost: float = 0.0
    transfer_fails: float = 0.0
    slow: float = 0.0


class Disk:
    """What transfers leave behind beside folders: which are done, what feeds pipes, how often outputs were published
    and whose checkpoints were. Outlives lives."""

    def __init__(self) -> None:
        self.done: dict[TransferId, TransferState] = {}
        self.ran: Counter[TransferId] = Counter()
        self.feeds: dict[TransferId, TransferState] = {}
        self.published: Counter[TransferId] = Counter()
        self.saved: set[WorkloadId] = set()


class World:
    """See the module. `random` decides everything that may happen."""

    def __init__(self, store: Database, folder: Path, random: Random, choose: Callable[[Workload], Any]) -> None:
        self.random = random
        self.chaos = Chaos()
        self.full_disk = False
        self.disk = Disk()
        self.clock = LoopClock()
        self.programs: dict[WorkloadId, Program] = {}
        self.engine = FakeEngine(LoopClock(), choose)  # programs take their time, however the clock is set
        self.engine.faults = self._fault
        self._remember_programs()
        self.threads = InlineExecutor()
        self.store = store
        self.streams = LogStreams(folder / "streams")
        self.transfers_folder = folder / "workloads"
        self.transfers_folder.mkdir()
        self.keys: list[Key] = []
        self.ends: Counter[Key] = Counter()
        self.states: dict[Key, str] = {}
        self.submitted: dict[WorkloadId, Key] = {}
        self.vanished: set[WorkloadId] = set()
        self.misled: set[WorkloadId] = set()  # their feeders died within an epoch, while they ran
        self.life: Life | None = None
        self.at_once: int | None = 100  # jobs; None = as many as fit

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
        self._hint(job_key(name))
        return job_key(name)

    def stop(self, key: Key) -> None:
        self._wish(key, lambda row: row.state not in TERMINAL, stop_requested_at=to_text(self.clock.now()))

    def interrupt(self, key: Key) -> None:
        row = self.store.read(lambda tx: tx.find(key))
        if row is not None and row.state == training_job.IN_PROGRESS:
            self._wish(key, lambda row: True, interrupts=row.spec["interrupts"] + 1)

    def keep_alive(self, key: Key, seconds: int) -> None:
        """UpdateTrainingJob, of a job in line, under way, or with a warm pool."""
        row = self.store.read(lambda tx: tx.find(key))
        if row is not None and (Job.of(row).has_pool or row.state == training_job.IN_PROGRESS):
            request = row.spec["request"]
            config = {**request["ResourceConfig"], "KeepAlivePeriodInSeconds": seconds}
            self._wish(key, lambda row: True, request={**request, "ResourceConfig": config})

    def delete(self, key: Key) -> None:
        self._wish(key, lambda row: row.state in TERMINAL, delete_requested=True)

    def _wish(self, key: Key, allowed: Callable[[Resource], bool], **wish: Any) -> None:
        def update(tx: Tx) -> None:
            row = tx.find(key)
            if row is not None and allowed(row):
                tx.update_spec(row, {**row.spec, **wish}, now=self.clock.now())

        self.store.write(update)
        self._hint(key)

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

    def kill_feeder(self) -> None:
        """While nobody reads, or within an epoch: then what its container reads is cut off."""
        lives = sorted(each for each, state in self.disk.feeds.items() if state.phase is TransferPhase.RUNNING)
        if not lives:
            return
        feed = self.random.choice(lives)
        workload = WorkloadId(feed.rpartition(".")[0])
        if self.random.random() < 0.5:
            del self.disk.feeds[feed]
            return
        self.disk.feeds[feed] = TransferState(feed, TransferPhase.FAILED, "InternalServerError: killed")
        if workload in self.engine.live():
            self.misled.add(workload)

    def set_clock(self) -> None:
        """An hour back, a day ahead, or as much as a time server corrects."""
        self.clock.jump += self.random.choice([-3600.0, 86400.0, -5.0, 5.0])

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

        self.engine.make = remembering

    def _hint(self, key: Key) -> None:
        if self.life and self.random.random() >= self.chaos.hint_lost:
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
        """At every instant: at most one live workload per job and host, and nothing staged under a live one."""
        live = Counter((self.submitted[each], self.programs[each].workload.hostname) for each in self.engine.live())
        assert all(count == 1 for count in live.values()), f"two live workloads of one host: {live}"
        if self.at_once is not None:
            jobs = {key for key, _ in live if (job := self.job(key)) and job.resource.state not in TERMINAL}
            assert len(jobs) <= self.at_once, f"{len(jobs)} jobs at once"

    def check_forgotten(self, workload: WorkloadId) -> None:
        """Before its folder goes: what it left to the next attempt was published, or its job has ended."""
        job = self.job(self.submitted[workload]) if workload in self.submitted else None
        if job is None or job.resource.state in TERMINAL or not job.spec.request.get("CheckpointConfig"):
            return
        assert workload not in job.status.seen or workload in self.disk.saved, "checkpoints are lost"

    def note_row(self, row: Resource | None, key: Key) -> None:
        """After each commit: legal moves, one end, transitions that clients can print."""
        if row is None:
            return
        before = self.states.get(key, training_job.IN_PROGRESS)
        assert row.state in MOVES[before], f"{key.name}: {before} -> {row.state}"
        self.ends[key] += before not in TERMINAL and row.state in TERMINAL
        self.states[key] = row.state
        check_status(row)

    def is_settled(self) -> bool:
        jobs = [self.job(key) for key in self.keys]
        return not self.engine.programs and all(job is None or job.resource.wake_at is None for job in jobs)

    def check_settled(self) -> None:
        """In the end: every job has ended, once; nothing is left of it but its row and its log."""
        for key in self.keys:
            job = self.job(key)
            if job is None:
                assert self.ends[key] == 1
                continue
            assert job.resource.state in TERMINAL, f"{key.name} is {job.resource.state}: {job.status}"
            assert (job.resource.wake_at, job.status.cleaned or not job.workloads) == (None, True), job.status
            assert self.ends[key] == 1
            self._check_end(job)
        assert not self.engine.programs, f"left behind: {list(self.engine.programs)}"
        assert not list(self.transfers_folder.iterdir())
        assert not self.disk.done
        assert not self.disk.feeds, "a feeder outlives its job"
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
            assert len(job.workloads) == len(job.hosts)
            assert all(self.engine.starts[each] >= 1 for each in job.workloads)
            assert self.disk.published[collect_id(job.workloads[0])] == 1, "its outputs were not published once"
            assert not self.misled.intersection(job.workloads), "what it made of cut-off data passes for a model"
        for workload, stream in job.log_streams.items() if job.workloads else ():
            if workload in self.programs:
                self._check_log(job, self.programs[workload], stream)

    def _check_log(self, job: Job, program: Program, stream: tuple[str, str]) -> None:
        """Every line exactly once; of a container that vanished, a beginning."""
        expected = [record.message for record in program.records]
        try:
            kept = [event.message for event in self.streams.read_all(*stream)]
        except BlobNotFound:
            kept = []
        if program.workload.id in self.vanished or program.workload.id not in job.status.seen or _gave_up(job):
            expected = expected[: len(kept)]
        assert kept == expected, f"log of {job.name}, which {'ran' if job.ran else 'was never seen'}"


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
        assert status.secondary in {row.state, "MaxRuntimeExceeded", "MaxWaitTimeExceeded"}


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
            SeamStreams(self),
            world.threads,
            self._wake,
            settings.backoff,
        )
        observer = Observer(backends, self.transfers, self._copier, world.threads)
        reconciler = Reconciler(
            store=store,
            controllers=[
                TrainingController(
                    world.transfers_folder, lambda job: {}, POLL, world.new_id, queue=JobQueue(world.at_once)
                )
            ],
            backends=backends,
            transfers=self.transfers,
            observer=observer,
            clock=world.clock,
            threads=world.threads,
            wake=self._wake_key,
        )
        self._loop = Loop(reconciler, backends, self.transfers, self._changed(), settings)

    def _wake(self, workload: WorkloadId) -> None:
        self._loop.wake(workload)

    def _wake_key(self, key: Key) -> None:
        self._loop.wake_key(key)

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

    async def wait(self) -> None:
        """A seam on either side of the engine, which may take its time: the process may die while it waits."""
        self.seam()
        if self.world.chaos.slow and self.world.random.random() < self.world.chaos.slow:
            await asyncio.sleep(self.world.random.choice([0.02, 2.0, 20.0]))
            self.seam()

    async def _changed(self) -> AsyncIterator[Key]:
        while True:
            yield await self.changes.get()
