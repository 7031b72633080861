"""rest-json (sagemaker-runtime, sagemaker-metrics, featurestore ...): HTTP bindings around JSON bodies.

Owns: JSON bodies and faults of the protocol. Does not own: bindings (`rest`), values by shape (`json_shapes`).
Source: smithy.io "AWS REST JSON 1.0 protocol". An event stream goes out as the bytes that the operation yields:
framing is the router's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from sagewright.wire.bindings import BadText, OutputBinding, header_text
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
            binding = OutputBinding(error)
            for name, text in binding.headers(fault.members):
                headers.add(name, text)
            encode = self._shapes.encoder(error)
            body.update(encode(binding.inside(fault.members)) if encode else {})
        for name, text in fault.headers.items():
            headers.add(name, header_text(text))
        return HttpResponse(error_status(error, fault.status), headers, orjson.dumps(body, default=plain))

    def _base_headers(self, request_id: str) -> Headers:
        return Headers((("x-amzn-requestid", request_id),))

    def _parse_body(self, shape: Shape, body: bytes) -> Any:
        value = load_json(body)
        return {} if value is None else decode_json(self._shapes.decoder(shape), value)

    def _write_body(self, compiled: Compiled, shape: Shape, value: Mapping[str, Any]) -> tuple[bytes, str]:
        encode = self._shapes.encoder(shape)
        return orjson.dumps(encode(value) if encode else value, default=plain), "application/json"

    def _bad_text(self, error: BadText) -> ApiFault:
        return ApiFault("SerializationException", str(error))

    def _bad_uri(self) -> ApiFault:
        return ApiFault("SerializationException", "The request's path or query string is not percent-encoded UTF-8")

    def _no_route(self, request: HttpRequest) -> ApiFault:
        sentence = f"{self._service} has no operation at {request.method} {request.raw_path[:200]}"
        return ApiFault("UnknownOperationException", sentence, 404)
