"""Runs of the batch driver with answers in any order: whatever the objects and the delays, outputs are the records in
order, or absent; no more is under way or held than was asked for."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.batch import driver as module
from sagewright.batch.driver import Driver
from sagewright.batch.reports import Report
from sagewright.batch.sending import failed
from sagewright.batch.splitting import Batch
from sagewright.blobs.streams import LogStreams
from sagewright.core.errors import TransferError
from sagewright.core.ids import Account, Region, TransferId
from sagewright.workloads.transfer import RunTransform
from suites.plain_objects import PlainObjects

LINES = st.lists(st.sampled_from([b"a", b"bb", b"", b"ccc", b"!"]), max_size=12)
OBJECTS = st.dictionaries(st.sampled_from([f"in/{name}" for name in "abcdefgh"]), LINES, min_size=1, max_size=6)


class World:
    """Stands in for the sender: answers after a while, in upper case; what has a `!` in it fails."""

    def __init__(self, run: Driver, concurrency: int, seed: int) -> None:
        self.run = run
        self.concurrency = concurrency
        self.chance = random.Random(seed)
        self.now = 0
        self.sent: list[tuple[str, int]] = []

    async def send(self, batch: Batch, where: str, bad: object) -> bytes:
        self.now += 1
        assert self.now <= self.concurrency
        assert self.run._held <= 2 * self.concurrency
        self.sent.append((where, batch.first))
        for _ in range(self.chance.randrange(8)):
            await asyncio.sleep(0)
        self.now -= 1
        if b"!" in batch.data:
            raise failed("ClientError", batch, "no !")
        return batch.data.upper() + b"\n"

    def close(self) -> None:
        pass


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@settings(max_examples=60, deadline=None)
@given(objects=OBJECTS, concurrency=st.integers(1, 9), seed=st.integers(0, 1 << 16))
def test_outputs_are_whole_and_in_order(objects: Mapping[str, list[bytes]], concurrency: int, seed: int) -> None:
    with place() as folder:
        store = PlainObjects(folder / "objects")
        store.create_bucket("b")
        for key, lines in objects.items():
            store.put("b", key, b"".join(line + b"\n" for line in lines))
        told: list[Mapping[str, Any]] = []
        job = _job(folder, concurrency)
        report = Report(LogStreams(folder / "streams"), job.log_stream, told.append)
        run = Driver(job, store, report)
        world = World(run, concurrency, seed)
        reason = ""
        with patch.object(module, "Sender", lambda *_: world), patch.object(Driver, "_choose", _choose):
            try:
                asyncio.run(run.run())
            except TransferError as error:
                reason = str(error)
        outputs = {key: store.read("b", key) for key in store.keys("b") if key.startswith("out/")}
        good = {key: lines for key, lines in objects.items() if b"!" not in lines}
        assert outputs == {
            f"out/{key[3:]}.out": b"".join(line.upper() + b"\n" for line in lines) for key, lines in good.items()
        }
        assert bool(reason) == (len(good) < len(objects))
        assert store.leftovers() == 0
        assert len(world.sent) == len(set(world.sent)), "nothing is sent twice"
        last = told[-1]
        assert (last["objects"], last["failed"]) == (len(objects), len(objects) - len(good))
        assert last["bytes"] == last["bytes_total"]
        for key, lines in objects.items():
            if b"!" in lines:
                first = lines.index(b"!") + 1
                sent = [number for where, number in world.sent if where == f"b/{key}"]
                assert set(range(1, first + 1)) <= set(sent), "all before the first bad record, and that one"
                assert max(sent) <= first + 2 * concurrency, "and little after it"
        if reason:
            key = next(key for key in objects if f"b/{key}," in reason)
            assert f"record {objects[key].index(b'!') + 1}:" in reason, "the first bad one of its object"


async def _choose(self: Driver) -> Any:
    return module.choose(self.job.request, {})


def _job(folder: Path, concurrency: int) -> RunTransform:
    request = {
        "TransformJobName": "job",
        "MaxConcurrentTransforms": concurrency,
        "BatchStrategy": "SingleRecord",
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/in/"}},
            "SplitType": "Line",
        },
        "TransformOutput": {"S3OutputPath": "s3://b/out"},
    }
    return RunTransform(
        TransferId("run"),
        Account("0"),
        Region("r"),
        folder / "job" / "0",
        request,
        ("nowhere:1",),
        0,
        1,
        ("group", "stream"),
        "2026-01-02T03:04:05.000000Z",
    )
