"""rest-json: paths, streams, event streams and faults of the runtime services."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest

from sagewright.wire import models
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.rest_json import RestJsonCodec
from support.botocore_oracle import Oracle, service_model
from support.shape_values import Carrier, Values

RUNTIME = Oracle("sagemaker-runtime", "rest-json")


def codec(service: str = "sagemaker-runtime") -> RestJsonCodec:
    found = models.codec_for(service)
    assert isinstance(found, RestJsonCodec)
    return found


@pytest.mark.parametrize(
    "service", ["sagemaker-runtime", "sagemaker-metrics", "sagemaker-featurestore-runtime", "lambda"]
)
def test_every_operation_is_told_from_every_other(service: str) -> None:
    oracle = Oracle(service, "rest-json")
    for name in service_model(service).operation_names:
        shape = oracle.operation(name).input_shape
        made = Values(3, Carrier()).structure(shape) if shape else {}
        params = {key: value for key, value in made.items() if key in shape.required_members} if shape else {}
        assert codec(service).decode(oracle.request(name, params)).operation == name


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/endpoints/e/invocations"),
        ("POST", "/endpoints//invocations"),
        ("POST", "/endpoints/a/b/invocations"),
        ("POST", "/"),
        ("POST", "/endpoints/e"),
    ],
)
def test_a_path_that_is_no_operations_is_refused_by_name(method: str, path: str) -> None:
    with pytest.raises(ApiFault) as raised:
        codec().decode(HttpRequest(method, path, "", Headers(), b""))
    assert (raised.value.code, raised.value.status) == ("UnknownOperationException", 404)
    assert path in raised.value.message


def test_a_label_is_decoded_once_and_may_hold_a_slash() -> None:
    call = codec().decode(HttpRequest("POST", "/endpoints/a%2Fb%2520c/invocations", "", Headers(), b"x"))
    assert call.params == {"EndpointName": "a/b%20c", "Body": b"x"}


def test_a_label_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ApiFault):
        codec().decode(HttpRequest("POST", "/endpoints/%ff/invocations", "", Headers(), b""))


async def test_a_body_that_is_still_to_come_is_left_as_a_stream() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"data"

    sent = HttpRequest("POST", "/endpoints/e/invocations", "", Headers([("Content-Type", "text/csv")]), None, chunks())
    assert codec().streams_body(sent)
    call = codec().decode(sent)
    assert call.params == {"EndpointName": "e", "ContentType": "text/csv"}
    assert call.stream is not None
    assert [chunk async for chunk in call.stream] == [b"data"]


def test_a_json_body_must_be_read_before_decoding() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"{}"

    sent = HttpRequest("POST", "/BatchGetRecord", "", Headers(), None, chunks())
    with pytest.raises(ValueError, match="read the body whole"):
        codec("sagemaker-featurestore-runtime").decode(sent)


async def test_an_event_stream_goes_out_as_it_comes() -> None:
    async def frames() -> AsyncIterator[bytes]:
        yield b"frame"

    stream = frames()
    response = codec().encode("InvokeEndpointWithResponseStream", {"Body": stream, "ContentType": "text/plain"}, "id")
    assert response.body is stream
    assert response.headers.get("content-type") == "application/vnd.amazon.eventstream"
    assert response.headers.get("x-amzn-sagemaker-content-type") == "text/plain"


def test_an_answers_headers_and_status_come_from_its_members() -> None:
    result = {"OutputLocation": "s3://b/o", "InferenceId": "i"}
    response = codec().encode("InvokeEndpointAsync", result, "id")
    assert response.status == 202
    assert response.headers.get("x-amzn-sagemaker-outputlocation") == "s3://b/o"
    assert json.loads(response.body) == {"InferenceId": "i"}
    assert codec("lambda").encode("Invoke", {"StatusCode": 204, "Payload": b""}, "id").status == 204


def test_a_model_error_keeps_the_containers_words() -> None:
    members = {"OriginalStatusCode": 503, "OriginalMessage": "<b>down</b>", "LogStreamArn": "arn:x"}
    response = codec().encode_fault("InvokeEndpoint", ApiFault("ModelError", "It said no", members=members), "id")
    assert response.status == 424
    assert response.headers.get("x-amzn-errortype") == "ModelError"
    shape = service_model("sagemaker-runtime").shape_for("ModelError")
    assert RUNTIME.error_members(shape, response) == {**members, "Message": "It said no"}
    assert RUNTIME.error("InvokeEndpoint", response)["Error"] == {"Code": "ModelError", "Message": "It said no"}
