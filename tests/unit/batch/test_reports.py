"""What a run says while it goes, and that commands can read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from sagewright.batch.reports import Report, Told
from sagewright.blobs.streams import LogStreams

GROUP, STREAM = "/aws/sagemaker/TransformJobs", "job/i-0-1/data-log"


@pytest.fixture
def streams(tmp_path: Path) -> LogStreams:
    return LogStreams(tmp_path / "streams")


def lines(streams: LogStreams, stream: str = STREAM) -> list[str]:
    return [each.message.decode() for each in streams.read(GROUP, stream).events]


@pytest.mark.parametrize(
    "told",
    [
        Told(0, 0, 0, 0.0, 0.0, 0.0),
        Told(1, 4, 1003, 12.5, 100.0, 4016.0),
        Told(1, 4, 1003, 12.5, 100.0, 4016.0, left=77),
        Told(1, 4, 1003, 12.5, 100.0, 4016.0, skipped=3),
        Told(1, 4, 1003, 12.5, 100.0, 4016.0, left=5, skipped=3, failed=2),
    ],
)
def test_a_line_of_progress_can_be_read_back(told: Told) -> None:
    assert Told.read(f"2026-01-02T03:04:05.123:[sagemaker logs]: {told}") == told


def test_other_lines_are_none() -> None:
    assert Told.read("2026-01-02T03:04:05.123:[sagemaker logs]: MaxConcurrentTransforms=1, MaxPayloadInMB=6") is None


def test_instances_together() -> None:
    one, two = Told(1, 4, 10, 1.0, 4.0, 5.0, left=9), Told(2, 3, 20, 2.0, 3.0, 7.0, left=4, failed=1)
    assert Told.together([one, two]) == Told(3, 7, 30, 3.0, 7.0, 12.0, left=9, failed=1)


def test_progress_counts_from_this_process_on_but_for_totals(streams: LogStreams) -> None:
    told: list[Mapping[str, Any]] = []
    report = Report(streams, (GROUP, STREAM), told.append)
    progress = report.progress
    progress.records, progress.bytes, progress.bytes_total, progress.objects_total = 1_000_000, 500, 1000, 2
    report._before = (progress.records, progress.bytes)
    report.look()
    assert (told[-1]["records_per_second"], told[-1]["seconds_left"]) == (0.0, None)
    progress.bytes = 1000
    report.look(last=True)
    assert told[-1]["seconds_left"] == 0
    assert lines(streams)[-1].endswith("Progress: 0 of 2 objects, 1000000 records, 0.0 of 0.0 MB, 0 records/s")


def test_a_bad_record_is_a_line_in_both_streams(streams: LogStreams) -> None:
    error = {"record": 7, "records": 3, "reason": "no", "status": 400, "request": "x", "response": "no"}
    Report(streams, (GROUP, STREAM), lambda _: None).failed("bucket/in/a", "ClientError", error)
    assert lines(streams)[0].endswith("[sagemaker logs]: bucket/in/a: ClientError: records 7 to 9: no")
    assert orjson.loads(lines(streams, f"{STREAM}.errors.jsonl")[0]) == {"object": "s3://bucket/in/a", **error}
