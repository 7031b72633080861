"""The process of one transform run: `python -m sagewright.app.transform`, started by `app.transform_process`."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import uvloop

from sagewright.app import child
from sagewright.batch.driver import Driver
from sagewright.batch.reports import Report
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.core.errors import BlobStoreFull, NotFound, StoreUnavailable, TransferError
from sagewright.objects.local import LocalObjects
from sagewright.store.db import Database
from sagewright.workloads.transfer import RunTransform


def main() -> None:
    settings = child.start("transform").settings
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # each request under way has a connection
    job = _read(orjson.loads(sys.stdin.buffer.read()))
    store = Database.open(settings.database_url or settings.data.database)
    try:
        objects = LocalObjects(store, FileBlobs(settings.data.blobs))
        report = Report(LogStreams(settings.data.streams), job.log_stream, lambda told: _tell({"progress": told}))
        child.settled()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            error, retry = runner.run(_run(Driver(job, objects, report)))
        _tell({"error": error, "retry": retry})
    finally:
        store.close()


async def _run(driver: Driver) -> tuple[str, bool]:
    """What went wrong ("" = nothing), and whether that mends itself."""
    try:
        await driver.run()
    except (TransferError, NotFound, BlobStoreFull, StoreUnavailable, ExceptionGroup) as error:
        cause = _first(error)
        if not isinstance(cause, TransferError | NotFound | BlobStoreFull | StoreUnavailable):
            raise
        return str(cause), isinstance(cause, StoreUnavailable)
    return "", False


def _first(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return error


def _read(given: Mapping[str, Any]) -> RunTransform:
    values = {
        **given,
        "root": Path(given["root"]),
        "addresses": tuple(given["addresses"]),
        "log_stream": tuple(given["log_stream"]),
    }
    return RunTransform(**values)


def _tell(line: Mapping[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(line) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
