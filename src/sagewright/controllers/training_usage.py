"""The hosts of training jobs as `usage` measures them. Pure but for reading rows.

    /aws/sagemaker/TrainingJobs   CPUUtilization, MemoryUtilization   Host = JOB/algo-N

Source: contract A.14; https://docs.aws.amazon.com/sagemaker/latest/dg/monitoring-cloudwatch.html.
Does not own: metrics that a job prints (`metrics`).
"""

from __future__ import annotations

from collections.abc import Iterator

import orjson
from sqlalchemy import select

from sagewright.controllers.measured import Measured
from sagewright.core.ids import Region, WorkloadId
from sagewright.store import metric_rows as rows
from sagewright.store.kinds.training_job import IN_PROGRESS, KIND, LOG_GROUP, STOPPING, TrainingStatus
from sagewright.store.resources import Tx
from sagewright.store.tables import resources
from sagewright.workloads.hosts import hosts_of


def instances(tx: Tx) -> Iterator[Measured]:
    """Every host of every job under way; one that does not run yet, or no more, is not known to its backend."""
    columns = resources.c
    wanted = columns.kind == KIND, columns.state.in_((IN_PROGRESS, STOPPING))
    found = tx.connection.execute(select(columns.region, columns.name, columns.spec, columns.status).where(*wanted))
    for row in found:
        workloads = TrainingStatus.from_row(orjson.loads(row.status)).workloads
        for host, workload in zip(hosts_of(orjson.loads(row.spec)["request"]), workloads, strict=False):
            place = rows.dimensions_of((("Host", f"{row.name}/{host.name}"),))
            yield Measured(Region(row.region), LOG_GROUP, place, (WorkloadId(workload),))
