"""Batch transform jobs in `jobs` and `logs`: how far one has come, and each of its bad records.

Progress is what the data logs say last; bad records are in the stream beside each (`batch.reports`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, Final

from botocore.exceptions import ClientError

from sagewright.batch.reports import ERRORS, Told, place
from sagewright.cli import output
from sagewright.cli.client import Api
from sagewright.store.kinds.transform_job import DATA_LOG, FAILED, LOG_GROUP, TERMINAL

_SHOWN: Final = 20  # bad records
_LAST: Final = 1000  # lines of a data log in which the last word on progress is looked for
_MISSING: Final = "Could not find requested job"


def described(sagemaker: Any, limit: int) -> list[dict[str, Any]]:
    """The newest jobs, newest first."""
    found = sagemaker.list_transform_jobs(MaxResults=limit, SortBy="CreationTime", SortOrder="Descending")
    return [
        sagemaker.describe_transform_job(TransformJobName=summary["TransformJobName"])
        for summary in found["TransformJobSummaries"]
    ]


def steps(api: Api, jobs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Job → its progress, of those that run."""
    logs = api.client("logs")
    running = [job["TransformJobName"] for job in jobs if job["TransformJobStatus"] not in TERMINAL]
    return {name: progress(logs, name) for name in running}


def row(job: Mapping[str, Any], told: Mapping[str, str]) -> tuple[output.Cell, ...]:
    name, status = job["TransformJobName"], job["TransformJobStatus"]
    started, ended = job.get("TransformStartTime"), job.get("TransformEndTime")
    took = (ended or datetime.now(UTC)) - started if started else None
    return (
        name,
        output.status_word(status),
        output.ago(job["CreationTime"]),
        output.duration(took.total_seconds() if took else None),
        told.get(name) or output.cause(job),
        f"model {job['ModelName']}",
    )


def find(sagemaker: Any, name: str) -> dict[str, Any] | None:
    try:
        described: dict[str, Any] = sagemaker.describe_transform_job(TransformJobName=name)
    except ClientError as error:
        if str(error.response["Error"].get("Message", "")).startswith(_MISSING):
            return None
        raise
    return described


def progress(logs: Any, name: str) -> str:
    """Of all instances together; empty until one has begun."""
    told = [found for stream in _streams(logs, name, f"/{DATA_LOG}") if (found := _last(logs, stream))]
    return str(Told.together(told)) if told else ""


def details(api: Api, job: Mapping[str, Any]) -> Iterator[str]:
    """All there is to say of one job, line by line."""
    name, logs = job["TransformJobName"], api.client("logs")
    source = job["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
    yield f"{name}: {job['TransformJobStatus']}"
    yield f"  model {job['ModelName']}, {source} -> {job['TransformOutput']['S3OutputPath']}"
    if told := progress(logs, name):
        yield f"  {told}"
    if job["TransformJobStatus"] == FAILED:
        yield f"  {job.get('FailureReason', '')}"
    bad = bad_records(logs, name)
    for error in islice(bad, _SHOWN):
        yield from ("", *_explained(error))
    if next(bad, None) is not None:
        yield f"\nThere are more bad records; `sagewright jobs {name} --json` has all."


def bad_records(logs: Any, name: str) -> Iterator[Mapping[str, Any]]:
    """Object, record, records, reason, status, request, response; in the order in which each instance met them."""
    for stream in _streams(logs, name, ERRORS):
        token: dict[str, str] = {}
        while True:
            page = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, startFromHead=True, **token)
            if not page["events"]:
                break
            token = {"nextToken": page["nextForwardToken"]}
            yield from (json.loads(event["message"]) for event in page["events"])


def _explained(error: Mapping[str, Any]) -> Iterator[str]:
    yield f"{error['object']}, {place(error)}: {error['reason']}"
    if error["request"]:
        yield f"  request   {_one_line(error['request'])}"
    if error["status"] is not None:
        yield f"  response  {error['status']} {_one_line(error['response'])}"


def _one_line(text: str) -> str:
    return text.encode("unicode_escape").decode() if not text.isprintable() else text


def _streams(logs: Any, name: str, ending: str) -> list[str]:
    try:
        pages = logs.get_paginator("describe_log_streams").paginate(
            logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/"
        )
        names = [stream["logStreamName"] for page in pages for stream in page["logStreams"]]
    except logs.exceptions.ResourceNotFoundException:
        return []  # nothing has been printed yet
    return [each for each in names if each.endswith(ending)]


def _last(logs: Any, stream: str) -> Told | None:
    """The last line of progress."""
    events = logs.get_log_events(logGroupName=LOG_GROUP, logStreamName=stream, limit=_LAST)["events"]
    found = (Told.read(event["message"]) for event in reversed(events))
    return next((each for each in found if each), None)
