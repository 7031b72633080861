from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from sagewright.core.ids import Account, Region, TransferId
from sagewright.staging.transfers import LocalTransfers
from sagewright.workloads.transfer import ChannelInput, CollectOutputs, StageInputs, TransferPhase, TransferState
from suites.pipes import FEED, Fed
from suites.plain_objects import PlainObjects

ACCOUNT, REGION = Account("000000000000"), Region("us-east-1")
FOLDERS = ("model", "output", "output/data", "input/data")


class Bench:
    """Transfers over plain objects, and their restarts."""

    def __init__(self, folder: Path) -> None:
        self.objects = PlainObjects(folder / "objects")
        self.objects.create_bucket("b")
        self.workloads = folder / "workloads"
        self.workloads.mkdir()
        self.own = self.workloads / "job-1"
        self.root = self.own / "ml"
        self.transfers = LocalTransfers(self.objects, self.workloads)

    def restart(self) -> None:
        self.transfers.close()
        self.transfers = LocalTransfers(self.objects, self.workloads)

    def inputs(self, *channels: tuple[str, str], **files: bytes) -> StageInputs:
        config = files or {"input/config/hyperparameters.json": b"{}"}
        inputs = tuple(ChannelInput(name, uri) for name, uri in channels)
        return StageInputs(TransferId("job-1.stage"), ACCOUNT, REGION, self.root, config, FOLDERS, inputs)

    def outputs(self, **archives: str) -> CollectOutputs:
        wanted = archives or {"model": "s3://b/out/model.tar.gz", "output/data": "s3://b/out/output.tar.gz"}
        return CollectOutputs(TransferId("job-1.collect"), ACCOUNT, REGION, self.root, wanted)

    def state(self, transfer: StageInputs | CollectOutputs) -> TransferState | None:
        return self.transfers.observe([transfer.id]).get(transfer.id)

    async def ended(self, transfer: StageInputs | CollectOutputs) -> TransferState:
        self.transfers.start(transfer)
        async with asyncio.timeout(60):
            while (state := self.state(transfer)) is None or state.phase is TransferPhase.RUNNING:
                await asyncio.sleep(0.002)
        return state

    async def trash_is_empty(self) -> None:
        trash = self.workloads / ".trash"
        async with asyncio.timeout(60):
            while trash.exists() and any(trash.iterdir()):
                await asyncio.sleep(0.002)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.transfers.close()


@pytest.fixture
def fed(bench: Bench) -> Iterator[Fed]:
    yield Fed(bench.root, lambda: bench.transfers, bench.inputs(), bench.ended)
    bench.transfers.forget([FEED], bench.own)
