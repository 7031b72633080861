"""What a container sees of a warm pool: its persistent cache. Pure.

Source: contract A.13; https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html, "Using persistent cache".
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from sagewright.workloads.workload import Mount, Workload

CACHE: Final = "/opt/ml/sagemaker/warmpoolcache"
VARIABLE: Final = "SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY"


def folders() -> tuple[str, ...]:
    """Relative to /opt/ml: where the cache is mounted."""
    return ("sagemaker/warmpoolcache",)


def with_cache(workload: Workload, cache: Path) -> Workload:
    """The workload with `cache` as its persistent cache; a variable of the user's own stays."""
    env = {VARIABLE: CACHE, **workload.env}
    return replace(workload, mounts=(*workload.mounts, Mount(cache, CACHE)), env=env)
