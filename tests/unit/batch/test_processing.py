"""DataProcessing: filters and joins, as the developer guide shows them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import orjson
import pytest

from sagewright.batch.processing import Mismatch, Processing, Stamp
from sagewright.batch.splitting import Batch
from sagewright.core.json_paths import PathError, parse

JSON, JSON_LINES = "application/json", "application/jsonlines"
STAMP = Stamp("account/region/job", "2026-01-02T03:04:05Z")
WHERE = "bucket/in/a"


def processing(kind: str = "text/csv", *, lines: bool = True, stamp: Stamp | None = None, **asked: Any) -> Processing:
    return Processing(asked, kind, lines=lines, stamp=stamp)


def after(made: Processing, data: bytes, answer: bytes) -> bytes:
    return made.after(Batch(data, 1, data.count(b"\n") + (not data.endswith(b"\n"))), answer, WHERE)


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
    assert after(made, data, b"0.1\n0.2\n") == b"id1,0.1\nid2,0.2\n"


def test_json_lines_get_a_member_of_their_own() -> None:
    made = processing(
        "application/jsonlines", InputFilter="$.x", JoinSource="Input", OutputFilter="$['id','SageMakerOutput']"
    )
    data = b'{"id":1,"x":[1,2]}\n{"id":2,"x":[3]}'
    assert made.before(data) == b"[1,2]\n[3]"
    assert after(made, data, b"5\n6") == b'{"id":1,"SageMakerOutput":5}\n{"id":2,"SageMakerOutput":6}\n'


def test_a_json_document_is_one_record() -> None:
    made = processing("application/json", lines=False, JoinSource="Input")
    assert after(made, b"[1,\n2]", b'{"y":3}') == b'{"SageMakerInput":[1,2],"SageMakerOutput":{"y":3}}'


def test_an_answer_of_another_length_is_said() -> None:
    with pytest.raises(Mismatch, match="answered 1 for 2"):
        after(processing(JoinSource="Input"), b"1\n2\n", b"3\n")


def test_what_cannot_be_read_is_said() -> None:
    with pytest.raises(Mismatch, match="read as JSON"):
        processing("application/json", InputFilter="$.a").before(b"{")


@pytest.mark.parametrize(
    ("given", "answer", "joined"),
    [
        (b'{"a":1}', b"5", b'{"a":1,"SageMakerOutput":5}'),
        (b'{"a":1}', b"[5]", b'{"a":1,"SageMakerOutput":[5]}'),
        (b'{"a":1}', b'{"a":2}', b'{"a":1,"SageMakerOutput":{"a":2}}'),
        (b"[1,2]", b"[5]", b'{"SageMakerInput":[1,2],"SageMakerOutput":[5]}'),
        (b"7", b'"x"', b'{"SageMakerInput":7,"SageMakerOutput":"x"}'),
        (b"null", b"null", b'{"SageMakerInput":null,"SageMakerOutput":null}'),
        (b'{"SageMakerOutput":1}', b"5", b'{"SageMakerOutput":5}'),
    ],
)
@pytest.mark.parametrize("lines", [True, False])
def test_joins_of_json(given: bytes, answer: bytes, joined: bytes, lines: bool) -> None:
    made = processing(JSON_LINES if lines else JSON, lines=lines, JoinSource="Input")
    assert after(made, given, answer) == joined + (b"\n" if lines else b"")


def test_a_join_sees_what_the_input_filter_dropped() -> None:
    made = processing(
        JSON, lines=False, InputFilter="$.x", JoinSource="Input", OutputFilter="$['id','SageMakerOutput']"
    )
    data = b'{"id": "i", "x": [1, 2]}'
    assert made.before(data) == b"[1,2]"
    assert after(made, data, b"0.5") == b'{"id":"i","SageMakerOutput":0.5}'


@pytest.mark.parametrize(
    ("made", "data", "record", "why"),
    [
        (processing(InputFilter="$[5]"), b"1,2\n", 0, "nothing at"),
        (processing(InputFilter="$[1]"), b"1,2\n3\n", 1, "nothing at"),
        (processing(JSON_LINES, InputFilter="$.x"), b'{"x":1}\n{"y":1}\n', 1, "no member 'x'"),
        (processing(JSON_LINES, InputFilter="$.x"), b'{"x":1}\n\nnot json\n', 1, "read as JSON"),
        (processing(JSON, lines=False, InputFilter="$.x"), b"[1]", 0, "not an object"),
        (processing(InputFilter="$[0]"), b"\xff\xfe\n", None, "read as CSV"),
    ],
)
def test_a_filter_that_matches_nothing_names_the_record(
    made: Processing, data: bytes, record: int | None, why: str
) -> None:
    with pytest.raises(Mismatch, match=why) as caught:
        made.before(data)
    assert caught.value.record == record


def test_an_output_filter_that_matches_nothing_is_said_too() -> None:
    with pytest.raises(Mismatch, match=r"nothing at \$\.y"):
        after(processing(JSON_LINES, OutputFilter="$.y"), b"{}\n", b'{"x":1}\n')


def test_quoted_columns_and_empty_rows_stay_what_they_are() -> None:
    made = processing(JoinSource="Input")
    data = b'"a ""b""","c,d"\n\nlast\n'
    assert after(made, data, b"1\n2\n3\n") == b'"a ""b""","c,d",1\n2\nlast,3\n'


def test_inference_ids_of_csv_are_the_last_two_columns() -> None:
    made = processing(OutputFilter="$[0]", stamp=STAMP)
    rows = [line.split(",") for line in after(made, b"1\n2\n", b"0,x\n1,y\n").decode().splitlines()]
    assert [(row[0], row[2]) for row in rows] == [("0", STAMP.moment), ("1", STAMP.moment)]
    ids = [UUID(row[1]) for row in rows]
    assert len(set(ids)) == 2
    assert all(each.version == 4 for each in ids)


def test_inference_ids_of_json_are_members() -> None:
    made = processing(JSON_LINES, stamp=STAMP)
    one, two = (orjson.loads(line) for line in after(made, b"1\n2\n", b'{"output":0}\n5\n').splitlines())
    assert (one["output"], two["SageMakerOutput"]) == (0, 5)
    assert {one["SageMakerInferenceTime"], two["SageMakerInferenceTime"]} == {STAMP.moment}
    assert UUID(one["SageMakerInferenceId"]) != UUID(two["SageMakerInferenceId"])


def test_an_object_that_is_done_again_gets_the_same_ids() -> None:
    ids = [STAMP.id(where, batch, number) for where in ("a", "b") for batch in (1, 9) for number in (0, 1)]
    assert len(set(ids)) == 8
    assert ids[0] == Stamp(STAMP.job, "later").id("a", 1, 0)
    assert ids[0] != Stamp("another", STAMP.moment).id("a", 1, 0)


def test_nothing_asked_is_nothing_done() -> None:
    request = {"TransformInput": {"ContentType": "text/csv"}, "TransformOutput": {}}
    assert Processing.of(request) is None
    assert Processing.of({**request, "DataProcessing": {"InputFilter": "$", "JoinSource": "None"}}) is None
    assert Processing.of(request, STAMP) is not None
