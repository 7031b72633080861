"""What is counted of invocations, per endpoint, variant and container: plain integers and log buckets.

Owns: counting in memory. Does not own: where the numbers go (whoever calls `take` or `snapshot`).
Meanings and units: contract B.14 and "Monitor Amazon SageMaker AI with Amazon CloudWatch". Times are in microseconds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from copy import deepcopy
from typing import Final, NamedTuple

_STEPS: Final = 4  # bits: 16 buckets per doubling, so a percentile is known to within 1/16


def bucket(value: int) -> int:
    """The bucket of a whole number that is not negative. Below 32 each number has its own."""
    shift = value.bit_length() - _STEPS - 1
    return value if shift <= 0 else (shift << _STEPS) + (value >> shift)


def floor(index: int) -> int:
    """The smallest number in a bucket; `floor(index + 1)` is the first that is not."""
    shift = (index >> _STEPS) - 1
    return index if shift <= 0 else (index - (shift << _STEPS)) << shift


class Histogram:
    """`buckets` maps `bucket(value)` to how many values were in it. `least` is meaningless while `count` is 0."""

    __slots__ = ("buckets", "count", "least", "most", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.most = 0
        self.buckets: dict[int, int] = {}

    def add(self, value: int) -> None:
        if value > self.most:  # noqa: PLR1730 - a call costs five times as much, here where it matters
            self.most = value
        if value < self.least or self.count == 0:
            self.least = value
        self.count += 1
        self.total += value
        shift = value.bit_length() - _STEPS - 1
        index = value if shift <= 0 else (shift << _STEPS) + (value >> shift)
        try:
            self.buckets[index] += 1
        except KeyError:
            self.buckets[index] = 1

    def add_all(self, seconds: list[float]) -> None:
        """Many at once, in seconds: a fraction of the price of one by one."""
        if not seconds:
            return
        values = [int(each * 1e6) for each in seconds]
        self.least = min(values if self.count == 0 else (self.least, *values))
        self.most = max(self.most, *values)
        self.count += len(values)
        self.total += sum(values)
        buckets = self.buckets
        for value, times in Counter(values).items():
            index = bucket(value)
            buckets[index] = buckets.get(index, 0) + times


_UNFOLDED: Final = 1024  # times that are kept as they are before they are put into buckets


class Of(NamedTuple):
    """Whose numbers. `container` is empty for the variant as a whole; set for each container of a pipeline."""

    region: str
    endpoint: str
    variant: str
    container: str


class Tally:
    """`errors_4xx` and `errors_5xx` are the model's own codes. `model_errors` are all answers with ModelError, time
    limits and broken connections among them. `throttled` (429) and `unavailable` (503) never reached a container."""

    __slots__ = (
        "errors_4xx",
        "errors_5xx",
        "invocations",
        "model_errors",
        "model_latency",
        "model_times",
        "overhead_latency",
        "overhead_times",
        "per_instance",
        "throttled",
        "unavailable",
    )

    def __init__(self) -> None:
        self.invocations = 0
        self.per_instance = 0.0  # the sum of 1/n, n the variant's instances at the time
        self.errors_4xx = 0
        self.errors_5xx = 0
        self.model_errors = 0
        self.throttled = 0
        self.unavailable = 0
        self.model_latency = Histogram()  # from the request's last byte out to the response's last byte in
        self.overhead_latency = Histogram()  # from the request's first byte in to the answer's end, less the model's
        self.model_times: list[float] = []  # seconds, not yet in the histograms
        self.overhead_times: list[float] = []

    def answered(self, share: float, model_time: float, overhead_time: float) -> None:
        """A good answer; `share` is 1/n. Cheap: the histograms get their times many at once."""
        self.invocations += 1
        self.per_instance += share
        self.model_times.append(model_time)
        self.overhead_times.append(overhead_time)
        if len(self.model_times) >= _UNFOLDED:
            self.fold()

    def fold(self) -> None:
        """Bring the histograms up to date."""
        self.model_latency.add_all(self.model_times)
        self.overhead_latency.add_all(self.overhead_times)
        self.model_times.clear()
        self.overhead_times.clear()


class Counters:
    """All tallies of one gateway process."""

    def __init__(self) -> None:
        self._tallies: dict[Of, Tally] = {}
        self.era = 0  # how often they were taken: a tally of an earlier era is not counted on any more

    def of(self, region: str, endpoint: str, variant: str, container: str = "") -> Tally:
        """The tally to count on. Do not keep it beyond this `era`: `take` starts new ones."""
        return self.at(Of(region, endpoint, variant, container))

    def at(self, whose: Of) -> Tally:
        """The same for a name that is at hand."""
        found = self._tallies.get(whose)
        if found is None:
            found = self._tallies[whose] = Tally()
        return found

    def snapshot(self) -> Mapping[Of, Tally]:
        """A copy of what was counted since the last `take`."""
        for tally in self._tallies.values():
            tally.fold()
        return deepcopy(self._tallies)

    def take(self) -> Mapping[Of, Tally]:
        """What was counted since the last `take`; counting starts anew."""
        taken, self._tallies = self._tallies, {}
        self.era += 1
        for tally in taken.values():
            tally.fold()
        return taken
