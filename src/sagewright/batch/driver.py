"""Driving one instance: every object of its share, split, sent, put together in order, published whole.

    object ─split─► batches ─► at most MaxConcurrentTransforms requests at once ─► answers in order ─► output object

Batches of several objects are under way together, and are never mixed in one request. At most twice as many batches
are held as requests may run, so that memory does not grow with the data; the first of an object's batches is always
under way or answered, so that there is always something to write.
Owns: order, memory, what a failed object means. Does not own: one batch (`sending`), what was done (`journal`).
"""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, Final, NamedTuple, cast

from sagewright.batch.connection import Container, NoAnswer
from sagewright.batch.inputs import Item, ObjectStore, ObjectWriter, share, split_uri
from sagewright.batch.journal import Journal
from sagewright.batch.options import Options, choose, read_parameters
from sagewright.batch.processing import Processing
from sagewright.batch.reports import Report, place
from sagewright.batch.sending import BatchFailed, Sender
from sagewright.batch.splitting import BadRecord, Batch, split
from sagewright.core.errors import NotFound, TransferError
from sagewright.workloads.transfer import RunTransform

_PARALLEL_OBJECTS: Final = 32
_PARAMETERS_TIMEOUT: Final = 5.0  # seconds
_LOOK: Final = 0.5  # seconds between reports
_NOT_GZIP: Final = (gzip.BadGzipFile, zlib.error, EOFError)

Pending = deque[tuple[asyncio.Task[bytes], Batch]]


class Failure(NamedTuple):
    """Why an object has no output."""

    kind: str
    reason: str


class Driver:
    """Errors: TransferError (there is nothing to do, or an object failed), StoreUnavailable, BlobStoreFull."""

    def __init__(self, job: RunTransform, objects: ObjectStore, report: Report) -> None:
        self.job = job
        self.objects = objects
        self.report = report
        self._failure: str | None = None

    async def run(self) -> None:
        with Journal(self.job.root) as journal:
            job, progress = self.job, self.report.progress
            items = share(job.request, self.objects, job.instance, job.instances)
            progress.objects_total, progress.bytes_total = journal.plan(items)
            done = self._resume(journal)
            self.options = await self._choose()
            self.report.begin(self.options)
            self.room = asyncio.Semaphore(2 * self.options.concurrency)
            self.sender = Sender(job.addresses, self.options, Processing.of(job.request))
            ticker = asyncio.create_task(self._tick())
            try:
                left = (item for item in journal.items() if item.key not in done)
                await self._all(left, journal)
            finally:
                ticker.cancel()
                self.sender.close()
                self.report.look(last=True)
        if self._failure is not None:
            raise TransferError(self._failure)

    def _resume(self, journal: Journal) -> set[str]:
        """The objects that an earlier process finished, and the counts that go with them."""
        done, progress = set(), self.report.progress
        for line in journal.finished():
            done.add(line["key"])
            progress.objects += 1
            progress.records += line["records"]
            progress.bytes += line["bytes"]
            progress.skipped += line["skipped"]
            if line["failure"]:
                self._fail(line["failure"])
        return done

    async def _choose(self) -> Options:
        """`/execution-parameters` need not exist, and counts only where the request says nothing."""
        container = Container(self.job.addresses[0])
        try:
            answer = await container.get("/execution-parameters", _PARAMETERS_TIMEOUT)
            given = read_parameters(answer.body) if answer.status == 200 else {}
        except NoAnswer:
            given = {}
        finally:
            container.close()
        return choose(self.job.request, given)

    async def _all(self, items: Iterator[Item], journal: Journal) -> None:
        async def work() -> None:
            for item in items:
                await self._one(item, journal)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.options.concurrency, _PARALLEL_OBJECTS)):
                group.create_task(work())

    async def _tick(self) -> None:
        while True:
            self.report.look()
            await asyncio.sleep(_LOOK)

    # -- one object ----------------------------------------------------------------

    async def _one(self, item: Item, journal: Journal) -> None:
        run = _Object(self, item)
        failure = await run.transform()
        progress = self.report.progress
        progress.objects += 1
        progress.bytes += item.size - run.counted
        text = None if failure is None else f"{failure.kind}: See job logs for more information. {failure.reason}"
        journal.note(
            {
                "key": item.key,
                "records": run.records,
                "bytes": item.size,
                "skipped": run.skipped,
                "failure": text,
            }
        )
        if text:
            self._fail(text)

    def _fail(self, text: str) -> None:
        self.report.progress.failed += 1
        self._failure = self._failure or text


class _Object:
    def __init__(self, driver: Driver, item: Item) -> None:
        self._driver = driver
        self._item = item
        self._where = f"{item.bucket}/{item.key}"
        self.records = self.skipped = self.counted = 0

    async def transform(self) -> Failure | None:
        """Publishes the output, or says why there is none."""
        driver, item = self._driver, self._item
        request = driver.job.request
        bucket, _ = split_uri(request["TransformOutput"]["S3OutputPath"])
        kind = request["TransformOutput"].get("Accept") or "binary/octet-stream"
        try:
            with driver.objects.open(item.bucket, item.key) as source:
                writer = driver.objects.put_stream(bucket, item.target, kind)
                try:
                    await self._stream(source, writer)
                    await asyncio.to_thread(writer.commit)
                finally:
                    writer.cancel()
        except BatchFailed as error:
            return self._failed(error.kind, error.error)
        except BadRecord as error:
            return self._failed("ClientError", _error(error.record, error.why))
        except _NOT_GZIP as error:
            return self._failed("ClientError", _error(self.records + 1, f"the object is not whole gzip ({error})"))
        except NotFound as error:
            return self._failed("ClientError", _error(1, f"{error}"))
        return None

    async def _stream(self, source: BinaryIO, writer: ObjectWriter) -> None:
        driver, options = self._driver, self._driver.options
        content = cast(BinaryIO, gzip.GzipFile(fileobj=source)) if options.gzip else source
        pending: Pending = deque()
        try:
            for batch in split(content, options.split, multi=options.multi, limit=options.megabytes << 20):
                while driver.room.locked() and pending:
                    await self._write(pending, writer)
                await driver.room.acquire()
                pending.append((asyncio.create_task(driver.sender.send(batch, self._skip)), batch))
                while pending and pending[0][0].done():
                    await self._write(pending, writer)
                if not options.gzip:
                    self._count(source.tell())
            while pending:
                await self._write(pending, writer)
        finally:
            await self._give_up(pending)

    async def _write(self, pending: Pending, writer: ObjectWriter) -> None:
        """The answer of the first batch that is under way."""
        task, batch = pending[0]
        data = task.result() if task.done() else await task
        pending.popleft()
        self._driver.room.release()
        writer.write(data)
        self.records += batch.records
        self._driver.report.progress.records += batch.records

    async def _give_up(self, pending: Pending) -> None:
        tasks: Sequence[asyncio.Task[bytes]] = [task for task, _ in pending]
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, BatchFailed):
                await task
            self._driver.room.release()

    def _count(self, position: int) -> None:
        position = min(position, self._item.size)
        self._driver.report.progress.bytes += position - self.counted
        self.counted = position

    def _skip(self, error: BatchFailed) -> None:
        self.skipped += 1
        self._driver.report.progress.skipped += 1
        self._driver.report.failed(self._where, error.kind, error.error)

    def _failed(self, kind: str, error: Mapping[str, Any]) -> Failure:
        self._driver.report.failed(self._where, kind, error)
        return Failure(kind, f"s3://{self._where}, {place(error)}: {error['reason']}")


def _error(record: int, reason: str) -> Mapping[str, Any]:
    return {"record": record, "records": 1, "reason": reason, "status": None, "request": "", "response": ""}
