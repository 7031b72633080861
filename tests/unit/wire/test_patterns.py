"""Java's patterns in Python."""

from __future__ import annotations

import random
import re
import signal
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest

from sagewright.wire import models, patterns

SERVICES = (
    "sagemaker", "sagemaker-runtime", "sagemaker-metrics", "sagemaker-featurestore-runtime", "logs", "ecr", "sts",
    "iam", "cloudwatch", "application-autoscaling", "events", "lambda", "s3",
)  # fmt: skip


def every_pattern() -> set[str]:
    shapes = (shape for service in SERVICES for shape in models.description(service)["shapes"].values())
    return {shape["pattern"] for shape in shapes if "pattern" in shape}


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        (r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*", ("", "é漢 5_-", "a\u00a0b"), ("a!", "a\n", "\u0301")),
        (r"[\p{L}\p{M}\p{Z}\p{S}\p{N}\p{P}]*", ("a\u0301 $_,", "😀"), ("\x00", "a\n", "\u200b")),
        (r"[\u0020-\uD7FF\uE000-\uFFFD\uD800\uDC00-\uDBFF\uDFFF\t]*", ("a 😀\t", "\ue000"), ("\n", "\x00")),
        (r"[\w-_]*", ("a-_9",), ("é", "a b")),
        (r"\w+", ("abc_9",), ("é", "٣")),
        (r"\d+", ("09",), ("٣",)),
        (r"\S+", ("é",), ("a b",)),
        (r"[^\s]+", ("é\u3000",), ("a b",)),
        (r"[\S\s]*", ("a \n\r\x00é",), ()),
        (r"\p{ASCII}*", ("~\x00",), ("é",)),
        (r"\A\S[\p{Print}]*\z", ("a b",), (" ab", "a\n", "")),
        (r"arn:[\p{Alnum}\-]+:x", ("arn:aws-cn:x",), ("arn:é:x",)),
        (r"([\p{L}\p{Z}\p{N}_.:\/=+\-@]*)${1,128}", ("abc",), ("a!",)),
        (r"^a$|^b$", ("a", "b"), ("a\n", "ab")),
        (r"(?!\s*$).+", ("a",), (" ", "")),
        (r".*", ("a b",), ("a\nb", "a\r")),
        (r"[a.]+", (".a",), ("b",)),
        (r"[^/.]+", ("ab",), ("a.b",)),
    ],
)
def test_a_pattern_means_what_java_means(pattern: str, yes: tuple[str, ...], no: tuple[str, ...]) -> None:
    compiled = patterns.compiled(pattern)
    assert [text for text in yes if not compiled.fullmatch(text)] == []
    assert [text for text in no if compiled.fullmatch(text)] == []


def test_pythons_word_class_is_letters_numbers_and_the_underscore() -> None:
    word = re.compile(r"\w")
    for point in range(0x110000):
        char = chr(point)
        assert bool(word.match(char)) == (unicodedata.category(char)[0] in "LN" or char == "_")


def test_every_pattern_of_every_service_compiles() -> None:
    for pattern in every_pattern():
        patterns.compiled(pattern)


def test_no_pattern_runs_away() -> None:
    """Long runs of what a pattern likes, then something that it cannot like. Exponential ones would never end."""
    units = ("a", "a-", "-", "1", "a.", ".", "/", "a/", " ", "a:", "arn:aws:sagemaker:us-east-1:", "s3://a", "*", "_")
    starts = ("", "a", "/", "https://", "s3://", "arn:aws:sagemaker:us-east-1:123456789012:x/")
    for pattern in sorted(every_pattern()):
        fullmatch = patterns.compiled(pattern).fullmatch
        with gives_up_after(seconds=20, pattern=pattern):
            for start, unit in product(starts, units):
                fullmatch(start + unit * 60 + "\x00")


@contextmanager
def gives_up_after(seconds: float, pattern: str) -> Iterator[None]:
    """`re` looks for signals while it searches, so that a hopeless search can be named instead of waited for."""

    def give_up(*_: object) -> None:
        pytest.fail(f"{pattern} backtracks without end: give it a linear equivalent in patterns._LINEAR")

    before = signal.signal(signal.SIGALRM, give_up)
    pending = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *pending)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("original", patterns._LINEAR)
def test_a_linear_equivalent_accepts_the_same(original: str) -> None:
    pick = random.Random(1)
    alphabet = "a*._-/!" if "\\t" not in original else "a \t:\x01"
    prefix = "https://" if original.startswith("https") else ""
    for _ in range(4000):
        text = prefix + "".join(pick.choice(alphabet) for _ in range(pick.randint(0, 9)))
        assert bool(re.fullmatch(original, text)) == bool(patterns.compiled(original).fullmatch(text)), text


def test_an_unknown_property_is_an_error() -> None:
    with pytest.raises(re.error):
        patterns.compiled(r"\p{Nonsense}")
