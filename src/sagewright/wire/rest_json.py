"""rest-json (sagemaker-runtime, sagemaker-metrics, featurestore ...): HTTP bindings around JSON bodies.

Owns: JSON bodies and faults of the protocol. Does not own: bindings (`rest`), values by shape (`json_shapes`).
Source: smithy.io "AWS REST JSON 1.0 protocol". An event stream goes out as the bytes that the operation yields:
framing is the router's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from sagewright.wire.bindings import BadText, OutputBinding
from sagewright.wire.faults import ApiFault
from sagewright.wire.json_rpc import decode_json, load_json
from sagewright.wire.json_shapes import JsonShapes, plain
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from sagewright.wire.rest import Compiled, RestCodec
from sagewright.wire.shapes import Model, Shape, error_status


class RestJsonCodec(RestCodec):
    """One service over rest-json."""

    def __init__(self, model: Model) -> None:
        super().__init__(model)
        self._shapes = JsonShapes()

    def encode_fault(self, operation: str | None, fault: ApiFault, request_id: str) -> HttpResponse:
        error = self._model.error(fault.code)
        code = error.name if error is not None else fault.code
        body = {"__type": code, "message": fault.message, "Message": fault.message}
        headers = self._base_headers(request_id)
        headers.add("content-type", "application/json")
        headers.add("x-amzn-errortype", code)
        if error is not None:
            for name, text in OutputBinding(error).headers(fault.members):
                headers.add(name, text)
            body.update(self._error_members(error, fault.members))
        for name, text in fault.headers.items():
            headers.add(name, text)
        return HttpResponse(error_status(error, fault.status), headers, orjson.dumps(body, default=plain))

    def _error_members(self, error: Shape, members: Mapping[str, Any]) -> dict[str, Any]:
        encode = self._shapes.encoder(error)
        inside = {name for name, member in error.members.items() if member.location is None}
        found: dict[str, Any] = encode({n: v for n, v in members.items() if n in inside}) if encode else {}
        return found

    def _base_headers(self, request_id: str) -> Headers:
        return Headers((("x-amzn-requestid", request_id),))

    def _parse_body(self, shape: Shape, body: bytes) -> Any:
        value = load_json(body)
        found = {} if value is None else decode_json(self._shapes.decoder(shape), value)
        if shape.type != "structure":
            return found
        elsewhere = [name for name, member in shape.members.items() if member.location is not None]
        return {name: item for name, item in found.items() if name not in elsewhere}

    def _write_body(self, compiled: Compiled, shape: Shape, value: Mapping[str, Any]) -> tuple[bytes, str]:
        elsewhere = [name for name, member in shape.members.items() if member.location is not None]
        encode = self._shapes.encoder(shape)
        inside = {name: item for name, item in value.items() if name not in elsewhere} if elsewhere else value
        return orjson.dumps(encode(inside) if encode else inside, default=plain), "application/json"

    def _bad_text(self, error: BadText) -> ApiFault:
        return ApiFault("SerializationException", str(error))

    def _bad_uri(self) -> ApiFault:
        return ApiFault("SerializationException", "The request's path or query string is not percent-encoded UTF-8")

    def _no_route(self, request: HttpRequest) -> ApiFault:
        sentence = f"{self._service} has no operation at {request.method} {request.raw_path[:200]}"
        return ApiFault("UnknownOperationException", sentence, 404)
