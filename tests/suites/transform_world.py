"""Batch transform jobs in a world of which everything may die: as `endpoint_world`, with runs instead of requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from sagewright.controllers.controller import Controller
from sagewright.controllers.training_jobs import Timing
from sagewright.controllers.transform_jobs import TransformController
from sagewright.controllers.transform_steps import Job
from sagewright.core.clock import to_text
from sagewright.core.ids import Key, WorkloadId
from sagewright.store.kinds import transform_job as kind
from sagewright.store.kinds.endpoint import VariantPlan
from sagewright.store.kinds.transform_job import MOVES, TERMINAL, TransformSpec, TransformStatus
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.transfer import RunTransform, TransferPhase, TransferState
from sagewright.workloads.workload import Workload
from suites.endpoint_world import EndpointLife, EndpointWorld, ModelTransfers, Serving
from suites.hosting import ACCOUNT, REGION


class TransformWorld(EndpointWorld):
    def __init__(self, folder: Path, random: Random, images: Mapping[str, Serving], timing: Timing) -> None:
        super().__init__(folder, random, images, timing)  # type: ignore[arg-type]  # each controller has its own
        self.job_timing = timing

    def controller(self) -> Controller[Any]:
        return TransformController(
            self.transfers_folder, Path("/models"), lambda plan, backend: {}, self.job_timing, self.new_token
        )

    def transfers(self, life: EndpointLife) -> RunTransfers:
        return RunTransfers(life)

    # -- the user --------------------------------------------------------------

    def begin(self, name: str, plan: VariantPlan) -> None:
        key = kind.key(ACCOUNT, REGION, name)
        request = {"TransformJobName": name, "TransformInput": {}, "TransformOutput": {}}

        def insert(tx: Tx) -> None:
            row, status = TransformSpec(request, plan).to_row(), TransformStatus().to_row()
            tx.insert(key, row, status, kind.IN_PROGRESS, now=self.clock.now(), wake=True)

        self.store.write(insert)
        self.keys.append(key)
        self._hint(key)

    def stop(self, key: Key) -> None:
        self._wish(key, lambda row: row.state not in TERMINAL, stop_requested_at=to_text(self.clock.now()))

    def is_settled(self) -> bool:
        return not self.engine.programs and all(self.transform(key).resource.wake_at is None for key in self.keys)

    def transform(self, key: Key) -> Job:
        return Job.of(self.store.read(lambda tx: tx.get(key)))

    # -- what must hold --------------------------------------------------------

    def note_row(self, row: Resource | None, key: Key) -> None:
        if row is None:
            return
        before = self.states.get(key, kind.IN_PROGRESS)
        self.must(row.state in MOVES[before], f"{key.name}: {before} -> {row.state}")
        self.ends[key] += before not in TERMINAL and row.state in TERMINAL
        self.states[key] = row.state

    def check_submit(self, workload: Workload) -> None:
        owners = [key for key in self.keys if workload.id in self.transform(key).workloads()]
        self.must(len(owners) == 1, f"{workload.id} was not committed before it was used")
        self.must(self.states.get(owners[0]) not in TERMINAL, f"{workload.id} starts after its job's end")

    def check_stop(self, workload: WorkloadId) -> None:
        pass

    def check_settled(self) -> None:
        """In the end: every job has ended, once; what it wrote was written once; nothing is left of it but its row."""
        assert not self.broken, self.broken[0]
        for key in self.keys:
            job = self.transform(key)
            assert job.resource.state in TERMINAL, f"{key.name} is {job.resource.state}: {job.status}"
            assert (self.ends[key], job.resource.wake_at, job.status.cleaned) == (1, None, True), job.status
            assert (job.resource.state == kind.FAILED) == bool(job.status.failure_reason)
            if job.resource.state == kind.COMPLETED:
                runs = [each for each in self.disk.published if each.startswith(f"transform-{key.name}-i-")]
                assert [self.disk.published[each] for each in runs] == [1] * len(job.status.instances)
        assert not self.engine.programs, f"left behind: {list(self.engine.programs)}"
        assert not list(self.transfers_folder.iterdir())
        assert not self.disk.done
        for workload, starts in self.engine.starts.items():
            assert starts <= 1 or workload in self.vanished, f"{workload} ran {starts} times"


class RunTransfers(ModelTransfers):
    """Models, and runs: these take time, need their containers, and go on where they were cut off."""

    def start(self, transfer: Any) -> None:
        if not isinstance(transfer, RunTransform):
            super().start(transfer)
            return
        self._life.seam()
        if transfer.id in self._running or transfer.id in self._disk.done:
            return
        transfer.root.mkdir(parents=True, exist_ok=True)
        self._failed.pop(transfer.id, None)
        self._running[transfer.id] = asyncio.create_task(self._go(transfer))
        self._life.seam()

    async def _go(self, transfer: RunTransform) -> None:
        world = self._life.world
        await asyncio.sleep(world.random.choice([0.0, 0.5, 10.0, 60.0]))
        if self._life.dead:
            return
        if world.full_disk or world.random.random() < world.chaos.transfer_fails:
            told = "ClientError: No space left on device"
            self._failed[transfer.id] = TransferState(transfer.id, TransferPhase.FAILED, told)
        else:
            self._disk.published[transfer.id] += 1
            self._disk.done[transfer.id] = TransferState(transfer.id, TransferPhase.DONE, progress={"objects": 1})
        del self._running[transfer.id]
        self._hints.put_nowait(transfer.id)
