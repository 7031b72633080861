"""What must hold of a training job's row after each commit."""

from __future__ import annotations

from itertools import pairwise

from sagewright.core.clock import from_text
from sagewright.store.kinds.training_job import TERMINAL, TrainingStatus
from sagewright.store.resources import Resource


def check_status(row: Resource) -> None:
    """What every reader of a status may rely on (compat-surface: both Status and StatusMessage are indexed)."""
    status = TrainingStatus.from_row(row.status)
    for entry in status.transitions:
        assert entry["Status"]
        assert entry["StatusMessage"]
        assert entry["StartTime"] <= entry.get("EndTime", entry["StartTime"])
    for earlier, later in pairwise(status.transitions):
        assert from_text(earlier["EndTime"]) <= from_text(later["StartTime"])
        assert (earlier["Status"], earlier["StatusMessage"]) != (later["Status"], later["StatusMessage"])
    if status.transitions:
        assert status.transitions[-1]["Status"] == status.secondary
    if row.state in TERMINAL:
        assert status.transitions[-1]["EndTime"]
        assert status.secondary in {row.state, "MaxRuntimeExceeded", "MaxWaitTimeExceeded"}
