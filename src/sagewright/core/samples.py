"""Many values as a few numbers: count, sum, extremes, and how many there were of about each size.

Owns: adding, merging, percentiles. Does not own: where the values come from, and where they are kept.

A value's size is kept to five binary digits, so that a percentile is known to within 1/16 whatever the scale: the
values may be microseconds or losses, and negative.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_DIGITS: Final = 5  # binary


def edge(value: float) -> float:
    """`value`, cut towards zero to five binary digits: the name of its bucket."""
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.trunc(math.ldexp(mantissa, _DIGITS)), exponent - _DIGITS)


def beyond(of: float) -> float:
    """The other end of the bucket, away from zero."""
    mantissa, exponent = math.frexp(of)
    return of + math.copysign(math.ldexp(1.0, exponent - _DIGITS), mantissa) if of else 0.0


@dataclass(slots=True)
class Samples:
    """`least` and `most` mean nothing while `count` is 0. `buckets`: edge → how many; they are missing for what came as
    a summary, and then percentiles are not known."""

    count: float = 0.0
    total: float = 0.0
    least: float = math.inf
    most: float = -math.inf
    buckets: dict[float, float] = field(default_factory=dict)

    @classmethod
    def of(cls, *values: float) -> Samples:
        made = cls()
        for value in values:
            made.add(value)
        return made

    def add(self, value: float, count: float = 1.0) -> None:
        self.summarize(count, value * count, value, value)
        self._put({edge(value): count})

    def summarize(self, count: float, total: float, least: float, most: float) -> None:
        """Values of which no more is known. One value, or the same many times, is known all the same."""
        self.count += count
        self.total += total
        self.least = min(self.least, least)
        self.most = max(self.most, most)

    def merge(self, other: Samples) -> None:
        if other.count:
            self.summarize(other.count, other.total, other.least, other.most)
            self._put(other.buckets)

    def _put(self, buckets: Mapping[float, float]) -> None:
        for each, count in buckets.items():
            self.buckets[each] = self.buckets.get(each, 0.0) + count

    @property
    def average(self) -> float:
        return self.total / self.count

    def percentile(self, percent: float) -> float | None:
        """None when the values were not seen one by one."""
        if not self.count:
            return None
        if self.least == self.most:
            return self.least
        seen = sum(self.buckets.values())
        if not math.isclose(seen, self.count):
            return None
        left = seen * percent / 100
        for each in sorted(self.buckets):
            count = self.buckets[each]
            if left <= count:
                return self._within(each, left / count)
            left -= count
        return self.most

    def _within(self, bucket: float, part: float) -> float:
        """A value so far into a bucket, but no further out than the extremes that were seen."""
        low, high = sorted((bucket, beyond(bucket)))
        low, high = max(low, self.least), min(high, self.most)
        return low + (high - low) * part
