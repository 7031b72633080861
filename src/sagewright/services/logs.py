"""CloudWatch Logs: reading what jobs printed, and the write side that log agents use.

https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/Welcome.html, and compat-surface 1.4, 1.14.
Owns: the operations, page tokens, AWS's limits. Does not own: where lines lie (`blobs.streams`), who copies the lines
of jobs there (controllers), filter patterns (`services.log_filters`).

Tokens: DescribeLog* give `nextToken` only while more remains, because SDK v2 repeats the call until there is none.
GetLogEvents always gives both tokens, and an empty page gives back the one it was asked with: that is how clients see
the end. FilterLogEvents gives one with every page that is not empty, so that a client can go on from there later.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Final

from sagewright.blobs.streams import EVENT_OVERHEAD, GroupInfo, LogStreams, StreamEvent, StreamInfo, StreamRecord
from sagewright.core.context import Ctx
from sagewright.core.errors import BlobNotFound
from sagewright.core.ids import arn
from sagewright.services.log_filters import compile_pattern
from sagewright.services.log_search import Position, search
from sagewright.services.service import Request, Response, Service, reads, writes
from sagewright.store.resources import Tx
from sagewright.wire.faults import ApiFault
from sagewright.wire.pages import seal, unseal

_PAGE: Final = 50  # groups or streams, AWS's default and most
_EVENTS: Final = 10_000
_BYTES: Final = 1_048_576
_HOUR: Final = 3_600_000  # ms
_TOO_NEW: Final = 2 * _HOUR
_TOO_OLD: Final = 14 * 24 * _HOUR
_LONGEST_BATCH: Final = 24 * _HOUR
_RETENTIONS: Final = (
    1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653,
)  # fmt: skip


def service(streams: LogStreams, secret: bytes) -> Service:
    """`secret` seals page tokens."""
    tokens = _Tokens(secret)
    return Service(
        "logs",
        {
            "DescribeLogGroups": reads(partial(_describe_groups, streams, tokens)),
            "DescribeLogStreams": reads(partial(_describe_streams, streams, tokens)),
            "GetLogEvents": reads(partial(_get_events, streams, tokens)),
            "FilterLogEvents": reads(partial(_filter_events, streams, tokens)),
            "CreateLogGroup": writes(partial(_create_group, streams)),
            "CreateLogStream": writes(partial(_create_stream, streams)),
            "PutLogEvents": writes(partial(_put_events, streams)),
            "DeleteLogStream": writes(partial(_delete_stream, streams)),
            "DeleteLogGroup": writes(partial(_delete_group, streams)),
            "PutRetentionPolicy": writes(partial(_put_retention, streams)),
            "DeleteRetentionPolicy": writes(partial(_delete_retention, streams)),
            "ListTagsForResource": reads(partial(_list_tags, streams)),
            "TagResource": writes(partial(_tag, streams)),
            "UntagResource": writes(partial(_untag, streams)),
        },
    )


class _Tokens:
    """Positions as tokens that only the same question accepts."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def give(self, position: Sequence[str], *question: object) -> str:
        return seal(self._secret, position, _scope(question))

    def take(self, token: str, *question: object) -> tuple[str, ...]:
        try:
            return unseal(self._secret, token, _scope(question))
        except ApiFault:
            raise _invalid("The specified nextToken is invalid: repeat the first call without it.") from None


# -- groups and streams


def _describe_groups(streams: LogStreams, tokens: _Tokens, ctx: Ctx, tx: Tx, request: Request) -> Response:
    prefix, pattern = request.get("logGroupNamePrefix"), request.get("logGroupNamePattern")
    if prefix and pattern:
        raise _invalid("Give logGroupNamePrefix or logGroupNamePattern, not both.")
    wanted = {_group_name({"logGroupIdentifier": each}) for each in request.get("logGroupIdentifiers", ())}
    names = [
        name
        for name in streams.groups(prefix or "")
        if (not pattern or pattern.lower() in name.lower()) and (not wanted or name in wanted)
    ]
    page, rest = _page(names, request, tokens, "groups", prefix, pattern, sorted(wanted))
    found = (streams.group(name) for name in page)
    return {"logGroups": [_group_view(ctx, streams, group) for group in found if group]} | rest


def _describe_streams(streams: LogStreams, tokens: _Tokens, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group = _existing(streams, request)
    prefix, descending = request.get("logStreamNamePrefix"), request.get("descending", False)
    by_time = request.get("orderBy") == "LastEventTime"
    if by_time and prefix:
        raise _invalid("Cannot order by LastEventTime with a logStreamNamePrefix: leave one of them out.")
    names = streams.names(group, prefix or "")
    if by_time:
        last = {info.name: info.last_ts or 0 for info in streams.streams(group)}
        names = sorted(last, key=lambda name: (last[name], name))
    if descending:
        names.reverse()
    page, rest = _page(names, request, tokens, "streams", group, prefix, descending, by_time)
    found = (streams.info(group, name) for name in page)
    return {"logStreams": [_stream_view(ctx, group, info) for info in found if info]} | rest


def _create_group(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group = request["logGroupName"]
    if not streams.create_group(group):
        raise _already_exists("log group")
    tx.set_tags(_group_arn(ctx, group), request.get("tags") or {})
    return {}


def _create_stream(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    if not streams.create_stream(_existing(streams, request), request["logStreamName"]):
        raise _already_exists("log stream")
    return {}


def _delete_stream(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group, stream = _existing(streams, request), request["logStreamName"]
    if streams.info(group, stream) is None:
        raise _not_found("log stream")
    streams.remove(group, stream)
    return {}


def _delete_group(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group = _existing(streams, request)
    streams.remove_group(group)
    tx.remove_tags(_group_arn(ctx, group))
    return {}


def _put_retention(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    days = request["retentionInDays"]
    if days not in _RETENTIONS:
        raise _invalid(f"retentionInDays must be one of {', '.join(map(str, _RETENTIONS))}, not {days}.")
    streams.set_retention(_existing(streams, request), days)
    return {}


def _delete_retention(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    streams.set_retention(_existing(streams, request), None)
    return {}


def _list_tags(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    return {"tags": tx.tags(_tagged(streams, ctx, request))}


def _tag(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    tx.set_tags(_tagged(streams, ctx, request), request["tags"])
    return {}


def _untag(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    tx.remove_tags(_tagged(streams, ctx, request), request["tagKeys"])
    return {}


# -- events


def _get_events(streams: LogStreams, tokens: _Tokens, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group, stream = _existing(streams, request), request["logStreamName"]
    offset, from_head = None, request.get("startFromHead", False)
    if token := request.get("nextToken"):
        way, _, sealed = token.partition("/")
        if way not in ("f", "b"):
            raise _invalid("The specified nextToken is invalid: repeat the first call without it.")
        offset, from_head = int(tokens.take(sealed, "events", group, stream)[0]), way == "f"
    try:
        page = streams.read(
            group,
            stream,
            start_ms=request.get("startTime"),
            end_ms=request.get("endTime"),
            offset=offset,
            from_head=from_head,
            limit_events=request.get("limit", _EVENTS),
            limit_bytes=_BYTES,
        )
    except BlobNotFound:
        raise _not_found("log stream") from None
    return {
        "events": [
            {"timestamp": event.timestamp, "message": _text(event), "ingestionTime": event.timestamp}
            for event in page.events
        ],
        "nextForwardToken": f"f/{tokens.give((str(page.forward),), 'events', group, stream)}",
        "nextBackwardToken": f"b/{tokens.give((str(page.backward),), 'events', group, stream)}",
    }


def _filter_events(streams: LogStreams, tokens: _Tokens, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group = _existing(streams, request)
    prefix, named = request.get("logStreamNamePrefix"), request.get("logStreamNames")
    if prefix and named:
        raise _invalid("Give logStreamNamePrefix or logStreamNames, not both.")
    names = streams.names(group, prefix or "")
    if named:
        if missing := set(named) - set(names):
            raise _not_found(f"log stream {min(missing)}")
        names = sorted(set(named))
    pattern = request.get("filterPattern") or ""
    question = ("filter", group, prefix, sorted(named or ()), pattern)
    token = request.get("nextToken")
    found, position = search(
        streams,
        group,
        names,
        wanted=compile_pattern(pattern),
        start_ms=request.get("startTime", 0),
        end_ms=request.get("endTime"),
        after=Position.of(tokens.take(token, *question)) if token else None,
        limit_events=request.get("limit", _EVENTS),
        limit_bytes=_BYTES,
    )
    events = [
        {
            "logStreamName": stream,
            "timestamp": event.timestamp,
            "message": _text(event),
            "ingestionTime": event.timestamp,
            "eventId": _event_id(group, stream, event),
        }
        for stream, event in found
    ]
    rest = {"nextToken": tokens.give(position.parts(), *question)} if position else {}
    return {"events": events, "searchedLogStreams": []} | rest


def _put_events(streams: LogStreams, ctx: Ctx, tx: Tx, request: Request) -> Response:
    group, stream = _existing(streams, request), request["logStreamName"]
    if streams.info(group, stream) is None:
        raise _not_found("log stream")
    events = request["logEvents"]
    _check_batch(events)
    now = int(ctx.now.timestamp() * 1000)
    kept, rejected = _accepted([event["timestamp"] for event in events], now)
    records = [StreamRecord("-", event["timestamp"], event["message"].encode()) for event in events[kept]]
    streams.append(group, stream, records, durable=True)
    info = {"rejectedLogEventsInfo": rejected} if rejected else {}
    return {"nextSequenceToken": f"{now:056d}"} | info


def _check_batch(events: Sequence[Request]) -> None:
    times = [event["timestamp"] for event in events]
    if any(later < earlier for earlier, later in pairwise(times)):
        raise _invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if times[-1] - times[0] > _LONGEST_BATCH:
        raise _invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    size = sum(len(event["message"].encode()) + EVENT_OVERHEAD for event in events)
    if size > _BYTES:
        raise _invalid(f"Upload too large: {size} bytes exceeds limit of {_BYTES}. Send fewer events at once.")


def _accepted(times: Sequence[int], now: int) -> tuple[slice, dict[str, int]]:
    """Which events are kept, and what AWS says of the others; `times` is in order."""
    first = sum(time < now - _TOO_OLD for time in times)
    end = sum(time <= now + _TOO_NEW for time in times)
    rejected = {"tooOldLogEventEndIndex": first} if first else {}
    return slice(first, end), rejected | ({"tooNewLogEventStartIndex": end} if end < len(times) else {})


# -- pages, names, views


def _page(names: list[str], request: Request, tokens: _Tokens, *question: Any) -> tuple[list[str], dict[str, str]]:
    """The names of this page, and `nextToken` when there are more."""
    start = 0
    if token := request.get("nextToken"):
        (last, position) = tokens.take(token, *question)
        # The name may be gone, or have moved in an order by time: go on from where it was.
        start = names.index(last) + 1 if last in names else int(position)
    end = start + request.get("limit", _PAGE)
    page = names[start:end]
    return page, {"nextToken": tokens.give((page[-1], str(end)), *question)} if end < len(names) else {}


def _group_name(request: Request) -> str:
    """From logGroupName, or from logGroupIdentifier, which is a name or an ARN."""
    name, identifier = request.get("logGroupName"), request.get("logGroupIdentifier")
    if (name is None) == (identifier is None):
        raise _invalid("Give either logGroupName or logGroupIdentifier.")
    return str(name) if identifier is None else str(identifier).rpartition(":log-group:")[2].removesuffix(":*")


def _existing(streams: LogStreams, request: Request) -> str:
    group = _group_name(request)
    if streams.group(group) is None:
        raise _not_found("log group")
    return group


def _tagged(streams: LogStreams, ctx: Ctx, request: Request) -> str:
    return _group_arn(ctx, _existing(streams, {"logGroupIdentifier": request["resourceArn"]}))


def _group_arn(ctx: Ctx, group: str) -> str:
    return arn("logs", ctx.region, ctx.account, f"log-group:{group}")


def _group_view(ctx: Ctx, streams: LogStreams, group: GroupInfo) -> Response:
    view: dict[str, Any] = {
        "logGroupName": group.name,
        "creationTime": group.created,
        "metricFilterCount": 0,
        "arn": f"{_group_arn(ctx, group.name)}:*",
        "storedBytes": streams.size(group.name),
        "logGroupClass": "STANDARD",
        "logGroupArn": _group_arn(ctx, group.name),
    }
    return view if group.retention_days is None else view | {"retentionInDays": group.retention_days}


def _stream_view(ctx: Ctx, group: str, stream: StreamInfo) -> Response:
    view: dict[str, Any] = {
        "logStreamName": stream.name,
        "creationTime": stream.created,
        "arn": f"{_group_arn(ctx, group)}:log-stream:{stream.name}",
        "storedBytes": stream.bytes,
    }
    if stream.first_ts is None:
        return view
    moments = {"firstEventTimestamp": stream.first_ts, "lastEventTimestamp": stream.last_ts}
    return view | moments | {"lastIngestionTime": stream.changed}


def _event_id(group: str, stream: str, event: StreamEvent) -> str:
    """56 digits like AWS's: the same for the same event, whoever asks."""
    return f"{event.timestamp:020d}{zlib.crc32(f'{group} {stream}'.encode()):016d}{event.offset:020d}"


def _text(event: StreamEvent) -> str:
    return event.message.decode(errors="replace")


def _scope(question: Iterable[object]) -> str:
    return repr(("logs", *question))


def _invalid(message: str) -> ApiFault:
    return ApiFault("InvalidParameterException", message)


def _not_found(what: str) -> ApiFault:
    return ApiFault("ResourceNotFoundException", f"The specified {what} does not exist.")


def _already_exists(what: str) -> ApiFault:
    return ApiFault("ResourceAlreadyExistsException", f"The specified {what} already exists")
