"""What GetMetricStatistics and GetMetricData ask for: a statistic, over periods of some minutes. Pure.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Statistics-definitions.html
Owns: reading these words, and periods. Does not own: where the minutes come from (`services.cloudwatch`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sagewright.core.samples import Samples
from sagewright.wire.faults import ApiFault

_PLAIN: Final[dict[str, Callable[[Samples], float]]] = {
    "SampleCount": lambda samples: samples.count,
    "Average": lambda samples: samples.average,
    "Sum": lambda samples: samples.total,
    "Minimum": lambda samples: samples.least,
    "Maximum": lambda samples: samples.most,
}
_PERCENTILE: Final = re.compile(r"p(\d{1,3}(?:\.\d{1,10})?)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Statistic:
    """`of` is None for a percentile of what came as a summary: it is not known then."""

    name: str
    of: Callable[[Samples], float | None]
    extended: bool


def statistic(name: str) -> Statistic:
    """Raises ApiFault for what is none, or is none of ours."""
    if plain := _PLAIN.get(name):
        return Statistic(name, plain, extended=False)
    percentile = _PERCENTILE.fullmatch(name)
    if percentile is None or float(percentile.group(1)) > 100:
        raise invalid(
            f"The value {name} for parameter Stat is not supported. Use SampleCount, Average, Sum, Minimum, Maximum, "
            "or a percentile from p0 to p100, like p99 or p99.9."
        )
    percent = float(percentile.group(1))
    return Statistic(name, lambda samples: samples.percentile(percent), extended=True)


@dataclass(frozen=True, slots=True)
class Question:
    """Minutes since the epoch, from `start` up to `end`, in steps of `step`: `count` datapoints."""

    start: int
    end: int
    step: int
    count: int

    @classmethod
    def of(cls, start: datetime, end: datetime, period: int) -> Question:
        """The start is cut to its minute, as on AWS, and the end counts to the last second. `period` in seconds."""
        first, last = _seconds(start), _seconds(end)
        if first >= last:
            raise invalid("The parameter StartTime must be less than the parameter EndTime.")
        if period % 60:
            raise invalid(
                f"The parameter Period is {period} seconds; metrics are kept by the minute here: "
                "use 60 or a multiple of it."
            )
        return cls(int(first // 60), math.ceil(last / 60), period // 60, math.ceil((last - first) / period))


def by_period(points: Iterable[tuple[int, Samples]], question: Question) -> list[tuple[int, Samples]]:
    """Periods that have points, each with the minute in which it begins."""
    periods: dict[int, Samples] = {}
    for minute, samples in points:
        begin = minute - (minute - question.start) % question.step
        periods.setdefault(begin, Samples()).merge(samples)
    return sorted(periods.items())


def invalid(message: str) -> ApiFault:
    return ApiFault("InvalidParameterValue", message)


def combination(message: str) -> ApiFault:
    return ApiFault("InvalidParameterCombination", message)


def _seconds(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
