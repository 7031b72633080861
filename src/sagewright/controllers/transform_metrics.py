"""Transform jobs as CloudWatch metrics, once a minute: what their instances use, and how far they have come.

    /aws/sagemaker/TransformJobs   CPUUtilization, MemoryUtilization        Host = JOB/INSTANCE (contract C.9)
    Sagewright                     TransformObjects, TransformRecords, ...   TransformJobName; AWS does not count these

Progress is of the job as a whole, also the last of it when it has ended since the look before. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from sagewright.controllers.measured import Measured
from sagewright.core.ids import WorkloadId
from sagewright.core.samples import Samples
from sagewright.store import metric_rows as rows
from sagewright.store import transform_rows
from sagewright.store.kinds.transform_job import LOG_GROUP
from sagewright.store.metric_rows import Metric

OURS: Final = "Sagewright"
_PROGRESS: Final = (
    ("objects", "TransformObjects", "Count"),
    ("records", "TransformRecords", "Count"),
    ("bytes", "TransformBytes", "Bytes"),
    ("failed", "TransformFailedObjects", "Count"),
    ("skipped", "TransformSkippedRecords", "Count"),
    ("records_per_second", "TransformRecordsPerSecond", "Count/Second"),
)


def instances(jobs: Iterable[transform_rows.Measured]) -> Iterator[Measured]:
    for job in jobs:
        if job.ended:
            continue
        for each in job.status.instances:
            host = rows.dimensions_of((("Host", f"{job.name}/{each['id']}"),))
            workloads = tuple(WorkloadId(workload) for workload in each["workloads"].values())
            yield Measured(job.region, LOG_GROUP, host, workloads)


def progress(jobs: Iterable[transform_rows.Measured], minute: int) -> rows.Points:
    """One sample each."""
    points = {}
    for job in jobs:
        dimensions = rows.dimensions_of((("TransformJobName", job.name),))
        for member, name, unit in _PROGRESS:
            if member in job.status.progress:
                metric = Metric(OURS, name, dimensions, unit, job.region)
                points[metric, minute] = Samples.of(float(job.status.progress[member]))
    return points
