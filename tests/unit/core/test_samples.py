"""Many values as a few numbers: what is kept must say the same as the values themselves."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.core.samples import Samples, beyond, edge
from sagewright.router import counters

NUMBERS = st.floats(min_value=-1e12, max_value=1e12, allow_subnormal=False)


@given(NUMBERS)
@settings(max_examples=200)
def test_a_bucket_holds_its_values_and_is_narrow(value: float) -> None:
    low, high = sorted((edge(value), beyond(edge(value))))
    assert low <= value <= high
    assert high - low <= abs(value) / 8
    assert edge(edge(value)) == edge(value)


@given(st.integers(min_value=0, max_value=1 << 40))
@settings(max_examples=200)
def test_the_routers_buckets_are_the_same_ones(value: int) -> None:
    """Its numbering is its own; what is written down is the edge."""
    assert edge(float(value)) == edge(float(counters.floor(counters.bucket(value))))


@given(st.lists(st.floats(min_value=0.001, max_value=1e9), min_size=5, max_size=200))
@settings(max_examples=50)
def test_percentiles_are_near_the_true_ones(values: list[float]) -> None:
    samples = Samples.of(*values)
    ordered = sorted(values)
    for percent in (50, 90, 99):
        found = samples.percentile(percent)
        rank = max(0, math.ceil(len(ordered) * percent / 100) - 1)
        assert found is not None
        assert ordered[rank] * 0.9 <= found <= ordered[rank] * 1.1
    assert samples.percentile(100) == pytest.approx(ordered[-1])


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.integers(min_value=0, max_value=40))
@settings(max_examples=50)
def test_merging_is_adding_them_all(values: list[float], cut: int) -> None:
    merged = Samples.of(*values[:cut])
    merged.merge(Samples.of(*values[cut:]))
    whole = Samples.of(*values)
    assert (merged.count, merged.least, merged.most) == (whole.count, whole.least, whole.most)
    assert merged.average == pytest.approx(statistics.fmean(values), abs=1e-3)
    assert merged.buckets == whole.buckets


def test_a_summary_has_no_percentiles_but_for_one_value() -> None:
    summary = Samples()
    summary.summarize(10, 55, 1, 10)
    assert summary.percentile(50) is None
    summary.merge(Samples.of(3))
    assert summary.percentile(50) is None
    same = Samples()
    same.summarize(4, 8, 2, 2)
    assert same.percentile(99) == 2
    assert Samples().percentile(50) is None
