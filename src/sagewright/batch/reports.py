"""What a run says while it goes: lines in the data log, one JSON line per bad record, numbers of progress.

<job>/<instance>/data-log                the parameters, progress, each object that failed
<job>/<instance>/data-log.errors.jsonl   each bad record: object, record, request head, status, response head
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Self

import orjson

from sagewright.batch.options import Options
from sagewright.blobs.streams import LogStreams, StreamRecord

ERRORS: Final = ".errors.jsonl"
_EVERY: Final = 5.0  # seconds between lines of progress
_LINE: Final = re.compile(
    r"Progress: (\d+) of (\d+) objects, (\d+) records, ([\d.]+) of ([\d.]+) MB, (\d+) records/s"
    r"(?:, (\d+) s left)?(?:, (\d+) records skipped)?(?:, (\d+) objects failed)?"
)


@dataclass(slots=True)
class Progress:
    """Counts since the job began, also before a restart; `rate` counts from this process's start."""

    objects: int = 0
    objects_total: int = 0
    records: int = 0
    bytes: int = 0
    bytes_total: int = 0
    failed: int = 0
    skipped: int = 0


class Told(NamedTuple):
    """Progress as a line of the log, and back. Megabytes are 10^6 bytes; `left` is in seconds, 0 when it is over."""

    objects: int
    objects_total: int
    records: int
    megabytes: float
    megabytes_total: float
    rate: float
    left: int = 0
    skipped: int = 0
    failed: int = 0

    @classmethod
    def of(cls, progress: Progress, rate: float, left: int | None) -> Self:
        return cls(
            progress.objects,
            progress.objects_total,
            progress.records,
            progress.bytes / 1e6,
            progress.bytes_total / 1e6,
            rate,
            left or 0,
            progress.skipped,
            progress.failed,
        )

    @classmethod
    def read(cls, line: str) -> Self | None:
        """None when it is another line."""
        found = _LINE.search(line)
        if found is None:
            return None
        whole = [int(each or 0) for each in found.group(1, 2, 3, 7, 8, 9)]
        megabytes, total, rate = (float(each) for each in found.group(4, 5, 6))
        return cls(whole[0], whole[1], whole[2], megabytes, total, rate, whole[3], whole[4], whole[5])

    @classmethod
    def together(cls, each: Sequence[Self]) -> Self:
        """Of several instances; the time that is left is the longest one's."""
        sums = cls(*(sum(column) for column in zip(*each, strict=True)))
        return sums._replace(left=max(one.left for one in each))

    def __str__(self) -> str:
        parts = (
            f"Progress: {self.objects} of {self.objects_total} objects",
            f"{self.records} records",
            f"{self.megabytes:.1f} of {self.megabytes_total:.1f} MB",
            f"{self.rate:.0f} records/s",
            f"{self.left} s left" if self.left else "",
            f"{self.skipped} records skipped" if self.skipped else "",
            f"{self.failed} objects failed" if self.failed else "",
        )
        return ", ".join(part for part in parts if part)


class Report:
    """`tell` hears the progress as a mapping, ready for JSON."""

    def __init__(self, streams: LogStreams, log_stream: tuple[str, str], tell: Callable[[Mapping[str, Any]], None]):
        self.progress = Progress()
        self._streams = streams
        self._group, self._stream = log_stream
        self._tell = tell
        self._began = self._told = time.monotonic()
        self._before = (0, 0)

    def begin(self, options: Options) -> None:
        self._before = (self.progress.records, self.progress.bytes)
        self.line(
            f"MaxConcurrentTransforms={options.concurrency}, MaxPayloadInMB={options.megabytes}, "
            f"BatchStrategy={options.strategy}"
        )

    def line(self, text: str) -> None:
        moment = datetime.now(UTC)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "")
        self._append(self._stream, f"{stamp}:[sagemaker logs]: {text}", moment)

    def failed(self, where: str, kind: str, error: Mapping[str, Any]) -> None:
        self.line(f"{where}: {kind}: {place(error)}: {error['reason']}")
        row = orjson.dumps({"object": f"s3://{where}", **error}).decode()
        self._append(self._stream + ERRORS, row, datetime.now(UTC))

    def look(self, *, last: bool = False) -> None:
        """Tell how far it has come, and now and then write it into the log."""
        now = time.monotonic()
        progress, seconds = self.progress, max(now - self._began, 0.001)
        rate = (progress.records - self._before[0]) / seconds
        speed = (progress.bytes - self._before[1]) / seconds
        left = round((progress.bytes_total - progress.bytes) / speed) if speed else None
        self._tell(
            {
                "objects": progress.objects,
                "objects_total": progress.objects_total,
                "records": progress.records,
                "bytes": progress.bytes,
                "bytes_total": progress.bytes_total,
                "failed": progress.failed,
                "skipped": progress.skipped,
                "records_per_second": round(rate, 1),
                "seconds_left": left,
            }
        )
        if last or now - self._told >= _EVERY:
            self._told = now
            self.line(str(Told.of(progress, rate, None if last else left)))

    def _append(self, stream: str, text: str, moment: datetime) -> None:
        record = StreamRecord("driver", int(moment.timestamp() * 1000), text.encode())
        self._streams.append(self._group, stream, (record,))


def place(error: Mapping[str, Any]) -> str:
    """`record 7`, or `records 7 to 12` when they went in one request."""
    first, count = error["record"], error["records"]
    return f"record {first}" if count == 1 else f"records {first} to {first + count - 1}"
