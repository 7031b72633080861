"""The three timestamp forms."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.wire import timestamps

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5.5))])


def moments(first: int, last: int) -> st.SearchStrategy[datetime]:
    bounds = (datetime(first, 1, 1), datetime(last, 1, 1))  # noqa: DTZ001 - hypothesis adds the zone
    return st.datetimes(*bounds, timezones=ZONES)


MOMENTS = moments(2, 9998)
RECENT = moments(1900, 2200)


def floored(moment: datetime, microseconds: int) -> datetime:
    return moment.replace(microsecond=moment.microsecond // microseconds * microseconds).astimezone(UTC)


@given(MOMENTS)
def test_iso_reads_back_to_the_millisecond(moment: datetime) -> None:
    assert timestamps.from_text(timestamps.to_iso(moment)) == floored(moment, 1000)
    assert timestamps.from_text(timestamps.to_precise_iso(moment)) == floored(moment, 1000)


@given(MOMENTS)
def test_http_dates_read_back_to_the_second(moment: datetime) -> None:
    assert timestamps.to_http_date(moment) == format_datetime(moment.astimezone(UTC), usegmt=True)
    if moment.year >= 1000:  # shorter years mean something else in an HTTP date
        assert timestamps.from_text(timestamps.to_http_date(moment)) == floored(moment, 1_000_000)


@given(RECENT)
def test_epoch_seconds_read_back_to_the_millisecond_and_never_run_ahead(moment: datetime) -> None:
    assert timestamps.from_epoch(timestamps.to_epoch(moment)) == floored(moment, 1000)


@given(st.text())
def test_any_text_is_a_time_or_a_value_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert timestamps.from_text(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("seconds", [1e20, -1e20, float("inf"), float("nan"), 253402300800])
def test_an_epoch_beyond_the_calendar_is_a_value_error(seconds: float) -> None:
    with pytest.raises(ValueError, match="years"):
        timestamps.from_epoch(seconds)


@pytest.mark.parametrize(
    "text",
    ["1706933106", "1706933106.0", "2024-02-03T04:05:06Z", "2024-02-03T04:05:06", "2024-02-03T05:05:06+01:00",
     "Sat, 03 Feb 2024 04:05:06 GMT", "Saturday, 03-Feb-24 04:05:06 GMT", " 2024-02-03T04:05:06.000Z "],
)  # fmt: skip
def test_all_forms_mean_the_same(text: str) -> None:
    assert timestamps.from_text(text) == datetime(2024, 2, 3, 4, 5, 6, tzinfo=UTC)
