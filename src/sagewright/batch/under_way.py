"""One object under way: read and split, its batches handed out, their answers written in order, published whole.

    open ─► next, next, ...  ─► answered, in any order ─► written in order ─► publish
                └─► a batch failed: nothing more is handed out, nothing is published

Owns: the order, what a failed object means, its counts. Does not own: who sends the batches (`driver`).
"""

from __future__ import annotations

import gzip
import zlib
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Final, cast

from sagewright.batch.inputs import Item, ObjectStore, ObjectWriter
from sagewright.batch.options import Options
from sagewright.batch.reports import Report, place
from sagewright.batch.sending import BatchFailed
from sagewright.batch.splitting import BadRecord, Batch, split
from sagewright.core.errors import NotFound, TransferError
from sagewright.core.s3_uris import split_uri

NOT_GZIP: Final = (gzip.BadGzipFile, zlib.error, EOFError)
_BINARY: Final = "binary/octet-stream"
_WRITE: Final = 1 << 18  # bytes of small answers that are written together


class UnderWay:
    """`failure` is why the object has no output, ready for FailureReason. `written` are the batches whose answers are
    not held any more. Raises BlobStoreFull, StoreUnavailable: nothing can go on then."""

    def __init__(self, item: Item, number: int, output: Mapping[str, Any], options: Options, report: Report) -> None:
        self.item = item
        self.number = number
        self.where = f"{item.bucket}/{item.key}"
        self.failure: str | None = None
        self.records = self.skipped = 0
        self._bucket, _ = split_uri(output["S3OutputPath"])
        self._type = output.get("Accept") or _BINARY
        self._options = options
        self._report = report
        self._source: BinaryIO | None = None
        self._writer: ObjectWriter | None = None
        self._batches: Iterator[Batch] = iter(())
        self._taken = self._written = self._counted = 0
        self._sizes = deque[int]()  # records of the batches that are not yet written
        self._early: dict[int, bytes | BatchFailed] = {}  # answers that wait for one before them
        self._stopped = self._exhausted = False
        self._last: BatchFailed | None = None  # what ended the splitting, after all batches
        self._unwritten = bytearray()

    # -- reading -------------------------------------------------------------------

    def open(self, objects: ObjectStore) -> None:
        """Also again: from the start, with nothing written."""
        self.close()
        self._unwritten.clear()
        try:
            self._source = objects.open(self.item.bucket, self.item.key)
            self._writer = objects.put_stream(self._bucket, self.item.target, self._type)
        except (NotFound, TransferError) as error:
            self.fail(unsent("ClientError", 1, f"{error}"))
            return
        self._batches = split(self.content, self._options.split, multi=self._options.multi, limit=self._options.limit)

    @property
    def content(self) -> BinaryIO:
        assert self._source is not None
        return cast(BinaryIO, gzip.GzipFile(fileobj=self._source)) if self._options.gzip else self._source

    def next(self) -> Batch | None:
        """The next batch; None when there is no more to send."""
        if self._exhausted or self._stopped or self.failure:
            self._exhausted = True
            return None
        try:
            batch = next(self._batches, None)
        except (BadRecord, *NOT_GZIP) as error:
            batch, self._last = None, unreadable(error, self.records + sum(self._sizes) + 1)
        if batch is None:
            self._exhausted = True
            return None
        self._taken += 1
        self._sizes.append(batch.records)
        return batch

    @property
    def is_finished(self) -> bool:
        """Every batch that was handed out has been answered, and there is no other."""
        return self._exhausted and self._written == self._taken

    def count(self) -> None:
        """How far it was read, into the progress."""
        if self._source is None:
            return
        try:
            position = min(self._source.tell(), self.item.size)
        except ValueError:
            return  # closed by now
        self._report.progress.bytes += position - self._counted
        self._counted = position

    # -- writing -------------------------------------------------------------------

    def answered(self, number: int, answer: bytes | BatchFailed) -> int:
        """Of the batch that was handed out as number `number`, from 0. How many answers are not held any more."""
        if number != self._written:
            self._early[number] = answer
            self._stopped = self._stopped or isinstance(answer, BatchFailed)
            return 0
        found: bytes | BatchFailed | None = answer
        while found is not None:
            self._settle(found)
            self._written += 1
            found = self._early.pop(self._written, None)
        return self._written - number

    def write(self, data: bytes) -> None:
        if len(data) >= _WRITE:
            self._flush()
            assert self._writer is not None
            self._writer.write(data)
            return
        self._unwritten += data
        if len(self._unwritten) >= _WRITE:
            self._flush()

    def _flush(self) -> None:
        assert self._writer is not None
        if self._unwritten:
            self._writer.write(bytes(self._unwritten))
            self._unwritten.clear()

    def wrote(self, records: int) -> None:
        self.records += records
        self._report.progress.records += records

    def publish(self) -> None:
        """The output, whole; or `failure` says why there is none. Blocks."""
        if self._last is not None and self.failure is None:
            self.fail(self._last)
        try:
            if self.failure is None:
                self._flush()
                assert self._writer is not None
                self._writer.commit()
        except NotFound as error:
            self.fail(unsent("ClientError", 1, f"{error}"))
        finally:
            self.close()

    def finish(self) -> Mapping[str, Any]:
        """Count it; what the journal is told."""
        progress = self._report.progress
        progress.objects += 1
        progress.bytes += self.item.size - self._counted
        return {
            "item": self.number,
            "records": self.records,
            "bytes": self.item.size,
            "skipped": self.skipped,
            "failure": self.failure,
        }

    def close(self) -> None:
        """Leave nothing that was not published."""
        if self._source is not None:
            self._source.close()
        if self._writer is not None:
            self._writer.cancel()

    # -- what goes wrong -----------------------------------------------------------

    def skip(self, error: BatchFailed) -> None:
        """A bad record is left out."""
        self.skipped += 1
        self._report.progress.skipped += 1
        self._report.failed(self.where, error.kind, error.error)

    def fail(self, error: BatchFailed) -> None:
        """The first one is the object's failure; all are told."""
        self._report.failed(self.where, error.kind, error.error)
        if self.failure is None:
            where = f"s3://{self.where}, {place(error.error)}: {error.error['reason']}"
            self.failure = f"{error.kind}: See job logs for more information. {where}"

    def _settle(self, answer: bytes | BatchFailed) -> None:
        records = self._sizes.popleft()
        if isinstance(answer, BatchFailed):
            self.fail(answer)
        elif self.failure is None:
            self.write(answer)
            self.wrote(records)


def unreadable(error: Exception, record: int) -> BatchFailed:
    """`record` is the one that was being read."""
    if isinstance(error, BadRecord):
        return unsent("ClientError", error.record, error.why)
    return unsent("ClientError", record, f"the object is not whole gzip ({error})")


def unsent(kind: str, record: int, reason: str) -> BatchFailed:
    """Of a record that no request was made for."""
    error = {"record": record, "records": 1, "reason": reason, "status": None, "request": "", "response": ""}
    return BatchFailed(kind, error)
