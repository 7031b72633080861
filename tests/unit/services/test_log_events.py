"""CloudWatch Logs: searching many streams, and the write side that agents use."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest

from sagewright.blobs.streams import LogStreams, StreamRecord
from sagewright.services.logs import service as logs_service
from sagewright.wire.faults import ApiFault
from unit.services.conftest import NOW

GROUP = "/aws/sagemaker/Endpoints/mine"
NOW_MS = int(NOW.timestamp() * 1000)
DAY_MS = 86_400_000


class Logs(Protocol):
    def __call__(self, operation: str, /, **request: Any) -> Mapping[str, Any]: ...


@pytest.fixture
def streams(tmp_path: Path) -> LogStreams:
    return LogStreams(tmp_path / "streams")


@pytest.fixture
def logs(streams: LogStreams, call: Any) -> Logs:
    service = logs_service(streams, b"secret")

    def run(operation: str, /, **request: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = call(service, operation, **request)
        return found

    return run


def write(streams: LogStreams, stream: str, *lines: tuple[int, str]) -> None:
    streams.append(GROUP, stream, [StreamRecord("-", time, text.encode()) for time, text in lines])


def search(logs: Logs, **request: Any) -> list[str]:
    """All pages, as botocore's paginator walks them: it raises when a token comes twice."""
    found: list[str] = []
    tokens: set[str] = set()
    token: dict[str, str] = {}
    while True:
        page = logs("FilterLogEvents", logGroupName=GROUP, **request, **token)
        found += [event["message"] for event in page["events"]]
        if "nextToken" not in page:
            return found
        assert page["nextToken"] not in tokens
        tokens.add(page["nextToken"])
        token = {"nextToken": page["nextToken"]}


@pytest.fixture
def three(streams: LogStreams) -> LogStreams:
    write(streams, "AllTraffic/i-1", (1, "a1"), (4, "a4"), (4, "a4b"), (9, "a9"))
    write(streams, "AllTraffic/i-2", (2, "b2"), (4, "b4"))
    write(streams, "Other/i-3", (3, "c3"))
    return streams


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_events_of_all_streams_come_in_order_of_time_each_once(logs: Logs, three: LogStreams, limit: int) -> None:
    assert search(logs, limit=limit) == ["a1", "b2", "c3", "a4", "a4b", "b4", "a9"]
    assert search(logs, limit=limit, logStreamNamePrefix="AllTraffic/") == ["a1", "b2", "a4", "a4b", "b4", "a9"]
    assert search(logs, limit=limit, logStreamNames=["Other/i-3", "AllTraffic/i-2"]) == ["b2", "c3", "b4"]
    assert search(logs, limit=limit, startTime=3, endTime=9) == ["c3", "a4", "a4b", "b4"]
    assert search(logs, limit=limit, filterPattern="4") == ["a4", "a4b", "b4"]


def test_a_page_with_events_can_be_gone_on_from_later(logs: Logs, three: LogStreams) -> None:
    """SDK v2 prints only pages that carry a token, and starts the next poll from the last one."""
    page = logs("FilterLogEvents", logGroupName=GROUP)
    assert len(page["events"]) == 7
    assert "nextToken" not in logs("FilterLogEvents", logGroupName=GROUP, nextToken=page["nextToken"])
    write(three, "Other/i-3", (9, "c9"))
    later = logs("FilterLogEvents", logGroupName=GROUP, nextToken=page["nextToken"])
    assert [event["message"] for event in later["events"]] == ["c9"]


def test_nothing_found_has_no_token(logs: Logs, three: LogStreams) -> None:
    assert logs("FilterLogEvents", logGroupName=GROUP, filterPattern="zzz") == {"events": [], "searchedLogStreams": []}
    assert logs("FilterLogEvents", logGroupName=GROUP, logStreamNamePrefix="zzz")["events"] == []


def test_a_search_without_matches_is_done_in_bounded_pieces(logs: Logs, streams: LogStreams) -> None:
    write(streams, "s", *((number, "noise") for number in range(60_000)), (60_000, "needle"))
    first = logs("FilterLogEvents", logGroupName=GROUP, filterPattern="needle")
    assert (first["events"], "nextToken" in first) == ([], True)
    assert search(logs, filterPattern="needle") == ["needle"]


def test_events_have_an_id_that_stays(logs: Logs, three: LogStreams) -> None:
    events = logs("FilterLogEvents", logGroupName=GROUP)["events"]
    assert len({event["eventId"] for event in events}) == 7
    assert all(len(event["eventId"]) == 56 for event in events)
    assert logs("FilterLogEvents", logGroupName=GROUP, startTime=4)["events"] == events[3:]


def test_a_question_that_contradicts_itself_is_refused(logs: Logs, three: LogStreams) -> None:
    def code(**request: Any) -> str:
        with pytest.raises(ApiFault) as raised:
            logs("FilterLogEvents", logGroupName=GROUP, **request)
        return raised.value.code

    assert code(logStreamNamePrefix="A", logStreamNames=["B"]) == "InvalidParameterException"
    assert code(logStreamNames=["missing"]) == "ResourceNotFoundException"
    assert code(filterPattern="{ $.x = 1 }") == "InvalidParameterException"
    token = logs("FilterLogEvents", logGroupName=GROUP, limit=1)["nextToken"]
    assert code(filterPattern="other", nextToken=token) == "InvalidParameterException"


# -- writing


def put(logs: Logs, *events: tuple[int, str]) -> Mapping[str, Any]:
    shaped = [{"timestamp": time, "message": message} for time, message in events]
    return logs("PutLogEvents", logGroupName=GROUP, logStreamName="agent/1", logEvents=shaped)


@pytest.fixture
def agent(logs: Logs) -> None:
    logs("CreateLogGroup", logGroupName=GROUP)
    logs("CreateLogStream", logGroupName=GROUP, logStreamName="agent/1")


@pytest.mark.usefixtures("agent")
def test_what_an_agent_puts_is_read_back_line_feeds_and_all(logs: Logs) -> None:
    answer = put(logs, (NOW_MS, "one\ntwo \\n"), (NOW_MS + 1, "ü"))
    assert "rejectedLogEventsInfo" not in answer
    assert answer["nextSequenceToken"]
    put(logs, (NOW_MS + 2, "three"))
    page = logs("GetLogEvents", logGroupName=GROUP, logStreamName="agent/1", startFromHead=True)
    assert [event["message"] for event in page["events"]] == ["one\ntwo \\n", "ü", "three"]


@pytest.mark.usefixtures("agent")
def test_events_too_old_or_too_new_are_rejected_by_index_and_the_others_kept(logs: Logs) -> None:
    answer = put(logs, (NOW_MS - 14 * DAY_MS - 1, "old"), (NOW_MS - 14 * DAY_MS, "edge"))
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    answer = put(logs, (NOW_MS, "now"), (NOW_MS + 7_200_000, "edge"), (NOW_MS + 7_200_001, "new"))
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 2}
    assert search(logs) == ["edge", "now", "edge"]


@pytest.mark.usefixtures("agent")
@pytest.mark.parametrize(
    "events",
    [
        [(NOW_MS, "b"), (NOW_MS - 1, "a")],
        [(NOW_MS - DAY_MS - 1, "a"), (NOW_MS, "b")],
        [(NOW_MS, "x" * 600_000), (NOW_MS, "y" * 600_000)],
    ],
    ids=["order", "span", "size"],
)
def test_a_batch_against_the_rules_is_refused_whole(logs: Logs, events: list[tuple[int, str]]) -> None:
    with pytest.raises(ApiFault) as raised:
        put(logs, *events)
    assert raised.value.code == "InvalidParameterException"
    assert search(logs) == []


@pytest.mark.usefixtures("agent")
def test_making_twice_is_refused_and_deleting_lets_it_be_made_again(logs: Logs) -> None:
    for operation, more in (("CreateLogGroup", {}), ("CreateLogStream", {"logStreamName": "agent/1"})):
        with pytest.raises(ApiFault) as raised:
            logs(operation, logGroupName=GROUP, **more)
        assert raised.value.code == "ResourceAlreadyExistsException"
    logs("DeleteLogStream", logGroupName=GROUP, logStreamName="agent/1")
    logs("CreateLogStream", logGroupName=GROUP, logStreamName="agent/1")
    logs("DeleteLogGroup", logGroupName=GROUP)
    assert logs("DescribeLogGroups")["logGroups"] == []
    logs("CreateLogGroup", logGroupName=GROUP)
    assert logs("DescribeLogStreams", logGroupName=GROUP)["logStreams"] == []


def test_a_groups_tags_are_kept_with_it(logs: Logs) -> None:
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    logs("CreateLogGroup", logGroupName=GROUP, tags={"a": "1"})
    logs("TagResource", resourceArn=arn, tags={"b": "2"})
    assert logs("ListTagsForResource", resourceArn=f"{arn}:*") == {"tags": {"a": "1", "b": "2"}}
    logs("UntagResource", resourceArn=arn, tagKeys=["a"])
    assert logs("ListTagsForResource", resourceArn=arn) == {"tags": {"b": "2"}}
    logs("DeleteLogGroup", logGroupName=GROUP)
    logs("CreateLogGroup", logGroupName=GROUP)
    assert logs("ListTagsForResource", resourceArn=arn) == {"tags": {}}


def test_a_retention_aws_does_not_know_is_refused(logs: Logs) -> None:
    logs("CreateLogGroup", logGroupName=GROUP)
    with pytest.raises(ApiFault, match="must be one of 1, 3, 5"):
        logs("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=2)
