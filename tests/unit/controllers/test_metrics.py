"""MetricDefinitions on log lines (contract A.14)."""

from __future__ import annotations

import pytest

from sagewright.controllers.metrics import Metrics

MOMENT = 1_767_323_045_600


def value(regex: str, *lines: bytes) -> float | None:
    metrics = Metrics([("m", regex)])
    for offset, line in enumerate(lines):
        metrics.read(line, MOMENT + offset)
    return next((each["Value"] for each in metrics.final()), None)


@pytest.mark.parametrize(
    ("regex", "line", "expected"),
    [
        ("loss=([0-9.]+)", b"epoch 1 loss=0.25 acc=1", 0.25),
        ("loss=(.*)", b"loss=1e-3", 0.001),
        ("loss=(.*)", b"loss=soon", None),
        ("loss=(.*)", b"loss=nan", None),
        ("loss=(.*)", b"loss=inf", None),
        ("loss=[0-9]+", b"loss=3", None),
        ("loss=(", b"loss=3", None),
        ("(?:a=(.*))?loss", b"loss", None),
        ("v=(\\d+)\t", b"v=7\tx", 7.0),
        ("\u00fc=(\\d)", "ü=4".encode(), 4.0),
        ("x=(\\d)", b"\xff\xfex=5", 5.0),
    ],
)
def test_group_one_of_the_first_match_is_the_value(regex: str, line: bytes, expected: float | None) -> None:
    assert value(regex, line) == expected


def test_the_last_value_counts_with_the_time_of_its_line() -> None:
    metrics = Metrics([("b", "b=(.*)"), ("a", "a=(.*)"), ("never", "z=(.*)")])
    for offset, line in enumerate((b"a=1", b"b=2", b"a=3", b"a=not")):
        metrics.read(line, MOMENT + offset)
    assert metrics.final() == (
        {"MetricName": "b", "Value": 2.0, "Timestamp": "2026-01-02T03:04:05.601000Z"},
        {"MetricName": "a", "Value": 3.0, "Timestamp": "2026-01-02T03:04:05.602000Z"},
    )
