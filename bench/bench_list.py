"""ListTrainingJobs over 100,000 jobs: at most 20 ms a page, whatever the filter, the order and the page.

The median of the slowest kind of page counts; every kind is printed.
"""

from __future__ import annotations

import statistics
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from common import finish, server, verdict

from sagewright.core.ids import DEFAULT_ACCOUNT, DEFAULT_REGION
from sagewright.store.db import Database
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Tx

JOBS, ROUNDS = 100_000, 9
START = datetime(2026, 1, 1, tzinfo=UTC)
STATES = ("Completed", "Failed", "Stopped", "Completed", "Completed")


def main() -> None:
    with server() as running:
        running.run("down")
        fill(running.data / "sagewright.db")
        running.start()
        sagemaker = running.client("sagemaker")
        middle = START + timedelta(seconds=JOBS // 2)
        filters: dict[str, dict[str, Any]] = {
            "all": {},
            "newest first": {"SortOrder": "Descending"},
            "by name": {"SortBy": "Name"},
            "by status, descending": {"SortBy": "Status", "SortOrder": "Descending"},
            "failed": {"StatusEquals": "Failed"},
            "none in progress": {"StatusEquals": "InProgress"},
            "name contains, common": {"NameContains": "-9"},
            "name contains, one": {"NameContains": "099999"},
            "name contains, none": {"NameContains": "absent"},
            "created after": {"CreationTimeAfter": middle},
            "modified before, by name": {"LastModifiedTimeBefore": middle, "SortBy": "Name"},
            "everything at once": {
                "NameContains": "7",
                "StatusEquals": "Failed",
                "CreationTimeAfter": middle,
                "SortBy": "Name",
            },
        }
        slowest = max(measure(sagemaker, name, chosen) for name, chosen in filters.items())
    finish(verdict(f"slowest page of ListTrainingJobs over {JOBS:,} jobs", slowest * 1000, 20, unit=" ms"))


def fill(path: Any) -> None:
    request = {
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::000000000000:role/SageMakerRole",
        "OutputDataConfig": {"S3OutputPath": "s3://bench/out"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    }

    def insert(tx: Tx, first: int) -> None:
        for number in range(first, first + 10_000):
            name = f"job-{number * 7919 % JOBS:06d}"
            key = kind.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name)
            spec = kind.TrainingSpec({**request, "TrainingJobName": name}, {"name": "image", "folder": None})
            status = kind.TrainingStatus(secondary=STATES[number % 5], cleaned=True)
            at = START + timedelta(seconds=number)
            tx.insert(key, spec.to_row(), status.to_row(), STATES[number % 5], now=at, wake=False)

    store = Database.open(path)
    for first in range(0, JOBS, 10_000):
        store.write(lambda tx, first=first: insert(tx, first))
    store.close()


def measure(sagemaker: Any, name: str, chosen: dict[str, Any]) -> float:
    """Median seconds of a page of 100, over the first pages."""
    times: list[float] = []
    token: dict[str, str] = {}
    for _ in range(ROUNDS):
        begun = time.monotonic()
        page = sagemaker.list_training_jobs(MaxResults=100, **chosen, **token)
        times.append(time.monotonic() - begun)
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}
    median = statistics.median(times)
    print(f"  {name:28} {median * 1000:6.1f} ms a page, slowest {max(times) * 1000:.1f}")
    return median


if __name__ == "__main__":
    main()
