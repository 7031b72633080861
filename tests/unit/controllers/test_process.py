"""The controller process with its real parts: SQLite, stream files, objects on disk, threads, the hint socket."""

from __future__ import annotations

import asyncio
import io
import json
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from sagewright.backends.fake.backend import FakeBackend
from sagewright.backends.fake.engine import FakeEngine
from sagewright.backends.fake.script import Await, Do, End, Say, Script
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.controllers.process import Parts, run_controller
from sagewright.controllers.training_jobs import TrainingController
from sagewright.core.clock import SystemClock
from sagewright.core.ids import BackendName
from sagewright.objects.local import LocalObjects
from sagewright.settings import ControllerSettings
from sagewright.staging.transfers import LocalTransfers
from sagewright.store import object_rows
from sagewright.store.changes import ChangeReceiver, ChangeSender
from sagewright.store.db import Database
from sagewright.store.kinds.training_job import IN_PROGRESS, TERMINAL, TrainingStatus
from sagewright.store.resources import Resource
from sagewright.workloads.workload import Workload
from suites.training import ACCOUNT, REGION, job_key, spec

NEVER_IN_VAIN = 60.0


class Installation:
    """A data directory, a gateway's view of it, and an engine that outlives controllers."""

    def __init__(self, folder: Path, script: Script) -> None:
        self.folder = folder
        self.engine = FakeEngine(SystemClock(), lambda workload: script)
        self._sender = ChangeSender(folder / "changes.sock")
        self.gateway = Database.open(folder / "store.db", listener=self._sender)
        self.blobs = FileBlobs(folder / "blobs")
        self.objects = LocalObjects(self.gateway, self.blobs)
        self.streams = LogStreams(folder / "streams")
        self.workloads = folder / "workloads"
        self.workloads.mkdir()
        self.gateway.write(
            lambda tx: object_rows.insert_bucket(
                tx, name="b", account=ACCOUNT, region=REGION, now=datetime.now(UTC), settings={}
            )
        )

    def close(self) -> None:
        self.gateway.close()
        self._sender.close()

    def put(self, key: str, content: bytes) -> None:
        with self.objects.put_stream("b", key) as writer:
            writer.write(content)
            writer.commit()

    def create(self, *channels: str, **more: Any) -> None:
        wanted, status = spec("job", *channels, **more), TrainingStatus()
        self.gateway.write(
            lambda tx: tx.insert(
                job_key(), wanted.to_row(), status.to_row(), IN_PROGRESS, now=datetime.now(UTC), wake=True
            )
        )

    def row(self) -> Resource:
        return self.gateway.read(lambda tx: tx.get(job_key()))

    async def until(self, *states: str) -> Resource:
        async with asyncio.timeout(NEVER_IN_VAIN):
            while (row := self.row()).state not in states or (row.state in TERMINAL and row.wake_at):
                await asyncio.sleep(0.005)
        return row

    @asynccontextmanager
    async def controller(self) -> AsyncIterator[None]:
        store = Database.open(self.folder / "store.db")
        backend = FakeBackend(self.engine)
        transfers = LocalTransfers(LocalObjects(store, self.blobs), self.workloads)
        changes = ChangeReceiver(self.folder / "changes.sock")
        parts = Parts(
            store=store,
            streams=LogStreams(self.folder / "streams"),
            backends={BackendName("docker"): backend},
            transfers=transfers,
            controllers=[TrainingController(self.workloads, lambda job: {"AWS_ENDPOINT_URL": "http://here"})],
            changes=changes,
            clock=SystemClock(),
            settings=ControllerSettings(full_pass=0.2, poll=0.05),
            gateways=self.folder / "gateways",
        )
        stop = asyncio.Event()
        running = asyncio.create_task(run_controller(parts, stop))
        try:
            yield
        finally:
            stop.set()
            async with asyncio.timeout(NEVER_IN_VAIN):
                await running
            transfers.close()
            changes.close()
            await backend.aclose()
            store.close()


def train(workload: Workload) -> None:
    """What a user's container does: reads its input and its parameters, writes a model and a note."""
    root = workload.mounts[0].source
    data = (root / "input/data/train/deep/iris.csv").read_bytes()
    parameters = json.loads((root / "input/config/hyperparameters.json").read_text())
    (root / "model" / "model.txt").write_bytes(data + parameters["suffix"].encode())
    (root / "output/data/note").write_text(workload.env["AWS_ENDPOINT_URL"])


@pytest.fixture
def install(tmp_path: Path) -> Iterator[Callable[..., Installation]]:
    made: list[Installation] = []

    def install(*steps: Any) -> Installation:
        made.append(Installation(tmp_path, Script(steps)))
        return made[0]

    yield install
    made[0].close()


def unpacked(installation: Installation, key: str) -> dict[str, bytes]:
    with installation.objects.open("b", key) as packed:
        content = io.BytesIO(packed.read())
    with tarfile.open(fileobj=content, mode="r:gz") as tar:
        return {each.name: tar.extractfile(each).read() for each in tar if each.isfile()}


async def test_a_job_goes_from_its_request_to_its_model_and_leaves_only_that(
    install: Callable[..., Installation],
) -> None:
    installation = install(Say(b"loss=0.5\n"), Do(train), End(0))
    installation.put("train/deep/iris.csv", b"1,2")
    algorithm = {
        "TrainingImage": "mine",
        "TrainingInputMode": "File",
        "MetricDefinitions": [{"Name": "loss", "Regex": "loss=(.*)"}],
    }
    async with installation.controller():
        installation.create("train", HyperParameters={"suffix": "!"}, AlgorithmSpecification=algorithm)
        row = await installation.until(*TERMINAL)
    assert (row.state, row.status["failure_reason"]) == ("Completed", None)
    assert unpacked(installation, "out/job/output/model.tar.gz") == {"model.txt": b"1,2!"}
    assert unpacked(installation, "out/job/output/output.tar.gz") == {"note": b"http://here"}
    assert [metric["Value"] for metric in row.status["metrics"]] == [0.5]
    (stream,) = installation.streams.names("/aws/sagemaker/TrainingJobs", "job/")
    assert installation.streams.tail("/aws/sagemaker/TrainingJobs", stream, 9) == [b"loss=0.5"]
    assert [each["Status"] for each in row.status["transitions"]] == [
        *("Starting", "Starting", "Downloading", "Downloading", "Training", "Uploading", "Completed"),
    ]
    assert [each.name for each in installation.workloads.iterdir() if not each.name.startswith(".")] == []
    assert not installation.engine.programs


async def test_a_job_goes_on_over_restarts_of_the_controller(install: Callable[..., Installation]) -> None:
    gate = asyncio.Event()
    installation = install(Say(b"one\n"), Await(gate.is_set), Say(b"two\n"), End(3))
    async with installation.controller():
        installation.create()
        async with asyncio.timeout(NEVER_IN_VAIN):
            while installation.row().status["secondary"] != "Training":
                await asyncio.sleep(0.005)
    async with installation.controller():
        await asyncio.sleep(0.05)
    gate.set()
    async with installation.controller():
        row = await installation.until(*TERMINAL)
    assert row.status["failure_reason"] == (
        "AlgorithmError: The program ended with an error and wrote no /opt/ml/output/failure. Last log lines:\n"
        "one\ntwo, exit code: 3"
    )
    assert list(installation.engine.starts.values()) == [1]


async def test_a_job_created_while_no_controller_runs_is_found(install: Callable[..., Installation]) -> None:
    installation = install(End(0))
    installation.create()
    async with installation.controller():
        assert (await installation.until(*TERMINAL)).state == "Completed"


async def test_stopping_the_controller_leaves_the_container_alone(install: Callable[..., Installation]) -> None:
    installation = install(Await(lambda: False))
    async with installation.controller():
        installation.create()
        async with asyncio.timeout(NEVER_IN_VAIN):
            while not installation.engine.live():
                await asyncio.sleep(0.005)
    assert installation.row().state == IN_PROGRESS
    assert installation.engine.live()


async def test_hints_that_break_slow_a_job_down_and_stop_nothing(
    install: Callable[..., Installation], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: object) -> object:
        raise ZeroDivisionError("a bug")

    for source, name in ((FakeBackend, "hints"), (LocalTransfers, "hints"), (ChangeReceiver, "__aiter__")):
        monkeypatch.setattr(source, name, broken)
    installation = install(End(0))
    async with installation.controller():
        installation.create()
        assert (await installation.until(*TERMINAL)).state == "Completed"
    assert "ZeroDivisionError" in caplog.text
