"""What `usage` measures: one instance of something, and where its samples go."""

from __future__ import annotations

from typing import NamedTuple

from sagewright.core.ids import Region, WorkloadId
from sagewright.store.metric_rows import Dimensions


class Measured(NamedTuple):
    """`workloads` together are the instance."""

    region: Region
    namespace: str
    dimensions: Dimensions
    workloads: tuple[WorkloadId, ...]
