"""Training metrics from log lines: MetricDefinitions searched in each line.

    line ─► values ─┬─► the last of each metric             FinalMetricDataList
                    └─► sums by the minute ─► MetricStore    /aws/sagemaker/TrainingJobs in CloudWatch

Source: contract A.14. Group 1 of the regex is the value; what is not a number is ignored. The time is the line's.
Owns: matching, and how values become rows. Does not own: reading lines (`log_copier`), where values are shown
(`store.kinds.training_job`, `services.cloudwatch`).

A minute is written whole each time, so that lines which are read again after a crash change nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sagewright.core.clock import to_text
from sagewright.core.samples import Samples
from sagewright.store import metric_rows
from sagewright.store.kinds.training_job import LOG_GROUP
from sagewright.store.metric_rows import Metric
from sagewright.store.resources import Store

_MINUTE: Final = 60_000  # ms
_LATE: Final = 10  # minutes; lines come in order but for moments
LONGEST_LINE: Final = 8 * 1024  # bytes of a line that are searched: no metric is further to the right


@dataclass(frozen=True, slots=True)
class Definition:
    name: str
    pattern: re.Pattern[str]


class Metrics:
    """Reads lines in order; `final` is FinalMetricDataList in wire spelling, times as `core.clock.to_text`."""

    def __init__(self, definitions: Sequence[tuple[str, str]]) -> None:
        self._definitions = tuple(each for name, regex in definitions if (each := _compiled(name, regex)))
        self._last: dict[str, tuple[float, int]] = {}
        self._minutes: dict[tuple[str, int], Samples] = {}
        self._changed: set[tuple[str, int]] = set()

    def __bool__(self) -> bool:
        return bool(self._definitions)

    def read(self, message: bytes, timestamp: int) -> None:
        """One line; `timestamp` in milliseconds since the epoch."""
        if not self._definitions:
            return
        line = message[:LONGEST_LINE].decode("utf-8", "replace")
        for each in self._definitions:
            value = _value(each.pattern, line)
            if value is not None:
                self._last[each.name] = (value, timestamp)
                at = each.name, timestamp // _MINUTE
                self._minutes.setdefault(at, Samples()).add(value)
                self._changed.add(at)

    @property
    def changed(self) -> bool:
        """Whether there is something to write."""
        return bool(self._changed)

    def take(self) -> Mapping[tuple[str, int], Samples]:
        """(metric, minute) → all values of the minute, for minutes with new values since the last call. Minutes that no
        further line can be of are let go."""
        taken = {at: self._minutes[at] for at in self._changed}
        newest = max((minute for _, minute in self._minutes), default=0)
        self._minutes = {at: each for at, each in self._minutes.items() if at[1] > newest - _LATE}
        self._changed = set()
        return taken

    def final(self) -> tuple[dict[str, Any], ...]:
        """In the order of the definitions."""
        names = dict.fromkeys(each.name for each in self._definitions)
        return tuple(
            {"MetricName": name, "Value": value, "Timestamp": to_text(datetime.fromtimestamp(moment / 1000, UTC))}
            for name in names
            if name in self._last
            for value, moment in (self._last[name],)
        )


class MetricStore:
    """Writes them where CloudWatch's clients look."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def save(self, group: str, stream: str, values: Mapping[tuple[str, int], Samples]) -> None:
        """`stream` is the training job's name, a slash, and more. Blocks. Raises StoreUnavailable."""
        if group != LOG_GROUP or not values:
            return
        dimensions = (("TrainingJobName", stream.partition("/")[0]),)
        points = {(Metric(LOG_GROUP, name, dimensions), minute): each for (name, minute), each in values.items()}
        self._store.write(lambda tx: metric_rows.replace(tx, points))


def _compiled(name: str, regex: str) -> Definition | None:
    """A regex that is none matches nothing; it is refused when the job is created, not here."""
    try:
        pattern = re.compile(regex)
    except re.error:
        return None
    return Definition(name, pattern) if pattern.groups else None


def _value(pattern: re.Pattern[str], line: str) -> float | None:
    found = pattern.search(line)
    try:
        value = float(found.group(1)) if found and found.group(1) is not None else None
    except ValueError:
        return None
    return value if value is not None and math.isfinite(value) else None
