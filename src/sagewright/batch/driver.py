"""Driving one instance: every object of its share, split, sent, put together in order, published whole.

    plan ─► objects, one after the other ─► batches ─► lanes ─► answers in order ─► outputs, several published at once

There are MaxConcurrentTransforms lanes, each with one request under way: it takes the next batch, of whatever object
that is, sends it, and gives the answer back. Batches of two objects are never mixed in one request. At most twice as
many answers are held as there are lanes, so that memory does not grow with the data; the first of an object's batches
is always under way or answered, so that there is always something to write.
Owns: the lanes, memory, what a failed object means for the job. Does not own: one object (`under_way`), one batch
(`sending`), what was done (`journal`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final, NamedTuple

from sagewright.batch import capture, inputs, whole
from sagewright.batch.connection import Container, NoAnswer
from sagewright.batch.inputs import Item, ObjectStore
from sagewright.batch.journal import Journal, Share
from sagewright.batch.options import Options, choose, read_parameters
from sagewright.batch.processing import Processing, Stamp
from sagewright.batch.reports import Report
from sagewright.batch.sending import BatchFailed, Sender
from sagewright.batch.splitting import Batch
from sagewright.batch.under_way import UnderWay
from sagewright.core.clock import from_text
from sagewright.core.errors import NotFound, TransferError
from sagewright.workloads.transfer import RunTransform

_PUBLISHING: Final = 32  # objects at once: each waits for the disk
_PARAMETERS_TIMEOUT: Final = 5.0  # seconds
_LOOK: Final = 0.5  # seconds between reports
_LEFT, _WRITTEN, _FAILED = 0, 1, 2


class Piece(NamedTuple):
    """What a lane has in hand. `batch` None: the object as a whole."""

    run: UnderWay
    number: int
    batch: Batch | None


class Driver:
    """Errors: TransferError (there is nothing to do, or an object failed), StoreUnavailable, BlobStoreFull."""

    def __init__(self, job: RunTransform, objects: ObjectStore, report: Report) -> None:
        self.job = job
        self.report = report
        self._objects = objects
        self._failure: str | None = None
        self._current: UnderWay | None = None
        self._numbers = 0  # batches of the current object that were handed out
        self._open: set[UnderWay] = set()
        self._held = self._publishing = 0
        self._room = asyncio.Event()

    async def run(self) -> None:
        job, progress = self.job, self.report.progress
        with Journal(job.root, Share(job.instance, job.instances)) as journal:
            self._journal = journal
            plan = inputs.items(job.request, self._objects)
            progress.objects_total, progress.bytes_total = await asyncio.to_thread(journal.plan, plan)
            self._done = bytearray(progress.objects_total)
            self._resume()
            self._items = (each for each in journal.items() if self._done[each[0]] == _LEFT)
            self._options = await self._choose()
            self.report.begin(self._options)
            await self._drive()
            if job.request.get("DataCaptureConfig"):
                await asyncio.to_thread(self._capture)
        if self._failure is not None:
            raise TransferError(self._failure)

    def _resume(self) -> None:
        """The objects that an earlier process finished, and the counts that go with them."""
        progress = self.report.progress
        for line in self._journal.finished():
            progress.objects += 1
            progress.records += line["records"]
            progress.bytes += line["bytes"]
            progress.skipped += line["skipped"]
            self._note(line["item"], line["failure"])

    async def _choose(self) -> Options:
        """`/execution-parameters` need not exist, and counts only where the request says nothing."""
        container = Container(self.job.addresses[0])
        wrong = ""
        try:
            answer = await container.get("/execution-parameters", _PARAMETERS_TIMEOUT)
            given, wrong = read_parameters(answer.body) if answer.status == 200 else ({}, "")
        except NoAnswer as error:
            given, wrong = {}, str(error)
        finally:
            container.close()
        if wrong:
            self.report.line(f"GET /execution-parameters: {wrong}: ignored.")
        return choose(self.job.request, given)

    async def _drive(self) -> None:
        job = self.job
        stamp = None
        if (job.request.get("DataCaptureConfig") or {}).get("GenerateInferenceId"):
            stamp = Stamp(f"{job.account}/{job.region}/{job.request['TransformJobName']}", self._moment)
        processing = Processing.of(job.request, stamp)
        self._whole = self._options.whole and processing is None
        self._sender = Sender(job.addresses, self._options, processing)
        ticker = asyncio.create_task(self._tick())
        try:
            async with asyncio.TaskGroup() as self._group:
                for _ in range(self._options.concurrency):
                    self._group.create_task(self._lane())
        finally:
            ticker.cancel()
            self._sender.close()
            for each in self._open:
                each.close()
            self.report.look(last=True)

    async def _tick(self) -> None:
        while True:
            for each in self._open:
                each.count()
            self.report.look()
            await asyncio.sleep(_LOOK)

    @property
    def _moment(self) -> str:
        """When the job began, to the second."""
        return f"{from_text(self.job.started_at):%Y-%m-%dT%H:%M:%SZ}"

    # -- lanes ---------------------------------------------------------------------

    async def _lane(self) -> None:
        while (piece := await self._take()) is not None:
            run, number, batch = piece
            if batch is None:
                await whole.transform(run, self._objects, self.job.addresses, self._options)
                self._finish(run)
                continue
            answer: bytes | BatchFailed
            try:
                answer = await self._sender.send(batch, run.where, run.skip)
            except BatchFailed as error:
                answer = error
            self._held -= run.answered(number, answer)
            self._room.set()
            if run.is_finished:
                self._finish(run)

    async def _take(self) -> Piece | None:
        """The next batch, when there is room for its answer; None when there is no more to do."""
        while True:
            while self._held >= 2 * self._options.concurrency or self._publishing >= _PUBLISHING:
                self._room.clear()
                await self._room.wait()
            run = self._current or self._begin()
            if run is None:
                return None
            if self._whole and run.failure is None:
                self._current = None
                return Piece(run, 0, None)
            batch = run.next()
            if batch is not None:
                self._held += 1
                self._numbers += 1
                return Piece(run, self._numbers - 1, batch)
            self._current = None
            if run.is_finished:
                self._finish(run)

    def _begin(self) -> UnderWay | None:
        """The next object."""
        found = next(self._items, None)
        if found is None:
            return None
        number, item = found
        run = UnderWay(item, number, self.job.request["TransformOutput"], self._options, self.report)
        self._open.add(run)
        run.open(self._objects)
        self._current, self._numbers = run, 0
        return run

    def _finish(self, run: UnderWay) -> None:
        self._publishing += 1
        self._group.create_task(self._publish(run))

    async def _publish(self, run: UnderWay) -> None:
        publishing = asyncio.ensure_future(asyncio.to_thread(run.publish))
        try:
            await asyncio.shield(publishing)
        except asyncio.CancelledError:
            await asyncio.wait((publishing,))  # a thread cannot be stopped: what it writes must not be taken away
            publishing.exception()
            raise
        self._journal.note(run.finish())
        self._open.discard(run)
        self._publishing -= 1
        self._room.set()
        self._note(run.number, run.failure)

    def _note(self, number: int, failure: str | None) -> None:
        self._done[number] = _FAILED if failure else _WRITTEN
        if failure:
            self.report.progress.failed += 1
            self._failure = self._failure or failure

    # -- capture -------------------------------------------------------------------

    def _capture(self) -> None:
        try:
            began = from_text(self.job.started_at)
            capture.write(self._objects, self.job.request, self._written, began, self.job.instance)
        except NotFound as error:
            raise TransferError(f"ClientError: DataCaptureConfig: {error}.") from None

    def _written(self) -> Iterator[Item]:
        return (item for number, item in self._journal.items() if self._done[number] == _WRITTEN)
