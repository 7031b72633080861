"""Tables as a terminal of some width shows them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from sagewright.cli import output

HEADINGS = ("JOB", "STATUS", "STEP", "IMAGE")
IMAGE = "763104351884.dkr.ecr.us-east-1.amazonaws.com/pytorch-training:2.0"


def shown(rows: list[tuple[output.Cell, ...]], width: int) -> list[str]:
    printed = io.StringIO()
    made = output.table(HEADINGS, rows, elastic=("STEP", "IMAGE"), width=width)
    Console(file=printed, width=width, highlight=False).print(made)
    return [line.rstrip() for line in printed.getvalue().splitlines()]


def row(name: str, step: str = "", image: str = "mine") -> tuple[output.Cell, ...]:
    return name, output.status_word("Failed"), step, image


@pytest.mark.parametrize("width", [80, 100, 120])
def test_long_images_and_steps_never_take_room_from_names(width: int) -> None:
    name = "walk-model-2026-11-28-03-47-51-910"
    step = "nothing was written to /opt/ml/model, so there is no model artifact"
    lines = shown([row(name, step), row("short", image=IMAGE), row("both", step, IMAGE)], width)
    assert len(lines) == 4, "one line for each row"
    assert all(len(line) <= width for line in lines)
    assert lines[1].startswith(f"{name}  Failed  nothing was")
    assert lines[2].startswith("short ")
    assert "763104351884" in lines[3] or width == 80
    assert "…" in lines[3]


def test_a_column_that_needs_little_leaves_the_rest_to_the_other() -> None:
    assert IMAGE in shown([row("a-job", image=IMAGE)], 90)[1]


def test_a_name_that_leaves_no_room_is_shown_whole_and_alone() -> None:
    lines = shown([row("x" * 75, "a step", IMAGE)], 80)
    assert "IMAGE" not in lines[0]
    assert sum(line.count("x") for line in lines) == 75


def test_signs_of_markup_are_shown_as_they_are() -> None:
    assert "[algo-2] [/opt/ml] waits" in shown([row("a-job", "[algo-2] [/opt/ml] waits")], 100)[1]


def test_a_table_without_rows_has_its_headings() -> None:
    assert shown([], 80) == ["JOB  STATUS  STEP  IMAGE"]


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (
            "AlgorithmError: ValueError: no rows (a.py, line 2). Last log lines:\nbye, exit code: 1",
            "ValueError: no rows (a.py, line 2).",
        ),
        ("ClientError: no such image", "no such image"),
        ("", ""),
    ],
)
def test_the_cause_of_a_failure_in_a_line(reason: str, cause: str) -> None:
    assert output.cause({"FailureReason": reason} if reason else {}) == cause
