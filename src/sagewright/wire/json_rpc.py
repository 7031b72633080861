"""awsJson 1.0 and 1.1 (sagemaker, logs, ecr, cloudwatch ...): `X-Amz-Target` names the operation, the body is JSON.

Owns: both directions of the protocol, its faults, and the query-compatible trait.
Does not own: values by shape (`json_shapes`), limits (`validate`).
Source: smithy.io "AWS JSON 1.1 protocol"; error bodies as botocore's JSONParser reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from sagewright.wire.bodies import whole_body
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault
from sagewright.wire.json_shapes import Decoder, Encoder, JsonShapes, plain
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from sagewright.wire.shapes import Mismatch, Model, error_code, error_status


class _Compiled(NamedTuple):
    name: str
    decode: Decoder | None
    encode: Encoder | None
    has_output: bool


class JsonRpcCodec:
    """One service over awsJson; the version comes from the model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._service = model.service
        self._prefix = f"{model.metadata['targetPrefix']}."
        self._content_type = f"application/x-amz-json-{model.metadata.get('jsonVersion', '1.1')}"
        self._query_compatible = "awsQueryCompatible" in model.metadata
        self._shapes = JsonShapes()
        self._compiled: dict[str, _Compiled] = {}

    def decode(self, request: HttpRequest) -> Call:
        operation = self._target(request.headers.get("x-amz-target"))
        body = whole_body(request)
        value = load_json(body) if body else None
        if operation.decode is None or value is None:
            return Call(self._service, operation.name, {})
        return Call(self._service, operation.name, decode_json(operation.decode, value))

    def encode(self, operation: str, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        compiled = self._operation(operation)
        body = b""
        if compiled.has_output:
            body = orjson.dumps(compiled.encode(result) if compiled.encode else result, default=plain)
        headers = Headers((("x-amzn-requestid", request_id), ("content-type", self._content_type)))
        return HttpResponse(200, headers, body)

    def encode_fault(self, operation: str | None, fault: ApiFault, request_id: str) -> HttpResponse:
        error = self._model.error(fault.code)
        code = error.name if error is not None else fault.code
        body = {"__type": code, "message": fault.message, "Message": fault.message}
        if error is not None and (encode := self._shapes.encoder(error)) is not None:
            body.update(encode(fault.members))
        headers = Headers((("x-amzn-requestid", request_id), ("content-type", self._content_type)))
        headers.add("x-amzn-errortype", code)
        if self._query_compatible:
            blame = "Receiver" if fault.is_server_fault else "Sender"
            headers.add("x-amzn-query-error", f"{error_code(error) if error is not None else code};{blame}")
        for name, text in fault.headers.items():
            headers.add(name, text)
        return HttpResponse(error_status(error, fault.status), headers, orjson.dumps(body, default=plain))

    def _target(self, target: str | None) -> _Compiled:
        if target is None:
            raise ApiFault("UnknownOperationException", "The request has no X-Amz-Target header to name the operation")
        name = target.removeprefix(self._prefix)
        known = self._compiled.get(name)
        if known is None or len(name) == len(target):
            return self._compile(name if len(name) < len(target) else "", target)
        return known

    def _operation(self, name: str) -> _Compiled:
        return self._compiled.get(name) or self._compile(name, name)

    def _compile(self, name: str, asked: str) -> _Compiled:
        operation = self._model.operation(name)
        if operation is None:
            raise ApiFault("UnknownOperationException", f"{self._service} has no operation {asked[:200]!r}")
        decode = self._shapes.decoder(operation.input) if operation.input else None
        encode = self._shapes.encoder(operation.output) if operation.output else None
        self._compiled[name] = made = _Compiled(name, decode, encode, operation.output is not None)
        return made


def load_json(body: bytes) -> Any:
    """Any JSON value. Raises ApiFault SerializationException."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiFault("SerializationException", f"The body is not JSON: {error}") from error


def decode_json(decode: Decoder, value: object) -> dict[str, Any]:
    """The members in a JSON body. Raises ApiFault SerializationException, naming the member."""
    try:
        members: dict[str, Any] = decode(value)
    except Mismatch as mismatch:
        raise ApiFault("SerializationException", str(mismatch)) from mismatch
    except RecursionError as error:
        raise ApiFault("SerializationException", "The body is nested too deeply") from error
    return members
