"""AWS's three timestamp forms, both directions: epoch seconds, ISO 8601, RFC 822. All datetimes are aware, UTC.

Fractions go out with milliseconds, rounded down, as AWS does: what is shown is never later than what happened.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NUMBER = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,20})?")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def from_epoch(seconds: float) -> datetime:
    """Raises ValueError outside the years 1 to 9999."""
    try:
        return EPOCH + timedelta(microseconds=round(seconds * 1_000_000))
    except (OverflowError, ValueError) as error:
        raise ValueError(f"{seconds} is not a time between the years 1 and 9999") from error


def from_text(text: str) -> datetime:
    """Any of the three forms: clients mix them more freely than the models say. Raises ValueError."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        return from_epoch(float(text))
    try:
        moment = datetime.fromisoformat(text) if text[:1].isdigit() else parsedate_to_datetime(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"{text!r} is not a timestamp") from error


def to_epoch(moment: datetime) -> float:
    since = moment - EPOCH
    return since.days * 86400 + since.seconds + since.microseconds // 1000 / 1000


def to_iso(moment: datetime) -> str:
    """`2024-02-03T04:05:06Z`, with milliseconds where there are any."""
    return _iso(moment, "milliseconds" if moment.microsecond >= 1000 else "seconds")


def to_precise_iso(moment: datetime) -> str:
    """Always with milliseconds: `2024-02-03T04:05:06.000Z`."""
    return _iso(moment, "milliseconds")


def _iso(moment: datetime, timespec: str) -> str:
    text = (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).isoformat(timespec=timespec)
    return text.removesuffix("+00:00") + "Z"


def to_http_date(moment: datetime) -> str:
    """`Sat, 03 Feb 2024 04:05:06 GMT`, whatever the process's locale."""
    moment = moment.astimezone(UTC)
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02} {month} {moment.year:04} {moment:%H:%M:%S} GMT"


def format_as(form: str | None, default: str, moment: datetime) -> str:
    """`moment` in the model's form (`iso8601`, `rfc822`, `unixTimestamp`), or in the location's default form."""
    wanted = (form or default).lower()
    if wanted == "rfc822":
        return to_http_date(moment)
    if wanted == "unixtimestamp":
        return repr(to_epoch(moment)).removesuffix(".0")
    return to_iso(moment)
