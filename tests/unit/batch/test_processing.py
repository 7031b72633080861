"""DataProcessing: filters and joins, as the developer guide shows them."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.batch.processing import Mismatch, Processing
from sagewright.core.json_paths import PathError, parse


def processing(kind: str = "text/csv", *, lines: bool = True, **asked: Any) -> Processing:
    return Processing(asked, kind, lines=lines)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", {"a": 1, "b": [1, 2, 3], "c": {"d": 4}}),
        ("$.c.d", 4),
        ("$['a']", 1),
        ("$['a','b']", {"a": 1, "b": [1, 2, 3]}),
        ("$.b[1]", 2),
        ("$.b[0,-1]", [1, 3]),
        ("$.b[1:]", [2, 3]),
        ("$.b[:2]", [1, 2]),
        ("$.b[0:1]", [1]),
        ("$.c.*", [4]),
    ],
)
def test_paths(path: str, found: Any) -> None:
    assert parse(path).apply({"a": 1, "b": [1, 2, 3], "c": {"d": 4}}) == found


@pytest.mark.parametrize("path", ["a", "$..a", "$[?(@.a)]", "$[a]", "$.", "$['a',1]"])
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(PathError):
        parse(path)


@pytest.mark.parametrize("path", ["$.x", "$.b[3]", "$.b[1:9]", "$.a[0]"])
def test_nothing_there(path: str) -> None:
    with pytest.raises(PathError, match="nothing at"):
        parse(path).apply({"a": 1, "b": [1, 2, 3]})


def test_csv_columns_are_filtered_and_joined() -> None:
    made = processing(InputFilter="$[1:]", JoinSource="Input", OutputFilter="$[0,-1]")
    data = b'id1,2,"3,3"\nid2,4,5\n'
    assert made.before(data) == b'2,"3,3"\n4,5\n'
    assert made.after(data, b"0.1\n0.2\n") == b"id1,0.1\nid2,0.2\n"


def test_json_lines_get_a_member_of_their_own() -> None:
    made = processing(
        "application/jsonlines", InputFilter="$.x", JoinSource="Input", OutputFilter="$['id','SageMakerOutput']"
    )
    data = b'{"id":1,"x":[1,2]}\n{"id":2,"x":[3]}'
    assert made.before(data) == b"[1,2]\n[3]"
    assert made.after(data, b"5\n6") == b'{"id":1,"SageMakerOutput":5}\n{"id":2,"SageMakerOutput":6}\n'


def test_a_json_document_is_one_record() -> None:
    made = processing("application/json", lines=False, JoinSource="Input")
    assert made.after(b"[1,\n2]", b'{"y":3}') == b'{"SageMakerInput":[1,2],"SageMakerOutput":{"y":3}}'


def test_an_answer_of_another_length_is_said() -> None:
    with pytest.raises(Mismatch, match="answered 1 for 2"):
        processing(JoinSource="Input").after(b"1\n2\n", b"3\n")


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(Mismatch, match="read as JSON"):
        processing("application/json", InputFilter="$.a").before(b"{")
