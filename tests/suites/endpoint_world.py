"""A world for endpoints: the real loop, copier, store and streams; a fake engine, fake pings, fake gateways; everything
may die. Built on `reconcile_world`, whose seams end a life of the controller at each commit and action.

What is checked, at every commit and every action: `EndpointWorld.note_row`, `check_submit`, `check_stop`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.script import Script
from sagewright.controllers.controller import Drain, Health, Ping
from sagewright.controllers.endpoint_steps import Endpoint, Timing
from sagewright.controllers.endpoints import EndpointController
from sagewright.controllers.log_copier import LogCopier
from sagewright.controllers.look import Observer
from sagewright.controllers.loop import Loop
from sagewright.controllers.reconciler import Reconciler
from sagewright.core.clock import to_text
from sagewright.core.ids import Key, TransferId, WorkloadId
from sagewright.settings import ControllerSettings
from sagewright.store.db import Database
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Fleet, Instance
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.observation import Observation, Phase
from sagewright.workloads.transfer import StageModel, TransferPhase, TransferState
from sagewright.workloads.workload import Workload
from suites.hosting import endpoint_key
from suites.reconcile_world import DOCKER, Life, SeamBackend, SeamStore, SeamStreams, SimTransfers, World


@dataclass(frozen=True)
class Serving:
    """What a container of this image does, besides its script: healthy so many seconds after its start (None: never),
    and deaf between two moments of its life."""

    script: Script
    healthy_after: float | None = 0.0
    deaf: tuple[float, float] = (0.0, 0.0)


class EndpointWorld(World):
    """`images` says what a workload does, by the name of its image."""

    def __init__(self, folder: Path, random: Random, images: Mapping[str, Serving], timing: Timing) -> None:
        store = Database.open(folder / "store.db")
        super().__init__(store, folder, random, lambda workload: images[workload.image.name].script)
        self.images = images
        self.timing = timing
        self.routable: dict[Key, set[str]] = {}
        self.owners: dict[WorkloadId, tuple[Key, str]] = {}
        self.broken: list[str] = []  # the loop outlives whatever is raised in it, so what is wrong is kept here

    # -- the user --------------------------------------------------------------

    def deploy(self, wanted: EndpointSpec, name: str = "e") -> Key:
        key = endpoint_key(name)

        def insert(tx: Tx) -> None:
            if tx.find(key) is None:
                status = EndpointStatus().to_row()
                tx.insert(key, wanted.to_row(), status, kind.CREATING, now=self.clock.now(), wake=True)
                self.states[key] = kind.CREATING
                self.routable[key] = set()

        self.store.write(insert)
        self._hint(key)
        if key not in self.keys:
            self.keys.append(key)
        return key

    def change(self, key: Key, wanted: Callable[[EndpointSpec, EndpointStatus], EndpointSpec]) -> None:
        """As the operations do: only what is in service may be changed."""

        def update(tx: Tx) -> None:
            row = tx.find(key)
            if row is None:
                return
            spec, status = EndpointSpec.from_row(row.spec), EndpointStatus.from_row(row.status)
            if kind.shown_state(spec, status, row.state) == kind.IN_SERVICE:
                tx.update_spec(row, wanted(spec, status).to_row(), now=self.clock.now())

        self.store.write(update)
        self._hint(key)

    def delete(self, key: Key) -> None:
        self._wish(key, lambda row: True, delete_requested=True)

    def endpoint(self, key: Key) -> Endpoint | None:
        row = self.store.read(lambda tx: tx.find(key))
        return Endpoint.of(row) if row else None

    # -- the world -------------------------------------------------------------

    def new_token(self) -> str:
        return self.random.randbytes(4).hex()

    def health(self, workload: WorkloadId) -> Health | None:
        """What its pings would say now; None when it does not run."""
        self.engine.advance()
        program = self.engine.programs.get(workload)
        if program is None or not program.running or program.seen.started_at is None:
            return None
        serving = self.images[program.workload.image.name]
        age = (self.clock.now() - program.seen.started_at).total_seconds()
        good = serving.healthy_after is not None and age >= serving.healthy_after
        good = good and not serving.deaf[0] <= age < serving.deaf[1]
        told = Ping(to_text(self.clock.now()), 200 if good else None, "" if good else "connection refused")
        return Health(int(good), 0 if good else 3, (told,))

    async def live(self, until: float, settings: ControllerSettings | None = None) -> bool:
        self.life = EndpointLife(self, settings or ControllerSettings(full_pass=20.0))
        try:
            return await self.life.run(until)
        finally:
            await self.life.end()
            self.life = None

    # -- what must hold --------------------------------------------------------

    def note_row(self, row: Resource | None, key: Key) -> None:
        """After each commit: legal moves, and routes that lead to what is healthy as long as anything is."""
        if row is None:
            return
        before = self.states[key]
        self.must(row.state in kind.MOVES[before], f"{key.name}: {before} -> {row.state}")
        self.states[key] = row.state
        status = EndpointStatus.from_row(row.status)
        self.must((row.state == kind.FAILED) <= bool(status.failure_reason), "failed without a reason")
        self.must(len(status.failure_reason or "") <= 1024, "the reason is too long")
        self.must(row.state != kind.IN_SERVICE or status.serving_fleet is not None, "in service, and nothing serves")
        if row.state == kind.ROLLING_BACK:
            self.must(status.serving is not None, "an update that failed took the old fleet with it")
        now = {each.id for each in routable(status)}
        if not now and row.state != kind.DELETING and not row.spec["delete_requested"]:
            lost = self.routable[key] & {each.id for each in self._well(status)}
            self.must(not lost, f"nothing is routable, though {lost} could serve: {status}")
        self.routable[key] = now

    def must(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.broken.append(f"{self.clock.now()}: {otherwise}")

    def _well(self, status: EndpointStatus) -> list[Instance]:
        """Instances whose containers are all healthy in fact, unless the user wants none of their variant."""
        return [
            each
            for fleet in status.fleets
            for each in fleet.instances
            if each.workloads
            and fleet.plan.variant(each.variant).count
            and all((found := self.health(WorkloadId(id_))) and found.successes for id_ in each.workloads.values())
        ]

    def check_submit(self, workload: Workload) -> None:
        """Committed before it is used; never more live instances of a variant than its count, but for those that
        drain; never beside its own predecessor."""
        key, instance_id = endpoint_key(workload.labels["sagewright.endpoint"]), workload.labels["sagewright.instance"]
        found = self.endpoint(key)
        self.must(found is not None, f"{workload.id} was submitted for no row")
        if found is None:
            return
        fleet, instance = find(found.status, instance_id)
        self.must(workload.id in instance.workloads.values(), "the id was not committed before it was used")
        self.owners[workload.id] = (key, instance_id)
        live = self.engine.live() - {workload.id}
        beside = [
            each
            for each in fleet.of(instance.variant)
            if each.phase != kind.DRAINING
            and live & {WorkloadId(one) for one in each.workloads.values()}
            and each.id != instance_id
        ]
        count = fleet.plan.variant(instance.variant).count
        self.must(len(beside) < max(count, 1), f"{len(beside) + 1} live instances of {count}: {fleet}")

    def check_stop(self, workload: WorkloadId) -> None:
        """Routes never lead to what we stop."""
        key, instance_id = self.owners.get(workload, (None, ""))
        found = self.endpoint(key) if key else None
        if found is not None:
            now = {each.id for each in routable(found.status)}
            self.must(instance_id not in now, f"{instance_id} was stopped while it was routable")

    def check_settled(self) -> None:
        """In the end: every endpoint is in service as it was asked for, or has failed, or is gone; nothing is left."""
        assert not self.broken, self.broken[0]
        wanted: set[str] = set()
        for key in self.keys:
            found = self.endpoint(key)
            if found is None:
                continue
            assert not found.spec.delete_requested, f"{key.name} is not deleted: {found.status}"
            assert found.resource.state in {kind.IN_SERVICE, kind.FAILED}, f"{found.resource.state} {found.status}"
            if found.resource.state == kind.FAILED:
                assert (found.status.fleets, found.resource.wake_at) == ((), None)
                continue
            (fleet,) = found.status.fleets
            assert found.status.serving == fleet.id
            assert not found.status.pending
            self._check_routes(found.status)
            wanted |= {workload for each in fleet.instances for workload in each.workloads.values()}
        strays = {each for each in self.engine.programs if each not in wanted}
        assert not strays, f"left behind: {strays}"
        for transfer in self.disk.done:
            assert any(f".{fleet}." in transfer for fleet in self._fleets()), f"left behind: {transfer}"
        for workload, starts in self.engine.starts.items():
            assert starts <= 1 or workload in self.vanished, f"{workload} ran {starts} times"

    def _check_routes(self, status: EndpointStatus) -> None:
        """Routes lead to containers that are there, but for the moment in which one ends."""
        for instance in routable(status):
            for workload in map(WorkloadId, instance.workloads.values()):
                program = self.engine.programs.get(workload)
                assert program is not None, f"{workload} is routable and does not exist"
                ended = program.seen.ended_at
                assert ended is None or self.clock.now() - ended < timedelta(seconds=30), f"{workload} is dead"

    def _fleets(self) -> set[str]:
        return {each.id for key in self.keys if (found := self.endpoint(key)) for each in found.status.fleets}


def routable(status: EndpointStatus) -> list[Instance]:
    fleet = status.serving_fleet
    return [each for each in fleet.instances if each.phase == kind.READY] if fleet else []


def find(status: EndpointStatus, instance: str) -> tuple[Fleet, Instance]:
    return next((fleet, each) for fleet in status.fleets for each in fleet.instances if each.id == instance)


class EndpointLife(Life):
    """One controller process that looks after endpoints."""

    world: EndpointWorld

    def __init__(self, world: EndpointWorld, settings: ControllerSettings) -> None:
        self.world = world
        self.dead = False
        self.changes: asyncio.Queue[Key] = asyncio.Queue()
        self._died = asyncio.Event()
        self._backend = FakeBackend(world.engine)
        backends = {DOCKER: EndpointBackend(self, self._backend)}
        self.transfers = ModelTransfers(self)
        self._copier = LogCopier(
            SeamStreams(self),
            world.threads,
            self._wake,
            settings.backoff,
        )
        self.drains = SimDrains(self)
        observer = Observer(
            backends, self.transfers, self._copier, world.threads, pings=SimPings(self), drains=self.drains
        )
        controller = EndpointController(
            Path("/models"), lambda endpoint, variant, backend: {}, world.timing, world.new_token
        )
        reconciler = Reconciler(
            store=SeamStore(self),
            controllers=[controller],
            backends=backends,
            transfers=self.transfers,
            observer=observer,
            clock=world.clock,
            threads=world.threads,
        )
        self._loop = Loop(reconciler, backends, self.transfers, self._changed(), settings)

    def wake_key(self, key: Key) -> None:
        if self.world.random.random() >= self.world.chaos.hint_lost:
            self._loop.wake_key(key)


class EndpointBackend(SeamBackend):
    """Gives addresses, and checks what is asked of it."""

    _life: EndpointLife

    async def submit(self, workload: Workload) -> None:
        self._life.seam()
        self._life.world.check_submit(workload)
        await self._inner.submit(workload)
        self._life.seam()

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]:
        found = await super().observe(ids)
        return {
            each: replace(seen, address="10.0.0.1:8080") if seen.phase is Phase.RUNNING else seen
            for each, seen in found.items()
        }

    async def stop(self, workload: WorkloadId) -> None:
        self._life.world.check_stop(workload)
        await super().stop(workload)

    async def remove(self, workload: WorkloadId) -> None:
        if workload in self._life.world.engine.live():
            self._life.world.check_stop(workload)
        await super().remove(workload)


class SimPings:
    """Knows nothing at first, as after a restart; then what the world's containers would answer."""

    def __init__(self, life: EndpointLife) -> None:
        self._life = life
        self._since: dict[WorkloadId, float] = {}

    def follow(self, workload: WorkloadId, address: str, *, eager: bool) -> None:
        self._since.setdefault(workload, asyncio.get_running_loop().time())

    def state(self, workload: WorkloadId) -> Health | None:
        known_for = asyncio.get_running_loop().time() - self._since.get(workload, float("inf"))
        return self._life.world.health(workload) if known_for >= 0.1 else None

    def release(self, workload: WorkloadId) -> None:
        self._since.pop(workload, None)


class SimDrains:
    """Gateways with requests under way: none, for a while, or for longer than anybody waits."""

    def __init__(self, life: EndpointLife) -> None:
        self._life = life
        self._ends: dict[str, float] = {}

    def follow(self, instance: str, drain: Drain) -> bool:
        loop = asyncio.get_running_loop()
        if instance not in self._ends:
            wait = self._life.world.random.choice([0.01, 0.01, 5.0, 1e9])
            self._ends[instance] = loop.time() + wait
            if wait < 1e9:
                loop.call_later(wait, self._life.wake_key, drain.endpoint)
        return loop.time() >= self._ends[instance]


class ModelTransfers(SimTransfers):
    """Models become folders in no place at all."""

    _life: EndpointLife

    def start(self, transfer: Any) -> None:
        self._life.seam()
        assert isinstance(transfer, StageModel)
        if transfer.id in self._running or transfer.id in self._disk.done:
            return
        self._failed.pop(transfer.id, None)
        self._running[transfer.id] = asyncio.create_task(self._move(transfer))
        self._life.seam()

    def forget_models(self, ids: Collection[TransferId], models: Path) -> None:
        self._life.seam()
        for each in ids:
            if task := self._running.pop(each, None):
                task.cancel()
            self._failed.pop(each, None)
            self._disk.done.pop(each, None)
        self._life.seam()

    async def _move(self, transfer: Any) -> None:
        world = self._life.world
        await asyncio.sleep(world.random.choice([0.0, 0.001, 2.0, 30.0]))
        if self._life.dead:
            return
        if world.full_disk or world.random.random() < world.chaos.transfer_fails:
            self._failed[transfer.id] = TransferState(transfer.id, TransferPhase.FAILED, "No space left on device")
        else:
            folder = transfer.models / "hash"
            self._disk.done[transfer.id] = TransferState(transfer.id, TransferPhase.DONE, folder=folder)
        del self._running[transfer.id]
        self._hints.put_nowait(transfer.id)


def live_count(world: EndpointWorld) -> Counter[str]:
    """Live workloads by endpoint name."""
    return Counter(world.owners[each][0].name for each in world.engine.live())
