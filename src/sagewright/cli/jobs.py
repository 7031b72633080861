"""`jobs` and `logs`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sagewright.cli import output
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.server import data_dir
from sagewright.core.errors import SettingsError
from sagewright.store.kinds.training_job import LOG_GROUP, TERMINAL

_POLL = 0.3  # seconds between looks while following
_REASONS = 3  # failure reasons shown below the table, newest first


def jobs(data: Path | None, as_json: bool, limit: int) -> None:
    with plain_errors():
        sagemaker = Api(data_dir(data)).client("sagemaker")
        found = sagemaker.list_training_jobs(MaxResults=limit, SortBy="CreationTime", SortOrder="Descending")
        described = [
            sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
            for summary in found["TrainingJobSummaries"]
        ]
    if as_json:
        print(json.dumps([_plain(job) for job in described], indent=2, default=str))
        return
    if not described:
        print("No training jobs yet. `sagewright demo` makes one.")
        return
    headings = ("JOB", "STATUS", "CREATED", "TOOK", "STEP", "IMAGE")
    output.console().print(output.table(headings, map(_row, described), elastic=("STEP", "IMAGE")))
    failed = [job for job in described if job["TrainingJobStatus"] == "Failed"]
    for job in failed[:_REASONS]:
        print(f"\n{job['TrainingJobName']}: {job.get('FailureReason', '')}")
    if len(failed) > _REASONS:
        print(f"\n{len(failed) - _REASONS} more failed; `sagewright jobs --json` has every reason.")


def logs(data: Path | None, job: str, follow: bool) -> None:
    """Ctrl-C leaves the job running and says how to come back."""
    api = Api(data_dir(data))
    try:
        with plain_errors():
            for line in follow_log(api, job) if follow else read_log(api, job):
                print(line, flush=follow)
    except KeyboardInterrupt:
        print(f"\n{job} goes on. Come back with: sagewright logs -f {job}", file=sys.stderr)
        return
    with plain_errors():
        ended = api.client("sagemaker").describe_training_job(TrainingJobName=job)
    if follow and ended["TrainingJobStatus"] == "Failed":
        raise SettingsError(f"{job} failed: {ended.get('FailureReason', '')}")


def read_log(api: Api, job: str) -> Iterator[str]:
    """Every line there is now. Raises ClientError for an unknown job."""
    api.client("sagemaker").describe_training_job(TrainingJobName=job)
    yield from _Reader(api.client("logs"), job).lines()


def follow_log(api: Api, job: str) -> Iterator[str]:
    """Every line until the job has ended."""
    sagemaker = api.client("sagemaker")
    reader = _Reader(api.client("logs"), job)
    while True:
        ended = sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"] in TERMINAL
        yield from reader.lines()
        if ended:
            return
        time.sleep(_POLL)


class _Reader:
    """Reads a job's streams from where it stopped."""

    def __init__(self, client: Any, job: str) -> None:
        self._client = client
        self._job = job
        self._tokens: dict[str, str] = {}

    def lines(self) -> Iterator[str]:
        streams = self._streams()
        for stream in streams:
            for message in self._new(stream):
                yield f"{stream.rsplit('/', 1)[-1]}: {message}" if len(streams) > 1 else message

    def _streams(self) -> list[str]:
        try:
            found = self._client.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{self._job}/")
        except self._client.exceptions.ResourceNotFoundException:
            return []
        return [stream["logStreamName"] for stream in found["logStreams"]]

    def _new(self, stream: str) -> Iterator[str]:
        while True:
            token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._client.get_log_events(
                logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token
            )
            self._tokens[stream] = page["nextForwardToken"]
            if not page["events"]:
                return
            for event in page["events"]:
                yield event["message"]


def _row(job: dict[str, Any]) -> tuple[str, ...]:
    last = (job.get("SecondaryStatusTransitions") or [{}])[-1]
    running = job["TrainingJobStatus"] not in TERMINAL
    started, ended = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    took = (ended or datetime.now(UTC)) - started if started and (ended or running) else None
    return (
        job["TrainingJobName"],
        output.status_word(job["TrainingJobStatus"]),
        output.ago(job["CreationTime"]),
        output.duration(took.total_seconds() if took else None),
        last.get("StatusMessage", job["SecondaryStatus"]) if running else _ending(job),
        job["AlgorithmSpecification"]["TrainingImage"],
    )


def _ending(job: dict[str, Any]) -> str:
    """What the status word does not say already."""
    return "" if job["SecondaryStatus"] == job["TrainingJobStatus"] else str(job["SecondaryStatus"])


def _plain(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name != "ResponseMetadata"}
