"""Batch transform jobs in the table of `jobs`. How far one has come is the last line of its data log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import ClientError

from sagewright.cli import output
from sagewright.cli.client import Api
from sagewright.store.kinds.transform_job import DATA_LOG, LOG_GROUP, TERMINAL


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
    return {name: _last_line(logs, name) for name in running}


def row(job: Mapping[str, Any], told: Mapping[str, str]) -> tuple[str, ...]:
    name, status = job["TransformJobName"], job["TransformJobStatus"]
    started, ended = job.get("TransformStartTime"), job.get("TransformEndTime")
    took = (ended or datetime.now(UTC)) - started if started else None
    return (
        name,
        output.status_word(status),
        output.ago(job["CreationTime"]),
        output.duration(took.total_seconds() if took else None),
        told.get(name, ""),
        f"model {job['ModelName']}",
    )


def _last_line(logs: Any, name: str) -> str:
    """Of the first instance; empty until there is one."""
    try:
        found = logs.describe_log_streams(logGroupName=LOG_GROUP, logStreamNamePrefix=f"{name}/")["logStreams"]
        for stream in found:
            if stream["logStreamName"].endswith(f"/{DATA_LOG}"):
                where = {"logGroupName": LOG_GROUP, "logStreamName": stream["logStreamName"]}
                events = logs.get_log_events(**where, limit=1)["events"]
                return str(events[-1]["message"]).partition("[sagemaker logs]: ")[2] if events else ""
    except ClientError:
        pass  # no such group yet
    return ""
