"""`jobs`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from sagewright.cli import output, transforms
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.server import data_dir
from sagewright.core.errors import SettingsError
from sagewright.store.kinds.training_job import TERMINAL

Places = Mapping[str, tuple[int, int]]

_WAITS = "Pending"
_REASONS = 3  # failure reasons shown below the table, newest first


def jobs(data: Path | None, as_json: bool, limit: int) -> None:
    with plain_errors():
        api = Api(data_dir(data))
        sagemaker = api.client("sagemaker")
        found = sagemaker.list_training_jobs(MaxResults=limit, SortBy="CreationTime", SortOrder="Descending")
        described = [
            sagemaker.describe_training_job(TrainingJobName=summary["TrainingJobName"])
            for summary in found["TrainingJobSummaries"]
        ]
        places = in_line(sagemaker) if any(job["SecondaryStatus"] == _WAITS for job in described) else {}
        transformed = transforms.described(sagemaker, limit)
        steps = transforms.steps(api, transformed)
    if as_json:
        shown = [_plain(job) | _queued(job, places) for job in described] + [_plain(job) for job in transformed]
        print(json.dumps(shown, indent=2, default=str))
        return
    if not described and not transformed:
        print("No jobs yet. `sagewright demo` makes one.")
        return
    rows = [*(_row(job, places) for job in described), *(transforms.row(job, steps) for job in transformed)]
    headings = ("JOB", "STATUS", "CREATED", "TOOK", "STEP", "IMAGE")
    output.console().print(output.table(headings, rows, elastic=("STEP", "IMAGE")))
    failed = [("Training", job) for job in described] + [("Transform", job) for job in transformed]
    failed = [(kind, job) for kind, job in failed if job[f"{kind}JobStatus"] == "Failed"]
    for kind, job in failed[:_REASONS]:
        print(f"\n{job[f'{kind}JobName']}: {job.get('FailureReason', '')}")
    if len(failed) > _REASONS:
        print(f"\n{len(failed) - _REASONS} more failed; `sagewright jobs --json` has every reason.")


def job(data: Path | None, name: str, as_json: bool) -> None:
    """One job: of a transform job also each bad record."""
    with plain_errors():
        api = Api(data_dir(data))
        sagemaker = api.client("sagemaker")
        transform = transforms.find(sagemaker, name)
        training = None if transform else _training(sagemaker, name)
        if as_json:
            bad = list(transforms.bad_records(api.client("logs"), name)) if transform else None
            print(
                json.dumps(
                    _plain(transform or training or {}) | ({"BadRecords": bad} if bad else {}), indent=2, default=str
                )
            )
            return
        lines = list(transforms.details(api, transform)) if transform else _details(training or {})
    print("\n".join(lines))


def _training(sagemaker: Any, name: str) -> dict[str, Any]:
    try:
        described: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
    except ClientError as error:
        if str(error.response["Error"].get("Message", "")).startswith("Requested resource not found"):
            raise SettingsError(f"there is no training or transform job named '{name}'") from error
        raise
    return described


def _details(job: dict[str, Any]) -> list[str]:
    lines = [
        f"{job['TrainingJobName']}: {job['TrainingJobStatus']}",
        f"  image {job['AlgorithmSpecification']['TrainingImage']}",
    ]
    if model := job.get("ModelArtifacts"):
        lines.append(f"  {model['S3ModelArtifacts']}")
    return [*lines, *([f"  {job['FailureReason']}"] if job.get("FailureReason") else [])]


def in_line(sagemaker: Any) -> dict[str, tuple[int, int]]:
    """Of each training job that waits for room: its place in the line, from 1, and how long that is."""
    pages = sagemaker.get_paginator("list_training_jobs").paginate(StatusEquals="InProgress")
    listed = [job for page in pages for job in page["TrainingJobSummaries"] if job["SecondaryStatus"] == _WAITS]
    listed.sort(key=lambda job: (job["CreationTime"], job["TrainingJobName"]))
    return {job["TrainingJobName"]: (place, len(listed)) for place, job in enumerate(listed, start=1)}


def _queued(job: dict[str, Any], places: Places) -> dict[str, Any]:
    """What no answer of AWS has."""
    place = places.get(job["TrainingJobName"])
    return {"QueuePosition": place[0], "QueueLength": place[1]} if place else {}


def _step(job: dict[str, Any], places: Places) -> str:
    last = (job.get("SecondaryStatusTransitions") or [{}])[-1]
    message = str(last.get("StatusMessage", job["SecondaryStatus"]))
    if place := places.get(job["TrainingJobName"]):
        what, mark, why = message.partition(" - ")
        return f"{what}, {place[0]} of {place[1]} in line{mark}{why}"
    return message


def _row(job: dict[str, Any], places: Places) -> tuple[str, ...]:
    running = job["TrainingJobStatus"] not in TERMINAL
    started, ended = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    took = (ended or datetime.now(UTC)) - started if started and (ended or running) else None
    return (
        job["TrainingJobName"],
        output.status_word(job["TrainingJobStatus"]),
        output.ago(job["CreationTime"]),
        output.duration(took.total_seconds() if took else None),
        _step(job, places) if running else _ending(job),
        job["AlgorithmSpecification"]["TrainingImage"],
    )


def _ending(job: dict[str, Any]) -> str:
    """What the status word does not say already."""
    if job["SecondaryStatus"] != job["TrainingJobStatus"]:
        return str(job["SecondaryStatus"])
    return str(job["SecondaryStatusTransitions"][-1]["StatusMessage"]).partition(" - ")[2]


def _plain(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name != "ResponseMetadata"}
