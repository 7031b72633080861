"""FilterLogEvents' patterns: what matches, and what is refused by name."""

from __future__ import annotations

import pytest

from sagewright.services.log_filters import compile_pattern
from sagewright.wire.faults import ApiFault

LINES = [b"ERROR disk full", b"error disk", b"WARN slow disk", b"INFO ok", b'say "hi"', b"", b"\xff ERROR"]


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("", [0, 1, 2, 3, 4, 5, 6]),
        ("  ", [0, 1, 2, 3, 4, 5, 6]),
        ("ERROR", [0, 6]),
        ("disk ERROR", [0]),
        ('"disk full"', [0]),
        ('"disk full" ERROR', [0]),
        ("disk -ERROR", [1, 2]),
        ('-disk -"INFO ok"', [4, 5, 6]),
        ("?WARN ?INFO", [2, 3]),
        ('?"disk full" ?WARN', [0, 2]),
        ("disk ?INFO", [0, 1, 2]),
        ('"say \\"hi\\""', [4]),
        ("?", []),
        ("-", []),
    ],
)
def test_a_pattern_matches_what_it_says(pattern: str, wanted: list[int]) -> None:
    matches = compile_pattern(pattern)
    assert [number for number, line in enumerate(LINES) if matches(line)] == wanted


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ('{ $.level = "ERROR" }', "JSON"),
        ("[ip, user, status=4*]", "space-delimited"),
        ("%ERR(OR)?%", "regular expression"),
        ('"not closed', "quotation"),
        ('"a"b', "quotation"),
    ],
)
def test_another_syntax_is_refused_with_what_is_supported(pattern: str, why: str) -> None:
    with pytest.raises(ApiFault, match=why) as raised:
        compile_pattern(pattern)
    assert raised.value.code == "InvalidParameterException"
    assert "-word" in raised.value.message
