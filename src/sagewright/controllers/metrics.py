"""Training metrics from log lines: MetricDefinitions searched in each line, the last value per metric kept. Pure.

Source: contract A.14. Group 1 of the regex is the value; what is not a number is ignored. The time is the line's.
Owns: matching. Does not own: reading lines (`log_copier`), where values are shown (`store.kinds.training_job`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sagewright.core.clock import to_text

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

    def final(self) -> tuple[dict[str, Any], ...]:
        """In the order of the definitions."""
        names = dict.fromkeys(each.name for each in self._definitions)
        return tuple(
            {"MetricName": name, "Value": value, "Timestamp": to_text(datetime.fromtimestamp(moment / 1000, UTC))}
            for name in names
            if name in self._last
            for value, moment in (self._last[name],)
        )


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
