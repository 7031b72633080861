"""CloudWatch's four operations, with botocore's own client side of both protocols as the oracle."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, timedelta
from typing import Any

import pytest

from sagewright.core.ids import DEFAULT_REGION, RequestId
from sagewright.core.samples import Samples
from sagewright.services import cloudwatch
from sagewright.services.service import Service
from sagewright.store import metric_rows as rows
from sagewright.store.db import Database
from sagewright.store.metric_rows import Metric
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers
from sagewright.wire.models import codec_for
from sagewright.wire.validate import validate
from support.botocore_oracle import Oracle
from unit.services.conftest import NOW, Call, context

MINUTE = rows.minute_of(NOW)
VARIANT = (("EndpointName", "e"), ("VariantName", "v"))
WIRE = [{"Name": name, "Value": value} for name, value in VARIANT]
LATENCY = Metric("AWS/SageMaker", "ModelLatency", VARIANT, "Microseconds", DEFAULT_REGION)
START = NOW.replace(second=0) - timedelta(minutes=9)
END = NOW + timedelta(minutes=1)


@pytest.fixture(params=["query", "json"])
def client(request: pytest.FixtureRequest, store: Database) -> Client:
    return Client(request.param, store)


class Client:
    """A botocore client of one protocol, without the sockets between it and the operations."""

    def __init__(self, protocol: str, store: Database) -> None:
        self._oracle = Oracle("cloudwatch", protocol)
        self._codec = codec_for("cloudwatch", protocol)
        self._store = store
        self._service = cloudwatch.service(b"secret")

    def call(self, name: str, *, compress: bool = False, **params: Any) -> dict[str, Any]:
        request = self._oracle.request(name, params)
        if compress:
            headers = Headers([*request.headers.items(), ("Content-Encoding", "gzip")])
            request = replace(request, body=gzip.compress(request.body or b""), headers=headers)
        call = self._codec.decode(request)
        validate("cloudwatch", name, call.params)
        operation = self._service.operations[name]
        inside = self._store.write if operation.writes else self._store.read
        result = inside(lambda tx: operation.function(context(), tx, call.params))
        return self._oracle.result(name, self._codec.encode(name, result, RequestId("r")))

    def error(self, name: str, **params: Any) -> str:
        with pytest.raises(ApiFault) as raised:
            self.call(name, **params)
        response = self._codec.encode_fault(name, raised.value, RequestId("r"))
        return str(self._oracle.error(name, response)["Error"]["Code"])


@pytest.fixture
def service() -> Service:
    return cloudwatch.service(b"secret")


def fault(call: Call, service: Service, name: str, **request: Any) -> ApiFault:
    with pytest.raises(ApiFault) as raised:
        call(service, name, **request)
    return raised.value


def measure(store: Database, *values: float, minutes_ago: int = 0, metric: Metric = LATENCY) -> None:
    store.write(lambda tx: rows.add(tx, {(metric, MINUTE - minutes_ago): Samples.of(*values)}))


def asked(**changes: Any) -> dict[str, Any]:
    return {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ModelLatency",
        "Dimensions": WIRE,
        "StartTime": START,
        "EndTime": END,
        "Period": 60,
    } | changes


def query(name: str = "q", stat: str = "Sum", period: int = 60, **metric: Any) -> dict[str, Any]:
    what = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency", "Dimensions": WIRE} | metric
    return {"Id": name, "MetricStat": {"Metric": what, "Period": period, "Stat": stat}}


# both protocols


def test_statistics_reach_the_client(client: Client, store: Database) -> None:
    measure(store, 100, 200, minutes_ago=1)
    measure(store, 400)
    found = client.call(
        "GetMetricStatistics",
        **asked(Statistics=["Sum", "Average", "Minimum", "Maximum", "SampleCount"], ExtendedStatistics=["p50"]),
    )
    assert found["Label"] == "ModelLatency"
    first, second = found["Datapoints"]
    assert first["Timestamp"].replace(tzinfo=UTC) == NOW.replace(second=0) - timedelta(minutes=1)
    assert {name: first[name] for name in ("Sum", "Average", "Minimum", "Maximum", "SampleCount", "Unit")} == {
        "Sum": 300.0,
        "Average": 150.0,
        "Minimum": 100.0,
        "Maximum": 200.0,
        "SampleCount": 2.0,
        "Unit": "Microseconds",
    }
    assert 96 <= first["ExtendedStatistics"]["p50"] <= 104
    assert second["Sum"] == 400.0


def test_metric_data_reaches_the_client(client: Client, store: Database) -> None:
    measure(store, 100, minutes_ago=1)
    measure(store, 400)
    found = client.call("GetMetricData", MetricDataQueries=[query()], StartTime=START, EndTime=END)
    [result] = found["MetricDataResults"]
    assert (result["Id"], result["Label"], result["StatusCode"]) == ("q", "ModelLatency", "Complete")
    assert result["Values"] == [400.0, 100.0]
    assert len(result["Timestamps"]) == 2
    assert "NextToken" not in found


def test_what_is_put_is_listed_and_read(client: Client) -> None:
    data = [
        {"MetricName": "loss", "Value": 0.5, "Timestamp": NOW},
        {"MetricName": "loss", "Values": [1.0, 2.0], "Counts": [1.0, 3.0], "Timestamp": NOW},
        {
            "MetricName": "loss",
            "StatisticValues": {"SampleCount": 2.0, "Sum": 9.0, "Minimum": 4.0, "Maximum": 5.0},
            "Timestamp": NOW,
        },
    ]
    client.call("PutMetricData", compress=True, Namespace="mine", MetricData=data)
    assert client.call("ListMetrics", Namespace="mine")["Metrics"] == [
        {"Namespace": "mine", "MetricName": "loss", "Dimensions": []}
    ]
    read = asked(Namespace="mine", MetricName="loss", Statistics=["Sum", "SampleCount", "Maximum"])
    del read["Dimensions"]
    [point] = client.call("GetMetricStatistics", **read)["Datapoints"]
    assert (point["Sum"], point["SampleCount"], point["Maximum"], point["Unit"]) == (16.5, 7.0, 5.0, "None")


def test_errors_have_the_codes_that_clients_match_on(client: Client) -> None:
    assert client.error("GetMetricStatistics", **asked()) == "InvalidParameterCombination"
    assert client.error("GetMetricStatistics", **asked(Statistics=["Sum"], EndTime=START)) == "InvalidParameterValue"
    assert client.error("ListMetrics", NextToken="made up") == "InvalidNextToken"
    assert client.error("PutMetricData", Namespace="mine") == "MissingParameter"


# statistics and periods


def test_a_period_sums_its_minutes_and_begins_with_the_question(call: Call, service: Service, store: Database) -> None:
    for ago in range(10):
        measure(store, 10**ago, minutes_ago=ago)
    found = call(service, "GetMetricStatistics", **asked(Period=300, Statistics=["Sum"]))["Datapoints"]
    assert [point["Sum"] for point in found] == [1111100000, 11111]
    assert found[0]["Timestamp"] == START


def test_the_end_is_not_part_of_it_and_the_start_is(call: Call, service: Service, store: Database) -> None:
    measure(store, 1, minutes_ago=2)
    measure(store, 2, minutes_ago=1)
    measure(store, 4)
    times = {"StartTime": START + timedelta(minutes=7, seconds=30), "EndTime": START + timedelta(minutes=9)}
    found = call(service, "GetMetricStatistics", **asked(Statistics=["Sum"], **times))["Datapoints"]
    assert [point["Sum"] for point in found] == [1, 2]


def test_sdk_analytics_of_a_training_job(call: Call, service: Service, store: Database) -> None:
    """What `TrainingJobAnalytics` asks; the metric has no region, the question has one."""
    loss = Metric("/aws/sagemaker/TrainingJobs", "loss", (("TrainingJobName", "job"),))
    measure(store, 0.5, 0.25, metric=loss)
    found = call(
        service,
        "GetMetricStatistics",
        Namespace="/aws/sagemaker/TrainingJobs",
        MetricName="loss",
        Dimensions=[{"Name": "TrainingJobName", "Value": "job"}],
        StartTime=NOW - timedelta(minutes=3),
        EndTime=NOW + timedelta(minutes=1),
        Period=60,
        Statistics=["Average"],
    )
    assert [point["Average"] for point in found["Datapoints"]] == [0.375]


@pytest.mark.parametrize(
    ("changes", "code", "word"),
    [
        ({"Period": 90}, "InvalidParameterValue", "multiple"),
        ({"Period": 1}, "InvalidParameterValue", "minute"),
        ({"StartTime": NOW - timedelta(days=2)}, "InvalidParameterCombination", "1,440"),
        ({"Statistics": [], "ExtendedStatistics": ["tm99"]}, "InvalidParameterValue", "tm99"),
        ({"Statistics": [], "ExtendedStatistics": ["p101"]}, "InvalidParameterValue", "p101"),
    ],
)
def test_what_cannot_be_answered_is_told(
    call: Call, service: Service, changes: Mapping[str, Any], code: str, word: str
) -> None:
    found = fault(call, service, "GetMetricStatistics", **asked(**{"Statistics": ["Sum"]} | dict(changes)))
    assert found.code == code
    assert word in found.message


def test_a_day_of_minutes_is_allowed(call: Call, service: Service) -> None:
    found = call(
        service, "GetMetricStatistics", **asked(StartTime=END - timedelta(days=1), EndTime=END, Statistics=["Sum"])
    )
    assert found["Datapoints"] == []


def test_units_are_told_apart_where_asked(call: Call, service: Service, store: Database) -> None:
    measure(store, 5)
    measure(store, 7, metric=replace(LATENCY, unit="Seconds"))
    both = call(service, "GetMetricStatistics", **asked(Statistics=["Sum"]))["Datapoints"]
    one = call(service, "GetMetricStatistics", **asked(Statistics=["Sum"], Unit="Seconds"))["Datapoints"]
    assert sorted((point["Unit"], point["Sum"]) for point in both) == [("Microseconds", 5), ("Seconds", 7)]
    assert [point["Sum"] for point in one] == [7]


# GetMetricData


def test_pages_of_metric_data_have_each_value_once(call: Call, service: Service, store: Database) -> None:
    for ago in range(5):
        measure(store, ago, minutes_ago=ago)
    queries = [query("a"), query("none", MetricName="nothing"), query("b", stat="p50")]
    request = {"MetricDataQueries": queries, "StartTime": START, "EndTime": END, "MaxDatapoints": 3}
    seen: dict[str, list[float]] = {"a": [], "b": [], "none": []}
    statuses = []
    token: dict[str, str] = {}
    while True:
        page = call(service, "GetMetricData", **request, **token)
        assert sum(len(result["Values"]) for result in page["MetricDataResults"]) <= 3
        for result in page["MetricDataResults"]:
            seen[result["Id"]] += result["Values"]
            statuses.append((result["Id"], result["StatusCode"]))
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert seen == {"a": [0, 1, 2, 3, 4], "b": [0, 1, 2, 3, 4], "none": []}
    assert statuses[0] == ("a", "PartialData")
    assert statuses[-1] == ("b", "Complete")


def test_metric_data_in_the_order_asked_for(call: Call, service: Service, store: Database) -> None:
    for ago in range(3):
        measure(store, ago, minutes_ago=ago)
    request = {"MetricDataQueries": [query()], "StartTime": START, "EndTime": END}
    found = call(service, "GetMetricData", **request, ScanBy="TimestampAscending")["MetricDataResults"][0]
    assert found["Values"] == [2, 1, 0]
    assert found["Timestamps"] == sorted(found["Timestamps"])


def test_a_query_that_returns_no_data_is_left_out(call: Call, service: Service) -> None:
    queries = [query("a") | {"ReturnData": False}, query("b") | {"Label": "mine"}]
    found = call(service, "GetMetricData", MetricDataQueries=queries, StartTime=START, EndTime=END)
    assert [(each["Id"], each["Label"]) for each in found["MetricDataResults"]] == [("b", "mine")]


@pytest.mark.parametrize(
    ("queries", "word"),
    [
        ([{"Id": "sum", "Expression": "a + b"}], "Expression"),
        ([query("a"), query("a")], "unique"),
        ([query("A")], "lower-case"),
        ([{"Id": "a"}], "MetricStat"),
        ([query(f"q{number}") for number in range(501)], "500"),
    ],
)
def test_queries_that_are_none_are_refused_by_name(
    call: Call, service: Service, queries: list[dict[str, Any]], word: str
) -> None:
    found = fault(call, service, "GetMetricData", MetricDataQueries=queries, StartTime=START, EndTime=END)
    assert (found.code, word in found.message) == ("ValidationError", True)


# ListMetrics


def test_lists_filter_by_every_dimension_that_is_named(call: Call, service: Service, store: Database) -> None:
    measure(store, 1)
    measure(store, 1, metric=replace(LATENCY, dimensions=(("EndpointName", "other"),)))
    measure(store, 1, metric=replace(LATENCY, unit="Seconds"))

    def listed(*filters: dict[str, str]) -> list[list[str]]:
        found = call(service, "ListMetrics", Dimensions=list(filters))["Metrics"]
        return [[each["Value"] for each in metric["Dimensions"]] for metric in found]

    assert listed() == [["e", "v"], ["other"]]
    assert listed({"Name": "EndpointName", "Value": "e"}) == [["e", "v"]]
    assert listed({"Name": "VariantName"}) == [["e", "v"]]
    assert listed({"Name": "EndpointName", "Value": "e"}, {"Name": "VariantName", "Value": "w"}) == []


def test_lists_come_in_pages_and_without_what_is_long_gone(call: Call, service: Service, store: Database) -> None:
    names = [f"m{number}" for number in range(1001)]
    points = {(Metric("mine", name, (), "None", DEFAULT_REGION), MINUTE): Samples.of(1) for name in names}
    points[(Metric("mine", "old", (), "None", DEFAULT_REGION), MINUTE - 15 * 24 * 60)] = Samples.of(1)
    store.write(lambda tx: rows.add(tx, points))
    seen, token = [], {}
    for expected in (500, 500, 1):
        page = call(service, "ListMetrics", Namespace="mine", **token)
        assert len(page["Metrics"]) == expected
        seen += [each["MetricName"] for each in page["Metrics"]]
        token = {"NextToken": page["NextToken"]} if "NextToken" in page else {}
    assert (seen, token) == (names, {})
    page = call(service, "ListMetrics", Namespace="mine")
    found = fault(call, service, "ListMetrics", Namespace="other", NextToken=page["NextToken"])
    assert found.code == "InvalidNextToken"


def test_recently_active_means_three_hours(call: Call, service: Service, store: Database) -> None:
    measure(store, 1, minutes_ago=200)
    assert call(service, "ListMetrics", RecentlyActive="PT3H")["Metrics"] == []
    assert len(call(service, "ListMetrics")["Metrics"]) == 1


# PutMetricData


@pytest.mark.parametrize(
    ("datum", "word"),
    [
        ({}, "one of Value"),
        ({"Value": 1.0, "Values": [1.0]}, "one of Value"),
        ({"Values": [1.0, 2.0], "Counts": [1.0]}, "same length"),
        ({"Values": [1.0], "Counts": [0.0]}, "greater than 0"),
        ({"Values": [1.0] * 151}, "150"),
        ({"Value": float("nan")}, "nan"),
        ({"Value": float("inf")}, "inf"),
        ({"Value": 1e300}, "1e+300"),
        ({"StatisticValues": {"SampleCount": 0.0, "Sum": 0.0, "Minimum": 0.0, "Maximum": 0.0}}, "SampleCount"),
        ({"StatisticValues": {"SampleCount": 2.0, "Sum": 3.0, "Minimum": 2.0, "Maximum": 1.0}}, "Minimum"),
        ({"Value": 1.0, "Timestamp": NOW - timedelta(days=15)}, "two weeks"),
        ({"Value": 1.0, "Timestamp": NOW + timedelta(hours=3)}, "two hours"),
    ],
)
def test_bad_data_is_refused_whole(
    call: Call, service: Service, store: Database, datum: Mapping[str, Any], word: str
) -> None:
    data = [{"MetricName": "m", "Value": 1.0}, {"MetricName": "m", **datum}]
    found = fault(call, service, "PutMetricData", Namespace="mine", MetricData=data)
    assert "MetricData.member.2" in found.message
    assert word in found.message
    assert call(service, "ListMetrics")["Metrics"] == []


def test_names_of_aws_are_reserved(call: Call, service: Service) -> None:
    found = fault(
        call, service, "PutMetricData", Namespace="AWS/SageMaker", MetricData=[{"MetricName": "m", "Value": 1.0}]
    )
    assert "AWS/SageMaker" in found.message


def test_percentiles_of_a_summary_are_not_made_up(call: Call, service: Service) -> None:
    statistics = {"SampleCount": 9.0, "Sum": 45.0, "Minimum": 1.0, "Maximum": 9.0}
    call(service, "PutMetricData", Namespace="mine", MetricData=[{"MetricName": "m", "StatisticValues": statistics}])
    request = asked(Namespace="mine", MetricName="m", Dimensions=[], Statistics=["Average"], ExtendedStatistics=["p90"])
    [point] = call(service, "GetMetricStatistics", **request)["Datapoints"]
    assert point["Average"] == 5
    assert "ExtendedStatistics" not in point
