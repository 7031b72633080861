"""CloudWatch: metrics of endpoints and training jobs, and those that users put.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/Welcome.html; names and units: contract B.14.
Owns: the four operations, AWS's limits. Does not own: sums (`store.metric_rows`, `core.samples`), who measures
(gateways, controllers), what a statistic is (`services.metric_statistics`).

Everything is kept by the minute: a period is a multiple of 60 seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.core.samples import Samples
from sagewright.services.metric_statistics import Question, Statistic, by_period, combination, invalid, statistic
from sagewright.services.service import Request, Response, Service, reads, writes
from sagewright.store import metric_rows as rows
from sagewright.store.metric_rows import Dimensions, Known, Metric
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault
from sagewright.wire.pages import seal, unseal

_DATAPOINTS: Final = 1440  # of GetMetricStatistics
_QUERIES: Final = 500
_MAX_DATAPOINTS: Final = 100_800  # of GetMetricData
_METRICS: Final = 500  # per page of ListMetrics
_LISTED: Final = timedelta(days=14)
_TOO_OLD, _TOO_NEW = timedelta(days=14), timedelta(hours=2)
_PUT: Final = 1000  # metrics in one PutMetricData
_VALUES: Final = 150
_GREATEST: Final = 2.0**360
_QUERY_ID: Final = re.compile(r"[a-z][a-zA-Z0-9_]*")


def service(secret: bytes) -> Service:
    """`secret` seals page tokens."""
    return Service(
        "cloudwatch",
        {
            "GetMetricStatistics": reads(_get_statistics),
            "GetMetricData": reads(partial(_get_data, secret)),
            "ListMetrics": reads(partial(_list, secret)),
            "PutMetricData": writes(_put),
        },
    )


# -- GetMetricStatistics


def _get_statistics(ctx: Ctx, tx: Tx, request: Request) -> Response:
    wanted = [statistic(name) for name in (*request.get("Statistics", ()), *request.get("ExtendedStatistics", ()))]
    if not wanted:
        raise combination("At least one of the parameters Statistics and ExtendedStatistics must be specified.")
    question = Question.of(request["StartTime"], request["EndTime"], request["Period"])
    if question.count > _DATAPOINTS:
        raise combination(
            f"You have requested up to {question.count:,} datapoints, which exceeds the limit of {_DATAPOINTS:,}. "
            "You may reduce the datapoints requested by increasing Period, or decreasing the time range."
        )
    found = _found(ctx, tx, request, request.get("Unit"))
    points = [
        _datapoint(minute, samples, known.metric.unit, wanted)
        for known in found
        for minute, samples in by_period(rows.read(tx, known.id, question.start, question.end), question)
    ]
    return {"Label": request["MetricName"], "Datapoints": sorted(points, key=lambda point: point["Timestamp"])}


def _datapoint(minute: int, samples: Samples, unit: str, wanted: Sequence[Statistic]) -> dict[str, Any]:
    found = {each.name: each.of(samples) for each in wanted}
    plain = {each.name: found[each.name] for each in wanted if not each.extended}
    extended = {each.name: found[each.name] for each in wanted if each.extended and found[each.name] is not None}
    point = {"Timestamp": _moment(minute), "Unit": unit} | plain
    return point | ({"ExtendedStatistics": extended} if extended else {})


# -- GetMetricData


def _get_data(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    """Pages are cut across all queries: the token says how many datapoints were given so far."""
    queries = request["MetricDataQueries"]
    _check_queries(queries)
    scope = f"metric data {ctx.region} {request['StartTime']} {request['EndTime']} {[each['Id'] for each in queries]}"
    before = skip = _position(secret, request.get("NextToken"), scope)
    room = _room(request)
    newest_first = request.get("ScanBy", "TimestampDescending") == "TimestampDescending"
    results, given, cut = [], 0, False
    for query in queries:
        if not query.get("ReturnData", True):
            continue
        points = _series(ctx, tx, query, request["StartTime"], request["EndTime"])
        passed = min(skip, len(points))
        skip -= passed
        if passed and passed == len(points):
            continue  # given whole on an earlier page
        part = (points[::-1] if newest_first else points)[passed : passed + room - given]
        given += len(part)
        cut = passed + len(part) < len(points)
        results.append(_result(query, part, complete=not cut))
        if cut:
            break
    if not cut:
        return {"MetricDataResults": results, "Messages": []}
    token = seal(secret, (str(before + given),), scope)
    return {"MetricDataResults": results, "NextToken": token, "Messages": []}


def _check_queries(queries: Sequence[Request]) -> None:
    if len(queries) > _QUERIES:
        raise _bad(f"MetricDataQueries has {len(queries)} queries; at most {_QUERIES} are allowed in one call.")
    ids = [query["Id"] for query in queries]
    if twice := sorted({each for each in ids if ids.count(each) > 1}):
        raise _bad(f"The Ids of MetricDataQueries must be unique; {twice[0]} occurs more than once.")
    for query in queries:
        if not _QUERY_ID.fullmatch(query["Id"]):
            raise _bad(f"The Id {query['Id']} is not valid: a lower-case letter, then letters, digits and _.")
        if "Expression" in query:
            raise _bad(
                f"Query {query['Id']} has an Expression; Sagewright answers MetricStat queries only. "
                "Ask for the metrics, and compute from their values."
            )
        if "MetricStat" not in query:
            raise _bad(f"Query {query['Id']} has neither MetricStat nor Expression: give it a MetricStat.")


def _room(request: Request) -> int:
    room = request.get("MaxDatapoints", _MAX_DATAPOINTS)
    if not 1 <= room <= _MAX_DATAPOINTS:
        raise _bad(f"MaxDatapoints must be between 1 and {_MAX_DATAPOINTS}, not {room}.")
    return int(room)


def _series(ctx: Ctx, tx: Tx, query: Request, start: datetime, end: datetime) -> list[tuple[int, float]]:
    """(minute, value), oldest first. Units are not told apart unless the query does, as on AWS."""
    stat = query["MetricStat"]
    wanted = statistic(stat["Stat"])
    question = Question.of(start, end, stat["Period"])
    merged: dict[int, Samples] = {}
    for known in _found(ctx, tx, stat["Metric"], stat.get("Unit")):
        for minute, samples in by_period(rows.read(tx, known.id, question.start, question.end), question):
            merged.setdefault(minute, Samples()).merge(samples)
    values = ((minute, wanted.of(samples)) for minute, samples in sorted(merged.items()))
    return [(minute, value) for minute, value in values if value is not None]


def _result(query: Request, points: Sequence[tuple[int, float]], *, complete: bool) -> Response:
    return {
        "Id": query["Id"],
        "Label": query.get("Label") or query["MetricStat"]["Metric"].get("MetricName", ""),
        "Timestamps": [_moment(minute) for minute, _ in points],
        "Values": [value for _, value in points],
        "StatusCode": "Complete" if complete else "PartialData",
    }


# -- ListMetrics


def _list(secret: bytes, ctx: Ctx, tx: Tx, request: Request) -> Response:
    filters = request.get("Dimensions") or ()
    names = [(each["Name"], each.get("Value")) for each in filters]
    scope = f"metrics {ctx.region} {request.get('Namespace')} {request.get('MetricName')} {names}"
    since = timedelta(hours=3) if request.get("RecentlyActive") else _LISTED
    found = rows.browse(
        tx,
        ctx.region,
        namespace=request.get("Namespace"),
        name=request.get("MetricName"),
        since=rows.minute_of(ctx.now - since),
        after=_position(secret, request.get("NextToken"), scope),
    )
    page = list(islice((known for known in found if _has(known.metric.dimensions, names)), _METRICS + 1))
    shown = {"Metrics": _unique(page[:_METRICS])}
    if len(page) <= _METRICS:
        return shown
    return shown | {"NextToken": seal(secret, (str(page[_METRICS - 1].id),), scope)}


def _unique(found: Sequence[Known]) -> list[Response]:
    """A metric in two units is one metric."""
    seen = {(known.metric.namespace, known.metric.name, known.metric.dimensions): known.metric for known in found}
    return [
        {"Namespace": each.namespace, "MetricName": each.name, "Dimensions": _to_wire(each.dimensions)}
        for each in seen.values()
    ]


def _has(dimensions: Dimensions, wanted: Sequence[tuple[str, str | None]]) -> bool:
    own = dict(dimensions)
    return all(name in own and value in (None, own[name]) for name, value in wanted)


# -- PutMetricData


def _put(ctx: Ctx, tx: Tx, request: Request) -> Response:
    namespace = request["Namespace"]
    if namespace.startswith("AWS/"):
        raise invalid(f"The value {namespace} for parameter Namespace is invalid: names with AWS/ are reserved.")
    data = list(_data(request))
    if not data:
        raise ApiFault("MissingParameter", "The parameter MetricData is required.")
    if len(data) > _PUT:
        raise invalid(f"The collection MetricData must not have a size greater than {_PUT}.")
    new: dict[tuple[Metric, int], Samples] = {}
    for number, datum in enumerate(data, 1):
        metric = Metric(namespace, datum["MetricName"], _dimensions(datum), datum.get("Unit", "None"), ctx.region)
        minute = rows.minute_of(_timestamp(ctx, datum, number))
        new.setdefault((metric, minute), Samples()).merge(_samples(datum, f"MetricData.member.{number}"))
    rows.add(tx, new)
    return {}


def _data(request: Request) -> Iterator[Request]:
    yield from request.get("MetricData") or ()
    for entity in request.get("EntityMetricData") or ():
        yield from entity.get("MetricData") or ()


def _timestamp(ctx: Ctx, datum: Request, number: int) -> datetime:
    moment: datetime = datum.get("Timestamp", ctx.now)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not ctx.now - _TOO_OLD <= moment <= ctx.now + _TOO_NEW:
        raise invalid(
            f"The parameter MetricData.member.{number}.Timestamp must specify a time no earlier than two weeks and no "
            f"later than two hours from now; it is {moment:%Y-%m-%dT%H:%M:%SZ}."
        )
    return moment


def _samples(datum: Request, where: str) -> Samples:
    """From exactly one of Value, Values (with Counts) and StatisticValues."""
    given = [name for name in ("Value", "Values", "StatisticValues") if name in datum]
    if len(given) != 1:
        raise combination(f"{where}: give one of Value, Values and StatisticValues; there are {len(given)}.")
    if given == ["StatisticValues"]:
        return _summary(datum["StatisticValues"], where)
    values = datum.get("Values", [datum.get("Value")])
    counts = datum.get("Counts") or [1.0] * len(values)
    if len(counts) != len(values) or not 1 <= len(values) <= _VALUES:
        raise invalid(f"{where}: Values and Counts must have the same length, between 1 and {_VALUES}.")
    made = Samples()
    for value, count in zip(values, counts, strict=True):
        _check_number(value, where)
        if not (math.isfinite(count) and count > 0):
            raise invalid(f"{where}: every one of Counts must be greater than 0, not {count}.")
        made.add(value, count)
    return made


def _summary(statistics: Mapping[str, float], where: str) -> Samples:
    count, total = statistics["SampleCount"], statistics["Sum"]
    least, most = statistics["Minimum"], statistics["Maximum"]
    for value in (count, total, least, most):
        _check_number(value, where)
    if count <= 0 or least > most:
        raise invalid(f"{where}: StatisticValues needs a SampleCount above 0, and a Minimum not above its Maximum.")
    made = Samples()
    if count == 1 or least == most:
        made.add(least, count)
    else:
        made.summarize(count, total, least, most)
    return made


def _check_number(value: float, where: str) -> None:
    if not math.isfinite(value) or abs(value) > _GREATEST:
        raise invalid(f"{where}: {value} is not a number that can be kept: it must be between -2^360 and 2^360.")


# -- parts


def _found(ctx: Ctx, tx: Tx, metric: Request, unit: str | None) -> list[Known]:
    found = rows.find(tx, ctx.region, metric.get("Namespace", ""), metric.get("MetricName", ""), _dimensions(metric))
    return [known for known in found if unit in (None, known.metric.unit)]


def _dimensions(holder: Request) -> Dimensions:
    return rows.dimensions_of((each["Name"], each["Value"]) for each in holder.get("Dimensions") or ())


def _to_wire(dimensions: Dimensions) -> list[Response]:
    return [{"Name": name, "Value": value} for name, value in dimensions]


def _position(secret: bytes, token: str | None, scope: str) -> int:
    if token is None:
        return 0
    try:
        return int(unseal(secret, token, scope)[0])
    except ApiFault as fault:
        raise ApiFault("InvalidNextToken", fault.message) from None


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)


def _bad(message: str) -> ApiFault:
    return ApiFault("ValidationError", message)
