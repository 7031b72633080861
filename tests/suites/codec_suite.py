"""The codec contract, with botocore's client as the oracle in both directions.

Bound per service and protocol in `tests/contract/test_codecs.py`:
    requests   what botocore sends is decoded to the very params that it was given
    responses  what we encode is parsed by botocore to the very result that we were given
    faults     botocore's ClientError has our code, message, status and members
    garbage    any bytes end in a Call or an ApiFault
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sagewright.wire import models, validate
from sagewright.wire.codec import Call, Codec
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from support.botocore_oracle import Oracle, service_model
from support.shape_values import Carrier, Values

REQUEST_ID = "00000000-1111-2222-3333-444444444444"
seeds = st.integers(min_value=0, max_value=2**32)


def examples(count: int) -> settings:
    """A seed's value is made outside hypothesis, so shrinking it tells nothing."""
    phases = (Phase.explicit, Phase.reuse, Phase.generate)
    return settings(max_examples=count, deadline=None, phases=phases, suppress_health_check=list(HealthCheck))


_REQUEST_CARRIERS = {
    "json": Carrier(control=True),
    "rest-json": Carrier(control=True),
    "rest-xml": Carrier(empty_flattened=False),  # ElementTree writes control characters that no parser accepts
    "query": Carrier(control=True, empty_maps=False, empty_structures=False),
}
_RESPONSE_CARRIERS = {
    "json": Carrier(control=True, microseconds=False),
    "rest-json": Carrier(control=True, microseconds=False),
    "rest-xml": Carrier(microseconds=False, empty_flattened=False),
    "query": Carrier(microseconds=False, empty_flattened=False),
}


@dataclass(frozen=True, repr=False)
class Subject:
    """One codec under test. `skip`: members that botocore's own client treats by hand, tested by name elsewhere."""

    service: str
    protocol: str
    operations: tuple[str, ...]
    skip: frozenset[str] = field(default=frozenset())

    @property
    def codec(self) -> Codec:
        return models.codec_for(self.service, self.protocol)

    @property
    def oracle(self) -> Oracle:
        return Oracle(self.service, self.protocol)

    def __repr__(self) -> str:
        return f"{self.service}-{self.protocol}"


class CodecSuite:
    """Subclasses parametrize `subject` (a Subject) and `operation` (a name)."""

    @examples(5)
    @given(seed=seeds)
    def test_what_botocore_sends_is_decoded_to_what_it_was_given(
        self, subject: Subject, operation: str, seed: int
    ) -> None:
        shape = subject.oracle.operation(operation).input_shape
        carrier = _REQUEST_CARRIERS[subject.protocol]
        params = Values(seed, carrier, subject.skip).structure(shape) if shape else {}
        call = subject.codec.decode(subject.oracle.request(operation, params))
        assert call.operation == operation
        assert call.service == subject.service
        _same(_without_empty_payload(shape, call.params), _without_empty_payload(shape, params))

    @examples(5)
    @given(seed=seeds)
    def test_what_we_encode_is_read_by_botocore_as_what_we_were_given(
        self, subject: Subject, operation: str, seed: int
    ) -> None:
        shape = subject.oracle.operation(operation).output_shape
        carrier = _RESPONSE_CARRIERS[subject.protocol]
        result = Values(seed, carrier, subject.skip).structure(shape) if shape else {}
        response = subject.codec.encode(operation, result, REQUEST_ID)
        read = subject.oracle.result(operation, response)
        _same(_without_empty_payload(shape, read), _without_empty_payload(shape, result))

    @examples(4)
    @given(seed=seeds)
    def test_validation_accepts_or_says_what_is_wrong(self, subject: Subject, operation: str, seed: int) -> None:
        shape = subject.oracle.operation(operation).input_shape
        params = Values(seed, _REQUEST_CARRIERS[subject.protocol], subject.skip).structure(shape) if shape else {}
        fault = _refusal(subject, operation, params)
        if fault is not None:
            assert fault.message
            assert subject.codec.encode_fault(operation, fault, REQUEST_ID).status == fault.status

    @examples(8)
    @given(data=st.data())
    def test_a_damaged_request_ends_in_a_call_or_a_fault(
        self, subject: Subject, operation: str, data: st.DataObject
    ) -> None:
        shape = subject.oracle.operation(operation).input_shape
        params = Values(data.draw(seeds), _REQUEST_CARRIERS[subject.protocol]).structure(shape) if shape else {}
        request = _damaged(data, subject.oracle.request(operation, params))
        _decodes_or_faults(subject, request)


class FaultSuite:
    """Subclasses parametrize `subject`."""

    @examples(30)
    @given(
        message=st.text(st.characters(codec="utf-8"), max_size=60), status=st.sampled_from((400, 404, 409, 500, 503))
    )
    def test_botocore_reads_code_and_message_of_an_unmodelled_fault(
        self, subject: Subject, message: str, status: int
    ) -> None:
        operation = subject.operations[0]
        response = subject.codec.encode_fault(operation, ApiFault("SomethingOdd", message, status), REQUEST_ID)
        error = subject.oracle.error(operation, response)
        assert error["Error"]["Code"] == "SomethingOdd"
        assert (error["Error"]["Message"] or "") == _legible(subject, message)
        assert error["ResponseMetadata"]["HTTPStatusCode"] == status
        assert error["ResponseMetadata"]["RequestId"] == REQUEST_ID

    @examples(4)
    @given(seed=seeds)
    def test_botocore_reads_every_modelled_error_with_its_members(self, subject: Subject, seed: int) -> None:
        for shape in service_model(subject.service).error_shapes:
            members = Values(seed, _RESPONSE_CARRIERS[subject.protocol]).structure(shape)
            message = members.pop("message", None) or members.pop("Message", None) or "why"
            members = {name: value for name, value in members.items() if name.lower() != "message"}
            fault = ApiFault(shape.error_code, message, members=members)
            response = subject.codec.encode_fault(None, fault, REQUEST_ID)
            error = subject.oracle.error(subject.operations[0], response)["Error"]
            assert shape.name in (error["Code"], error.get("QueryErrorCode")) or error["Code"] == shape.error_code
            read = subject.oracle.error_members(shape, response)
            _same({name: value for name, value in read.items() if name.lower() != "message"}, members)

    @examples(80)
    @given(data=st.data())
    def test_random_bytes_end_in_a_call_or_a_fault(self, subject: Subject, data: st.DataObject) -> None:
        text = st.text(st.characters(codec="latin-1"), max_size=30)
        headers = data.draw(st.lists(st.tuples(st.sampled_from(_HEADERS), text), max_size=4))
        request = HttpRequest(
            method=data.draw(st.sampled_from(("GET", "PUT", "POST", "DELETE", "HEAD", "PATCH", "BREW"))),
            raw_path=data.draw(st.sampled_from(("/", "/b", "/b/", "//", "/b/k", "", "*", "/%ff/%00", "/b/%zz")) | text),
            raw_query=data.draw(st.sampled_from(("", "acl", "uploads=&x", "%ff=1", "a.b.1=2", "list-type=2")) | text),
            headers=Headers(headers),
            body=data.draw(st.binary(max_size=80) | st.sampled_from(_BODIES)),
        )
        _decodes_or_faults(subject, request)


_HEADERS = (
    "content-type",
    "x-amz-target",
    "content-encoding",
    "x-amz-copy-source",
    "if-modified-since",
    "range",
    "X-A",
)
_BODIES = (
    b"null",
    b"[]",
    b'"x"',
    b"{",
    b'{"a":' * 500 + b"1" + b"}" * 500,
    b'{"SearchExpression":{"SubExpressions":[' * 300 + b"]}" * 300,
    b"<a>" * 100 + b"</a>" * 100,
    b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    b'<?xml version="1.0" encoding="utf-16"?><a/>',
    b"<Delete/>",
    b"Action=GetRole&RoleName.a.b=1",
    b"Action=PutMetricData&MetricData.member.1=1&MetricData.member.99999999999999999999.Value=1",
    b"Action=GetRole&" + b"a." * 5000 + b"b=1",
    b"Action=%ff",
)


def _refusal(subject: Subject, operation: str, params: dict[str, Any]) -> ApiFault | None:
    try:
        validate.validate(subject.service, operation, params)
    except ApiFault as fault:
        return fault
    return None


def _decodes_or_faults(subject: Subject, request: HttpRequest) -> None:
    try:
        call = subject.codec.decode(request)
        assert isinstance(call, Call)
        validate.validate(subject.service, call.operation, call.params)
    except ApiFault as fault:
        response = subject.codec.encode_fault(None, fault, REQUEST_ID)
        error = subject.oracle.error(subject.operations[0], response)["Error"]
        assert error["Code"]


def _damaged(data: st.DataObject, request: HttpRequest) -> HttpRequest:
    """The request with a cut, a flipped stretch, or a piece of another kind of value put in."""
    body = request.body or b""
    at = data.draw(st.integers(0, len(body)))
    to = data.draw(st.integers(at, min(len(body), at + 20)))
    put_in = data.draw(
        st.sampled_from((b"", b"null", b"1e400", b"[]", b"{}", b"\xff", b"<x>", b'"', b"%")) | st.binary()
    )
    query = request.raw_query[: data.draw(st.integers(0, len(request.raw_query)))]
    path = request.raw_path[: data.draw(st.integers(1, max(1, len(request.raw_path))))]
    target = request.headers if data.draw(st.booleans()) else Headers(request.headers.items()[:-1])
    return HttpRequest(request.method, path, query, target, body[:at] + put_in + body[to:])


def _same(got: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Equal, or the members that differ."""
    names = [name for name in {**got, **wanted} if got.get(name, "absent") != wanted.get(name, "absent")]
    differing = "; ".join(
        f"{name}: {got.get(name, 'absent')!r} is not {wanted.get(name, 'absent')!r}" for name in names
    )
    assert not names, differing


def _without_empty_payload(shape: Any, params: dict[str, Any]) -> dict[str, Any]:
    """An empty body or header map and none are the same bytes; and HTTP adds a Content-Length of its own."""
    payload = shape.serialization.get("payload") if shape else None
    kept = {name: value for name, value in params.items() if name != payload or value not in (b"", "", {}, None)}
    if kept.get("Metadata") == {}:
        kept.pop("Metadata")
    kept.pop("ContentLength", None)
    return kept


def _legible(subject: Subject, message: str) -> str:
    if subject.protocol in ("json", "rest-json"):
        return message
    return "".join("\ufffd" if _illegal_in_xml(char) else char for char in message)


def _illegal_in_xml(char: str) -> bool:
    return (char < " " and char not in "\t\n\r") or char in "\ufffe\uffff"
