"""Request, container, defaults: in this order (contract C.3)."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.batch.options import Options, choose, read_parameters


def chosen(container: dict[str, Any] | None = None, **request: Any) -> Options:
    given = {"TransformInput": request.pop("source", {}), "TransformOutput": request.pop("output", {}), **request}
    return choose(given, container or {})


def test_defaults() -> None:
    assert chosen() == Options(
        concurrency=1,
        megabytes=6,
        multi=True,
        timeout=600.0,
        retries=3,
        split="None",
        gzip=False,
        lines=False,
        skip=False,
        content_type="",
        accept="",
    )
    assert (chosen().limit, chosen().strategy) == (6 << 20, "MULTI_RECORD")


def test_the_container_fills_in_what_the_request_leaves_out() -> None:
    told = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 2}
    filled = chosen(told, MaxConcurrentTransforms=0)
    assert (filled.concurrency, filled.strategy, filled.megabytes) == (8, "SINGLE_RECORD", 2)
    asked = chosen(told, MaxConcurrentTransforms=3, BatchStrategy="MultiRecord", MaxPayloadInMB=0)
    assert (asked.concurrency, asked.strategy, asked.megabytes, asked.limit) == (3, "MULTI_RECORD", 0, None)


@pytest.mark.parametrize(
    ("payload", "strategy", "split", "whole"),
    [
        (0, "MultiRecord", "Line", True),
        (0, "SingleRecord", "None", True),
        (0, "SingleRecord", "Line", False),
        (1, "MultiRecord", "None", False),
    ],
)
def test_what_goes_as_a_whole(payload: int, strategy: str, split: str, whole: bool) -> None:
    assert chosen(MaxPayloadInMB=payload, BatchStrategy=strategy, source={"SplitType": split}).whole is whole


def test_headers() -> None:
    made = chosen(source={"ContentType": "text/csv"}, output={"Accept": "application/json"})
    assert made.headers(made.content_type, last=True) == "Content-Type: text/csv\r\nAccept: application/json\r\n"
    assert made.headers("", last=False) == ""


@pytest.mark.parametrize(
    ("body", "found", "wrong"),
    [
        (b'{"MaxConcurrentTransforms":8,"BatchStrategy":"MULTI_RECORD","MaxPayloadInMB":6}', 3, ""),
        (b'{"MaxPayloadInMB":0,"More":1}', 1, ""),
        (b"{}", 0, ""),
        (b"", 0, "not JSON"),
        (b"<html>", 0, "not JSON"),
        (b"[1]", 0, "not a JSON object"),
        (b"null", 0, "not a JSON object"),
        (b'{"MaxConcurrentTransforms":"8"}', 0, "MaxConcurrentTransforms is not a whole number"),
        (b'{"MaxConcurrentTransforms":true,"MaxPayloadInMB":5}', 1, "MaxConcurrentTransforms is not"),
        (b'{"MaxConcurrentTransforms":-1}', 0, "from 1 to 1000"),
        (b'{"MaxPayloadInMB":101}', 0, "from 0 to 100"),
        (b'{"MaxPayloadInMB":1.5}', 0, "MaxPayloadInMB is not a whole number"),
        (b'{"BatchStrategy":"MultiRecord"}', 0, "MULTI_RECORD or SINGLE_RECORD"),
        (b'{"BatchStrategy":null}', 0, "BatchStrategy is not"),
    ],
)
def test_execution_parameters(body: bytes, found: int, wrong: str) -> None:
    given, why = read_parameters(body)
    assert len(given) == found
    assert wrong in why
    assert bool(why) == bool(wrong)
