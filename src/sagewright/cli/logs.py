"""`logs`: what a job or an endpoint has printed, and what it prints from now on.

Owns: finding out which of them a name means, reading log streams from where the last look stopped.
Does not own: how lines are stored (`blobs.streams`), the log API (`services.logs`).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from botocore.exceptions import ClientError

from sagewright.batch.reports import ERRORS
from sagewright.cli import transforms
from sagewright.cli.client import Api, plain_errors
from sagewright.cli.server import data_dir, option
from sagewright.core.errors import SettingsError
from sagewright.store.kinds import endpoint as endpoints
from sagewright.store.kinds import training_job as jobs
from sagewright.store.kinds import transform_job as transform_jobs

_POLL = 0.3  # seconds between looks while following
_MISSING = ("Could not find", "Requested resource not found")  # how the API says that an endpoint, a job is not there


def logs(data: Path | None, name: str, follow: bool, kind: str | None) -> None:
    """`kind` is "job", "endpoint", or None to find out. Ctrl-C leaves everything running and says how to come back."""
    api = Api(data_dir(data))
    try:
        with plain_errors():
            source = _source(api, name, kind)
            for line in _follow(source) if follow else source.lines():
                print(line, flush=follow)
            reason = source.failure() if follow else None
    except KeyboardInterrupt:
        print(f"\n{name} goes on. Come back with: sagewright logs -f {name}{option(data_dir(data))}", file=sys.stderr)
        return
    if reason is not None:
        raise SettingsError(f"{name} failed: {reason}")


def read_log(api: Api, job: str) -> Iterator[str]:
    """Every line of a training job that there is now. Raises ClientError for an unknown job."""
    yield from _job(api, job).lines()


def follow_log(api: Api, job: str) -> Iterator[str]:
    """Every line of a training job until it has ended."""
    yield from _follow(_job(api, job))


class _Source(Protocol):
    """Something that prints."""

    def lines(self) -> Iterator[str]:
        """Those since the last look."""
        ...

    def ended(self) -> bool:
        """Nothing more will be printed."""
        ...

    def failure(self) -> str | None:
        """Why it failed, if it has."""
        ...


def _follow(source: _Source) -> Iterator[str]:
    while True:
        ended = source.ended()  # asked before reading: what was printed before the end is read below
        yield from source.lines()
        if ended:
            return
        time.sleep(_POLL)


def _source(api: Api, name: str, kind: str | None) -> _Source:
    """A job's name may be an endpoint's too: early SDKs name an endpoint after its job. Then the endpoint is meant,
    for it is what prints now. The log of an endpoint that was deleted can still be read. Raises SettingsError."""
    if kind == "job":
        transform = _TransformLog(api, name)
        return transform if transform.is_there() and not _JobLog(api, name).is_there() else _job(api, name)
    log = _EndpointLog(api, name)
    if log.is_there():
        return log
    if kind is None and (job := _JobLog(api, name)).is_there():
        return job
    if kind is None and (transform := _TransformLog(api, name)).is_there():
        return transform
    if log.has_lines():
        return log
    if kind is None:
        raise SettingsError(
            f"there is no training or transform job named '{name}', and no endpoint of that name. `sagewright jobs` "
            "and `sagewright endpoints` show those there are."
        )
    raise SettingsError(f"there is no endpoint named '{name}'. `sagewright endpoints` shows those there are.")


def _job(api: Api, name: str) -> _JobLog:
    found = _JobLog(api, name)
    found.describe()
    return found


class _JobLog:
    def __init__(self, api: Api, name: str) -> None:
        self._sagemaker = api.client("sagemaker")
        self._name = name
        self._reader = Reader(api.client("logs"), jobs.LOG_GROUP, f"{name}/")

    def is_there(self) -> bool:
        try:
            self.describe()
        except ClientError as error:
            if _is_missing(error):
                return False
            raise
        return True

    def describe(self) -> dict[str, Any]:
        """Raises ClientError for an unknown job."""
        described: dict[str, Any] = self._sagemaker.describe_training_job(TrainingJobName=self._name)
        return described

    def lines(self) -> Iterator[str]:
        for line in self._reader.lines():
            several = self._reader.streams_seen > 1
            yield f"{line.stream.rsplit('/', 1)[-1]}: {line.text}" if several else line.text

    def ended(self) -> bool:
        return self.describe()["TrainingJobStatus"] in jobs.TERMINAL

    def failure(self) -> str | None:
        job = self.describe()
        return str(job.get("FailureReason", "")) if job["TrainingJobStatus"] == jobs.FAILED else None


class _TransformLog:
    """Lines say whose they are: the containers', or `data-log`. What is in its errors is in there too, more briefly."""

    def __init__(self, api: Api, name: str) -> None:
        self._sagemaker = api.client("sagemaker")
        self._name = name
        self._reader = Reader(api.client("logs"), transform_jobs.LOG_GROUP, f"{name}/")

    def is_there(self) -> bool:
        return transforms.find(self._sagemaker, self._name) is not None

    def lines(self) -> Iterator[str]:
        for line in self._reader.lines():
            if not line.stream.endswith(ERRORS):
                yield f"{line.stream.removeprefix(f'{self._name}/')}: {line.text}"

    def ended(self) -> bool:
        return self._describe()["TransformJobStatus"] in transform_jobs.TERMINAL

    def failure(self) -> str | None:
        job = self._describe()
        return str(job.get("FailureReason", "")) if job["TransformJobStatus"] == transform_jobs.FAILED else None

    def _describe(self) -> dict[str, Any]:
        described: dict[str, Any] = self._sagemaker.describe_transform_job(TransformJobName=self._name)
        return described


class _EndpointLog:
    """Lines say whose they are, VARIANT/INSTANCE: instances come and go while one follows."""

    def __init__(self, api: Api, name: str) -> None:
        self._sagemaker = api.client("sagemaker")
        self._name = name
        self._reader = Reader(api.client("logs"), endpoints.log_group(name), "")

    def is_there(self) -> bool:
        return self._describe() is not None

    def has_lines(self) -> bool:
        return bool(self._reader.streams())

    def lines(self) -> Iterator[str]:
        return (f"{line.stream}: {line.text}" for line in self._reader.lines())

    def ended(self) -> bool:
        described = self._describe()
        return described is None or described["EndpointStatus"] == endpoints.FAILED

    def failure(self) -> str | None:
        described = self._describe()
        if described is None or described["EndpointStatus"] != endpoints.FAILED:
            return None
        return str(described.get("FailureReason", ""))

    def _describe(self) -> dict[str, Any] | None:
        try:
            described: dict[str, Any] = self._sagemaker.describe_endpoint(EndpointName=self._name)
        except ClientError as error:
            if _is_missing(error):
                return None
            raise
        return described


def _is_missing(error: ClientError) -> bool:
    return str(error.response["Error"].get("Message", "")).startswith(_MISSING)


@dataclass(frozen=True, slots=True)
class Line:
    stream: str
    text: str


class Reader:
    """Reads all streams of a log group under a prefix, each from where the last look stopped."""

    def __init__(self, client: Any, group: str, prefix: str) -> None:
        self._client = client
        self._group = group
        self._prefix = {"logStreamNamePrefix": prefix} if prefix else {}
        self._tokens: dict[str, str] = {}
        self.streams_seen = 0

    def lines(self) -> Iterator[Line]:
        streams = self.streams()
        self.streams_seen = len(streams)
        for stream in streams:
            for text in self._new(stream):
                yield Line(stream, text)

    def streams(self) -> list[str]:
        """None while the group does not exist: nothing has been printed yet."""
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            try:
                page = self._client.describe_log_streams(logGroupName=self._group, **self._prefix, **token)
            except self._client.exceptions.ResourceNotFoundException:
                return []
            found += [stream["logStreamName"] for stream in page["logStreams"]]
            if "nextToken" not in page:
                return found
            token = {"nextToken": page["nextToken"]}

    def _new(self, stream: str) -> Iterator[str]:
        while True:
            token = {"nextToken": self._tokens[stream]} if stream in self._tokens else {}
            page = self._client.get_log_events(
                logGroupName=self._group, logStreamName=stream, startFromHead=True, **token
            )
            self._tokens[stream] = page["nextForwardToken"]
            if not page["events"]:
                return
            for event in page["events"]:
                yield event["message"]
