"""The parts of the router that are pure, or nearly: tables, choices, windows, frames, tokens, counters, heads."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.core.credentials import Keyring
from sagewright.core.ids import DEFAULT_ACCOUNT, DEFAULT_REGION, Region
from sagewright.router import choose, counters, stream, tokens
from sagewright.router.deadlines import Deadlines
from sagewright.router.heads import Heads
from sagewright.router.live import Live
from sagewright.router.request import Kind, Recogniser, parse_target
from sagewright.router.table import Place, Route, Target, Variant, derive
from sagewright.router.whole import Wholes
from sagewright.settings import RouterSettings
from sagewright.store.kinds import endpoint
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Fleet, Instance
from sagewright.store.resources import Resource
from support.router_bench import NOW, Fleeted, _plan

MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
KEYRING = Keyring(b"k" * 32)


class Clockwork(asyncio.AbstractEventLoop):
    """As much of a loop as a table needs."""

    def time(self) -> float:
        return 0.0


LOOP = Clockwork()


def row(status: EndpointStatus, spec: EndpointSpec, state: str = endpoint.IN_SERVICE) -> Resource:
    key = endpoint.key(DEFAULT_ACCOUNT, DEFAULT_REGION, "e")
    return Resource(key, spec.to_row(), status.to_row(), state, 7, MOMENT, MOMENT, None)


def fleet(identifier: str, *instances: Instance, weight: float = 1.0) -> Fleet:
    from sagewright.store.kinds.endpoint import Plan

    return Fleet(identifier, 1, Plan("c", (_plan(Fleeted(name="v", weight=weight)),)), instances, NOW)


def instance(identifier: str, phase: str = endpoint.READY, address: str = "10.0.0.1:8080") -> Instance:
    return Instance(identifier, "v", {}, {"primary": address} if address else {}, phase, NOW)


def test_only_ready_instances_of_the_serving_fleet_are_routed_to() -> None:
    phases = (endpoint.STAGING, endpoint.STARTING, endpoint.UNHEALTHY, endpoint.DRAINING, endpoint.STOPPING)
    serving = fleet("r1", instance("good"), instance("no-address", address=""), *(instance(p, p) for p in phases))
    status = EndpointStatus((serving, fleet("r2", instance("next"))), serving="r1", handled=(1, 0))
    route = derive(row(status, EndpointSpec("c", serving.plan)))
    assert (route.serving, route.version, route.state) == (True, 7, "InService")
    assert route.variants[0].targets == (Target("good", (Place("primary", "10.0.0.1", 8080),)),)


def test_the_weights_are_the_serving_fleets_and_not_the_wish() -> None:
    serving = fleet("r1", instance("a"), weight=3.0)
    wish = fleet("r2", weight=9.0).plan
    route = derive(row(EndpointStatus((serving,), serving="r1", handled=(1, 0)), EndpointSpec("c", wish, revision=2)))
    assert route.variants[0].weight == 3.0
    assert route.state == "Updating"


def test_an_endpoint_that_never_served_or_shall_go_is_not_routed() -> None:
    serving = fleet("r1", instance("a"))
    young = derive(row(EndpointStatus((serving,)), EndpointSpec("c", serving.plan), endpoint.CREATING))
    assert (young.serving, young.variants, young.state) == (False, (), "Creating")
    status = EndpointStatus((serving,), serving="r1", handled=(1, 0))
    going = derive(row(status, EndpointSpec("c", serving.plan, delete_requested=True)))
    assert (going.serving, going.state) == (False, "Deleting")


def test_addresses_may_be_ipv6() -> None:
    serving = fleet("r1", instance("a", address="[fd00::2]:8080"))
    route = derive(row(EndpointStatus((serving,), serving="r1"), EndpointSpec("c", serving.plan)))
    assert route.variants[0].targets[0].places[0] == Place("primary", "fd00::2", 8080)


def variant(name: str, *targets: str, weight: float = 1.0, random: bool = False) -> Variant:
    places = tuple(Target(target, (Place("primary", "127.0.0.1", 1),)) for target in targets)
    return Variant(name, weight, random, False, ("primary",), places)


def live(*variants: Variant, **router: Any) -> Live:
    made = Live(RouterSettings(**router), 1)
    made.open(LOOP)
    swap(made, *variants)
    return made


def swap(made: Live, *variants: Variant) -> None:
    made.swap([Route(DEFAULT_REGION, "e", DEFAULT_ACCOUNT, 1, "InService", True, variants)], [])


def first(made: Live) -> Any:
    found = made.find(DEFAULT_REGION, "e")
    assert found is not None
    return found.variants[0]


def test_equal_instances_share_the_requests_and_busy_ones_get_none() -> None:
    made = live(variant("v", "a", "b", "c"))
    chosen = Counter(choose.instance(first(made), frozenset(), None, 0.0).id for _ in range(300))
    assert min(chosen.values()) >= 90
    busy = next(one for one in first(made).instances if one.id == "a")
    busy.outstanding = 2
    assert {choose.instance(first(made), frozenset(), None, 0.0).id for _ in range(30)} == {"b", "c"}


def test_full_tried_and_suspect_instances() -> None:
    made = live(variant("v", "a", "b"), max_concurrent=2)
    a, b = first(made).instances
    a.refused(100.0)
    assert {choose.instance(first(made), frozenset(), None, 100.1).id for _ in range(20)} == {"b"}
    b.outstanding = 2
    assert choose.instance(first(made), frozenset(), None, 100.1) is a  # suspect is better than nothing
    assert choose.instance(first(made), frozenset({"a"}), None, 100.1) is None
    assert choose.instance(first(made), frozenset(), "b", 100.1) is None  # its session's instance is full: wait
    a.answered()
    assert a.suspect_until == 0.0


def test_a_swap_keeps_what_is_known_of_an_instance_and_forgets_the_others() -> None:
    made = live(variant("v", "a", "b"))
    a, b = first(made).instances
    a.outstanding, b.outstanding = 3, 1
    swap(made, variant("v", "a", "c"))
    assert first(made).instances[0] is a
    assert (made.outstanding("b"), made.is_routable("b")) == (1, False)
    idle: list[str] = []
    made.when_idle("b", lambda: idle.append("b"))
    made.end(b)
    assert idle == ["b"]
    assert made.outstanding("b") == 0
    made.swap([], [(DEFAULT_REGION, "e")])
    assert made.find(DEFAULT_REGION, "e") is None
    assert made.outstanding("a") == 3


def test_the_window_closes_for_late_requests_behind_others_only() -> None:
    made = live(variant("v", "a"), max_concurrent=100)
    [a] = first(made).instances
    a.outstanding = 40
    crowded = a.mark()
    for _ in range(20):
        a.answered()
    a.ran_out_of_time(crowded)
    assert a.window == 10.0
    for _ in range(30):
        a.answered()
    assert 12 < a.window < 14
    a.outstanding = 3
    alone = a.mark()
    for _ in range(5):
        a.answered()
    before = a.window
    a.ran_out_of_time(alone)  # all the others were answered: it hung by itself
    assert a.window == before


def test_frames_are_what_botocore_reads() -> None:
    buffer = EventStreamBuffer()
    for payload in (b"", b"abc", bytes(range(256)) * 300):
        buffer.add_data(b"".join(stream.part(payload)))
    buffer.add_data(stream.model_error("gone", "StreamBroken"))
    parts = list(buffer)
    assert [part.payload for part in parts[:3]] == [b"", b"abc", bytes(range(256)) * 300]
    assert parts[1].headers == {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }
    assert parts[3].headers[":exception-type"] == "ModelStreamError"
    assert parts[3].payload == b'{"Message":"gone","ErrorCode":"StreamBroken"}'


def test_tokens_say_what_they_allow() -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    token = tokens.make(KEYRING, "e", end)
    assert tokens.check(KEYRING, token) == tokens.Token("e", DEFAULT_REGION, end)
    assert tokens.check(KEYRING, tokens.make(KEYRING, "e", None, Region("eu-west-1"))).region == "eu-west-1"
    with pytest.raises(tokens.BadToken):
        tokens.check(Keyring(b"o" * 32), token)


@settings(max_examples=60)
@given(st.text(max_size=80) | st.integers(0, 90).map(lambda cut: tokens.make(KEYRING, "e", None)[:cut]))
def test_no_other_text_is_a_token(text: str) -> None:
    if text != tokens.make(KEYRING, "e", None):
        with pytest.raises(tokens.BadToken):
            tokens.check(KEYRING, text)


@settings(max_examples=200)
@given(st.integers(0, 10**9))
def test_buckets_hold_what_they_say(value: int) -> None:
    index = counters.bucket(value)
    assert counters.floor(index) <= value < counters.floor(index + 1)
    assert counters.floor(index + 1) - counters.floor(index) <= max(1, value / 16)


def test_histograms_add_up() -> None:
    values = [0, 1, 31, 32, 33, 1000, 999_999, 1_000_000]
    histogram = counters.Histogram()
    for value in values:
        histogram.add(value)
    assert (histogram.count, histogram.total) == (len(values), sum(values))
    assert (histogram.least, histogram.most) == (0, 1_000_000)
    assert histogram.buckets == Counter(map(counters.bucket, values))


def test_times_that_are_added_all_at_once_give_the_same() -> None:
    times = [0.0, 1e-6, 0.000_031, 0.001, 0.001, 0.5, 1.0]
    one_by_one, at_once = counters.Histogram(), counters.Histogram()
    for seconds in times:
        one_by_one.add(int(seconds * 1e6))
    at_once.add_all(times[:3])
    at_once.add_all([])
    at_once.add_all(times[3:])
    for histogram in (one_by_one, at_once):
        assert (histogram.count, histogram.least, histogram.most) == (7, 0, 1_000_000)
    assert (at_once.total, at_once.buckets) == (one_by_one.total, one_by_one.buckets)


def test_what_was_taken_is_counted_no_more() -> None:
    made = counters.Counters()
    made.of("r", "e", "v").invocations += 1
    snapshot = made.snapshot()
    made.of("r", "e", "v").invocations += 1
    taken = made.take()
    made.of("r", "e", "v", "c").invocations += 1
    assert [tally.invocations for tally in snapshot.values()] == [1]
    assert [tally.invocations for tally in taken.values()] == [2]
    assert [key.container for key in made.take()] == ["c"]


async def test_deadlines_come_in_order_and_only_to_those_who_still_wait() -> None:
    loop = asyncio.get_running_loop()
    late: list[str] = []
    done = loop.create_future()

    def expired(name: str) -> None:
        late.append(name)
        if name == "end":
            done.set_result(None)

    deadlines = Deadlines(loop, 0.1, expired)
    for name in ("a", "b", "c"):
        deadlines.add(name)
    deadlines.discard("b")
    await asyncio.sleep(0.05)
    deadlines.add("a")  # anew
    deadlines.add("end")
    await asyncio.wait_for(done, 10)
    assert late == ["c", "a", "end"]
    assert len(deadlines) == 0


PLAIN = b"POST /endpoints/e/invocations HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nX-A:  b c \r\n\r\nhi"


def test_plain_messages_are_read_whole() -> None:
    heads = Heads()
    for _ in range(2):
        message = heads.read(PLAIN)
        assert message is not None
        assert message.first == b"POST /endpoints/e/invocations HTTP/1.1"
        assert message.headers == {b"host": b"a", b"content-length": b"2", b"x-a": b"b c"}
        assert message.body == b"hi"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Content-Length: 2", b"Content-Length: 3"),  # not whole
        (b"Content-Length: 2", b"Content-Length: 1"),  # more than whole
        (b"Content-Length: 2", b"Content-Length: +2"),
        (b"Content-Length: 2", b"Content-Length: 2\r\nContent-Length: 2"),
        (b"Content-Length: 2", b"Transfer-Encoding: chunked"),
        (b"Content-Length: 2", b"Content-Length: 2\r\nTransfer-Encoding: chunked"),
        (b"Host: a", b"Host: a\r\nHost: b"),
        (b"Host: a", b"Host: a\r\n folded"),
        (b"Host: a", b"Host : a"),
        (b"Host: a", b"Ho st: a"),
        (b"Host: a", b"Host: a\nX: y"),
        (b"Host: a", b"Host: a\rX: y"),
        (b"Host: a", b"Host: a\0"),
        (b"Host: a", b"Host a"),
        (b"Host: a", b": a"),
        (b"Host: a", b"Host: a\r\nConnection: close"),
        (b"Host: a", b"Host: a\r\nExpect: 100-continue"),
        (b"POST /endpoints", b"POST\0/endpoints"),
        (b"\r\n\r\nhi", b"\r\nhi"),
    ],
)
def test_anything_else_is_left_to_the_parser(old: bytes, new: bytes) -> None:
    heads = Heads()
    assert heads.read(PLAIN) is not None
    for _ in range(2):
        assert heads.read(PLAIN.replace(old, new)) is None


def test_answers_that_repeat_are_read_again() -> None:
    wholes = Wholes(Heads())
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    known = wholes.read(answer + b"ab")
    assert known is not None
    assert (known.head, known.start, known.size, known.status) == (answer, len(answer), len(answer) + 2, 200)
    assert wholes.read(answer + b"cd") is known
    for other in (answer + b"cde", answer + b"c", answer, b"", b"ab", answer.replace(b"200", b"500") + b"ab"):
        assert wholes.read(other) is None


def test_only_plain_answers_go_on_as_they_are() -> None:
    wholes = Wholes(Heads())
    plain = wholes.read(b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/csv\r\nContent-Length: 2\r\n\r\nab")
    assert plain is not None
    assert plain.lines == b"\r\nContent-Type: text/csv\r\nContent-Length: 2\r\ndate: "
    custom = wholes.read(
        b"HTTP/1.1 200 OK\r\nCache-Control: no-cache\r\nX-Amzn-SageMaker-Custom-Attributes: a=b\r\n"
        b"Content-Length: 2\r\n\r\nab"
    )
    assert custom is not None
    assert custom.lines == b"\r\nX-Amzn-SageMaker-Custom-Attributes: a=b\r\nContent-Length: 2\r\ndate: "
    special = wholes.read(b"HTTP/1.1 200 OK\r\nX-Amzn-SageMaker-Session-Id: 1\r\nContent-Length: 2\r\n\r\nab")
    created = wholes.read(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nab")
    assert special is not None
    assert created is not None
    assert (special.lines, created.lines) == (b"", b"")


def test_names_in_targets() -> None:
    assert parse_target(b"/endpoints/e-1/invocations")[:2] == (Kind.INVOKE, "e-1")
    assert parse_target(b"/endpoints/e/invocations-response-stream").kind is Kind.STREAM
    odd = parse_target(b"/endpoints/a%20b/invocations?x=1")
    assert odd is not None
    assert (odd.name, odd.query, odd.is_plain) == ("a b", b"x=1", False)
    for other in (b"/endpoints/e", b"/endpoints//invocations", b"/endpoints/e/f/invocations", b"/e/invocations", b"*"):
        assert parse_target(other) is None


def test_requests_for_s3_are_not_taken() -> None:
    recogniser = Recogniser()
    target = b"/endpoints/x/invocations"
    s3 = b"AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
    assert recogniser.recognise(b"POST", target, [(b"authorization", s3)]) is None
    assert recogniser.recognise(b"POST", target, [(b"authorization", s3.replace(b"/s3/", b"/sagemaker/"))]) is not None
    assert recogniser.recognise(b"GET", target, []) is None
    assert recogniser.recognise(b"POST", target + b"?uploads", []) is None
    assert recogniser.recognise(b"POST", target, []) is not None


def test_the_first_of_repeated_headers_counts() -> None:
    raw = [(b"content-type", b"a"), (b"content-type", b"b")]
    request = Recogniser().recognise(b"POST", b"/endpoints/x/invocations", raw)
    assert request is not None
    assert request.headers == {b"content-type": b"a"}
    assert request.raw == raw


def test_weights() -> None:
    weights = {"a": 3, "b": 1, "d": 0}
    made = live(*(variant(name, f"i{name}", weight=weight) for name, weight in weights.items()), variant("c", weight=5))
    route = made.find(DEFAULT_REGION, "e")
    assert route is not None
    chosen = Counter(choose.variant(route).variant.name for _ in range(4000))
    assert set(chosen) == {"a", "b"}
    assert math.isclose(chosen["a"] / 4000, 0.75, abs_tol=0.05)
