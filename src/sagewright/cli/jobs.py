"""`jobs`: the table of training and transform jobs, and one job explained (transform jobs: `transforms`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

from sagewright.cli import output, transforms
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.server import data_dir, option
from sagewright.controllers.training_steps import NO_MODEL_TEXT
from sagewright.core.errors import SettingsError
from sagewright.store.kinds.training_job import COMPLETED, TERMINAL

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
    output.show(headings, rows, elastic=("STEP", "IMAGE"))
    failed = [("Training", job) for job in described] + [("Transform", job) for job in transformed]
    failed = [(kind, job) for kind, job in failed if job[f"{kind}JobStatus"] == "Failed"]
    for kind, job in failed[:_REASONS]:
        print(f"\n{job[f'{kind}JobName']}: {job.get('FailureReason', '')}")
    if len(failed) > _REASONS:
        print(f"\n{len(failed) - _REASONS} more failed; `sagewright jobs JOB` says why.")


def job(data: Path | None, name: str, as_json: bool) -> None:
    """One job, all there is to say of it: of a transform job also each bad record."""
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
        if transform:
            lines = list(transforms.details(api, transform))
        else:
            waits = training is not None and training["SecondaryStatus"] == _WAITS
            lines = list(_details(training or {}, in_line(sagemaker) if waits else {}, option(data_dir(data))))
    print("\n".join(lines))


def _training(sagemaker: Any, name: str) -> dict[str, Any]:
    try:
        described: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
    except ClientError as error:
        if str(error.response["Error"].get("Message", "")).startswith("Requested resource not found"):
            raise SettingsError(
                f"there is no training or transform job named '{name}'. `sagewright jobs` shows those there are."
            ) from error
        raise
    return described


def _details(job: Mapping[str, Any], places: Places, more: str) -> Iterator[str]:
    """All there is to say of one training job, line by line, the reason of a failure last but one."""
    name, status, resources = job["TrainingJobName"], job["TrainingJobStatus"], job["ResourceConfig"]
    yield f"{name}: {status}"
    yield f"  image    {job['AlgorithmSpecification']['TrainingImage']}"
    groups = resources.get("InstanceGroups") or [resources]
    instances = (f"{each['InstanceCount']} x {each['InstanceType']}" for each in groups)
    yield f"  on       {', '.join(instances)}"
    yield f"  created  {output.ago(job['CreationTime'])}, took {output.duration(_took(job))}"
    for channel in job.get("InputDataConfig", ()):
        yield f"  channel  {channel['ChannelName']}: {_source(channel)}"
    if step := _step(job, places) if status not in TERMINAL else _ending(job):
        yield f"  step     {step}"
    for metric in job.get("FinalMetricDataList", ()):
        yield f"  metric   {metric['MetricName']} {metric['Value']:g}"
    if status == COMPLETED and (model := job.get("ModelArtifacts")) and NO_MODEL_TEXT not in _ending(job):
        yield f"  model    {model['S3ModelArtifacts']}"
    if job.get("FailureReason"):
        yield f"  {job['FailureReason']}"
    yield f"  log      sagewright logs {name}{'' if status in TERMINAL else ' -f'}{more}"


def _source(channel: Mapping[str, Any]) -> str:
    source = channel["DataSource"]
    if "S3DataSource" in source:
        return str(source["S3DataSource"]["S3Uri"])
    return ", ".join(source)


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


def _step(job: Mapping[str, Any], places: Places) -> str:
    last = (job.get("SecondaryStatusTransitions") or [{}])[-1]
    message = str(last.get("StatusMessage", job["SecondaryStatus"]))
    if place := places.get(job["TrainingJobName"]):
        what, mark, why = message.partition(" - ")
        return f"{what}, {place[0]} of {place[1]} in line{mark}{why}"
    return message


def _row(job: Mapping[str, Any], places: Places) -> tuple[output.Cell, ...]:
    running = job["TrainingJobStatus"] not in TERMINAL
    return (
        job["TrainingJobName"],
        output.status_word(job["TrainingJobStatus"]),
        output.ago(job["CreationTime"]),
        output.duration(_took(job)),
        _step(job, places) if running else _ending(job) or output.cause(job),
        job["AlgorithmSpecification"]["TrainingImage"],
    )


def _took(job: Mapping[str, Any]) -> float | None:
    """Seconds since the instances started, or until they ended."""
    started, ended = job.get("TrainingStartTime"), job.get("TrainingEndTime")
    if not started or not (ended or job["TrainingJobStatus"] not in TERMINAL):
        return None
    return float(((ended or datetime.now(UTC)) - started).total_seconds())


def _ending(job: Mapping[str, Any]) -> str:
    """What the status word does not say already."""
    if job["SecondaryStatus"] != job["TrainingJobStatus"]:
        return str(job["SecondaryStatus"])
    return str(job["SecondaryStatusTransitions"][-1]["StatusMessage"]).partition(" - ")[2]


def _plain(job: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in job.items() if name != "ResponseMetadata"}
