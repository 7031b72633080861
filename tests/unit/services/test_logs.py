"""CloudWatch Logs operations as official clients use them (compat-surface 1.4, 1.14)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import botocore.session
import pytest

from sagewright.blobs.streams import LogStreams, StreamRecord
from sagewright.services.logs import service as logs_service
from sagewright.services.service import Service
from sagewright.wire.faults import ApiFault
from unit.services.conftest import NOW

GROUP, JOB = "/aws/sagemaker/TrainingJobs", "my-job"
STREAM = f"{JOB}/algo-1-170"
NOW_MS = int(NOW.timestamp() * 1000)


class Logs(Protocol):
    def __call__(self, operation: str, /, **request: Any) -> Mapping[str, Any]: ...


@pytest.fixture
def streams(tmp_path: Path) -> LogStreams:
    return LogStreams(tmp_path / "streams")


@pytest.fixture
def logs(streams: LogStreams, call: Any) -> Logs:
    service: Service = logs_service(streams, b"secret")

    def run(operation: str, /, **request: Any) -> Mapping[str, Any]:
        found: Mapping[str, Any] = call(service, operation, **request)
        return found

    return run


def write(streams: LogStreams, stream: str, times: range | list[int], text: str = "line") -> None:
    streams.append(GROUP, stream, [StreamRecord(f"c{time}", time, f"{text} {time}".encode()) for time in times])


def times(page: Mapping[str, Any]) -> list[int]:
    return [event["timestamp"] for event in page["events"]]


def fault(logs: Logs, operation: str, /, **request: Any) -> str:
    with pytest.raises(ApiFault) as raised:
        logs(operation, **request)
    assert raised.value.status == 400
    return raised.value.code


def sdk_v2_flush(logs: Logs, position: dict[str, tuple[int, int]]) -> Iterator[str]:
    """What SDK v2 does each time it flushes a job's logs, with its endless loop when a nextToken is too much."""
    page = logs(
        "DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix=f"{JOB}/", orderBy="LogStreamName", limit=1
    )
    names = [each["logStreamName"] for each in page["logStreams"]]
    for _ in range(10):
        if "nextToken" not in page:
            break
        page = logs("DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix=f"{JOB}/", limit=50)
        names = [each["logStreamName"] for each in page["logStreams"]]
    assert "nextToken" not in page
    for name in names:
        start, skip = position.get(name, (0, 0))
        token: dict[str, str] = {}
        while True:
            page = logs(
                "GetLogEvents", logGroupName=GROUP, logStreamName=name, startTime=start, startFromHead=True, **token
            )
            token = {"nextToken": page["nextForwardToken"]}
            if not page["events"]:
                break
            fresh = page["events"][skip:]
            skip = max(0, skip - len(page["events"]))
            for event in fresh:
                yield event["message"]
                last, count = position.get(name, (0, 0))
                position[name] = (last, count + 1) if event["timestamp"] == last else (event["timestamp"], 1)


def test_sdk_v2_sees_each_line_once_while_the_job_writes(logs: Logs, streams: LogStreams) -> None:
    position: dict[str, tuple[int, int]] = {}
    streams.append(GROUP, STREAM, [])
    seen = list(sdk_v2_flush(logs, position))
    write(streams, STREAM, [5, 5, 5, 6])
    seen += sdk_v2_flush(logs, position)
    write(streams, STREAM, [6, 6, 7])
    write(streams, f"{JOB}/algo-2-170", [1])
    seen += sdk_v2_flush(logs, position)
    seen += sdk_v2_flush(logs, position)
    assert sorted(seen) == ["line 1", "line 5", "line 5", "line 5", "line 6", "line 6", "line 6", "line 7"]


def test_sdk_v3_keeps_its_token_across_polls(logs: Logs, streams: LogStreams) -> None:
    write(streams, STREAM, range(3))
    request = {"logGroupName": GROUP, "logStreamName": STREAM, "startFromHead": True}
    page = logs("GetLogEvents", **request)
    assert times(page) == [0, 1, 2]
    empty = logs("GetLogEvents", **request, nextToken=page["nextForwardToken"])
    assert (times(empty), empty["nextForwardToken"]) == ([], page["nextForwardToken"])
    write(streams, STREAM, [3])
    assert times(logs("GetLogEvents", **request, nextToken=empty["nextForwardToken"])) == [3]


# -- GetLogEvents


def test_an_empty_stream_has_an_empty_page_with_both_tokens(logs: Logs, streams: LogStreams) -> None:
    streams.append(GROUP, STREAM, [])
    page = logs("GetLogEvents", logGroupName=GROUP, logStreamName=STREAM)
    assert page["events"] == []
    for way in ("nextForwardToken", "nextBackwardToken"):
        again = logs("GetLogEvents", logGroupName=GROUP, logStreamName=STREAM, nextToken=page[way])
        assert again[way] == page[way]


def test_without_start_from_head_the_latest_come_first_and_both_ways_lead_on(logs: Logs, streams: LogStreams) -> None:
    write(streams, STREAM, range(10))
    request = {"logGroupName": GROUP, "logStreamName": STREAM, "limit": 4}
    page = logs("GetLogEvents", **request)
    assert times(page) == [6, 7, 8, 9]
    older = logs("GetLogEvents", **request, nextToken=page["nextBackwardToken"])
    assert times(older) == [2, 3, 4, 5]
    assert times(logs("GetLogEvents", **request, nextToken=older["nextBackwardToken"])) == [0, 1]
    assert times(logs("GetLogEvents", **request, nextToken=older["nextForwardToken"])) == [6, 7, 8, 9]


def test_start_is_inclusive_and_end_exclusive(logs: Logs, streams: LogStreams) -> None:
    write(streams, STREAM, range(10))
    for from_head in (True, False):
        page = logs(
            "GetLogEvents", logGroupName=GROUP, logStreamName=STREAM, startTime=3, endTime=6, startFromHead=from_head
        )
        assert times(page) == [3, 4, 5]


def test_a_page_ends_at_ten_thousand_events_or_a_mebibyte(logs: Logs, streams: LogStreams) -> None:
    write(streams, STREAM, range(10_001))
    request = {"logGroupName": GROUP, "logStreamName": STREAM, "startFromHead": True}
    assert len(logs("GetLogEvents", **request)["events"]) == 10_000
    write(streams, STREAM, range(20_000, 20_020), "x" * 99_966)
    page = logs("GetLogEvents", **request, startTime=20_000)
    assert len(page["events"]) == 10


def test_messages_are_text_whatever_the_bytes(logs: Logs, streams: LogStreams) -> None:
    streams.append(
        GROUP, STREAM, [StreamRecord("c", 1, each) for each in (b"", b"\xff\xfe", "ü\t\r".encode(), b"\x00")]
    )
    page = logs("GetLogEvents", logGroupName=GROUP, logStreamName=STREAM, startFromHead=True)
    assert [event["message"] for event in page["events"]] == ["", "\ufffd\ufffd", "ü\t\r", "\x00"]
    assert all(event["ingestionTime"] == 1 for event in page["events"])


@pytest.mark.parametrize("token", ["", "f/", "b/xx", "f/AAAA", "x/y", "f", "plain"])
def test_a_token_that_was_not_given_is_refused(logs: Logs, streams: LogStreams, token: str) -> None:
    write(streams, STREAM, range(3))
    if token:
        code = fault(logs, "GetLogEvents", logGroupName=GROUP, logStreamName=STREAM, nextToken=token)
        assert code == "InvalidParameterException"
    other = logs("GetLogEvents", logGroupName=GROUP, logStreamName=STREAM)["nextForwardToken"]
    write(streams, "other", range(3))
    code = fault(logs, "GetLogEvents", logGroupName=GROUP, logStreamName="other", nextToken=other)
    assert code == "InvalidParameterException"


# -- DescribeLogStreams, DescribeLogGroups


def test_streams_are_listed_with_a_token_only_while_more_remain(logs: Logs, streams: LogStreams) -> None:
    for number in range(7):
        write(streams, f"{JOB}/algo-{number}", [number])
    names, token = [], {}
    for _ in range(3):
        page = logs("DescribeLogStreams", logGroupName=GROUP, logStreamNamePrefix=f"{JOB}/", limit=3, **token)
        names += [each["logStreamName"] for each in page["logStreams"]]
        token = {"nextToken": page["nextToken"]} if "nextToken" in page else {}
    assert names == [f"{JOB}/algo-{number}" for number in range(7)]
    assert token == {}
    assert "nextToken" not in logs("DescribeLogStreams", logGroupName=GROUP, limit=7)


def test_a_stream_is_shown_as_aws_does(logs: Logs, streams: LogStreams) -> None:
    write(streams, STREAM, [5, 9])
    streams.append(GROUP, "empty", [])
    empty, stream = logs("DescribeLogStreams", logGroupName=GROUP)["logStreams"]
    assert stream["arn"] == f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}:log-stream:{STREAM}"
    assert (stream["firstEventTimestamp"], stream["lastEventTimestamp"], stream["creationTime"]) == (5, 9, 5)
    assert stream["storedBytes"] > 0
    assert stream["lastIngestionTime"] > 1_600_000_000_000
    assert set(empty) == {"logStreamName", "creationTime", "arn", "storedBytes"}


def test_streams_are_ordered_by_name_or_by_their_last_event(logs: Logs, streams: LogStreams) -> None:
    for name, time in (("a", 3), ("b", 1), ("c", 2)):
        write(streams, name, [time])

    def listed(**request: Any) -> str:
        page = logs("DescribeLogStreams", logGroupName=GROUP, **request)
        return "".join(each["logStreamName"] for each in page["logStreams"])

    assert listed() == "abc"
    assert listed(descending=True) == "cba"
    assert listed(orderBy="LastEventTime") == "bca"
    assert listed(orderBy="LastEventTime", descending=True) == "acb"
    by_both = {"orderBy": "LastEventTime", "logStreamNamePrefix": "a"}
    assert fault(logs, "DescribeLogStreams", logGroupName=GROUP, **by_both) == "InvalidParameterException"


def test_groups_are_listed_by_prefix_and_pattern(logs: Logs) -> None:
    for name in ("/aws/a", "/aws/b", "mine"):
        logs("CreateLogGroup", logGroupName=name)
    logs("PutRetentionPolicy", logGroupName="mine", retentionInDays=7)

    def listed(**request: Any) -> list[str]:
        return [each["logGroupName"] for each in logs("DescribeLogGroups", **request)["logGroups"]]

    assert listed() == ["/aws/a", "/aws/b", "mine"]
    assert listed(logGroupNamePrefix="/aws") == ["/aws/a", "/aws/b"]
    assert listed(logGroupNamePattern="AWS/B") == ["/aws/b"]
    first = logs("DescribeLogGroups", limit=2)
    assert listed(limit=2, nextToken=first["nextToken"]) == ["mine"]
    [mine] = logs("DescribeLogGroups", logGroupNamePrefix="mine")["logGroups"]
    assert (mine["retentionInDays"], mine["storedBytes"]) == (7, 0)
    assert mine["arn"] == "arn:aws:logs:us-east-1:000000000000:log-group:mine:*"
    logs("DeleteRetentionPolicy", logGroupName="mine")
    assert "retentionInDays" not in logs("DescribeLogGroups", logGroupNamePrefix="mine")["logGroups"][0]


READS = ("DescribeLogStreams", "GetLogEvents", "FilterLogEvents")


@pytest.mark.parametrize("operation", [*READS, "PutLogEvents", "CreateLogStream", "DeleteLogStream", "DeleteLogGroup"])
def test_a_group_that_does_not_exist_is_said(logs: Logs, operation: str) -> None:
    request = {"logGroupName": "nowhere", "logStreamName": "s", "logEvents": [{"timestamp": NOW_MS, "message": "m"}]}
    assert fault(logs, operation, **request) == "ResourceNotFoundException"


@pytest.mark.parametrize("operation", ["GetLogEvents", "PutLogEvents", "DeleteLogStream"])
def test_a_stream_that_does_not_exist_is_said(logs: Logs, operation: str) -> None:
    logs("CreateLogGroup", logGroupName=GROUP)
    request = {"logGroupName": GROUP, "logStreamName": "s", "logEvents": [{"timestamp": NOW_MS, "message": "m"}]}
    assert fault(logs, operation, **request) == "ResourceNotFoundException"


@pytest.mark.parametrize("operation", READS)
def test_a_group_can_be_named_by_its_arn_and_must_be_named_once(
    logs: Logs, streams: LogStreams, operation: str
) -> None:
    write(streams, STREAM, [1])
    stream = {"logStreamName": STREAM} if operation == "GetLogEvents" else {}
    arn = f"arn:aws:logs:us-east-1:000000000000:log-group:{GROUP}"
    answers = [logs(operation, **stream, logGroupIdentifier=each) for each in (arn, f"{arn}:*", GROUP)]
    assert answers == [logs(operation, **stream, logGroupName=GROUP)] * 3
    assert fault(logs, operation, **stream) == "InvalidParameterException"
    both = {"logGroupName": GROUP, "logGroupIdentifier": GROUP}
    assert fault(logs, operation, **stream, **both) == "InvalidParameterException"


def test_everything_answered_is_in_the_service_model(logs: Logs, streams: LogStreams) -> None:
    model = botocore.session.get_session().get_service_model("logs")
    write(streams, STREAM, [1])
    logs("PutRetentionPolicy", logGroupName=GROUP, retentionInDays=7)

    def check(shape: Any, value: Any) -> None:
        if shape.type_name == "structure":
            assert set(value) <= set(shape.members)
            for name, member in value.items():
                check(shape.members[name], member)
        elif shape.type_name == "list":
            for each in value:
                check(shape.member, each)
        else:
            assert isinstance(value, int if shape.type_name in ("long", "integer") else str)

    for operation in ("DescribeLogGroups", *READS):
        request = {} if operation == "DescribeLogGroups" else {"logGroupName": GROUP}
        stream = {"logStreamName": STREAM} if operation == "GetLogEvents" else {}
        check(model.operation_model(operation).output_shape, logs(operation, **request, **stream))
