"""botocore's client side as the oracle: params → the request it would send, our response → what it would read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

ENDPOINT = "http://127.0.0.1:8470"


@lru_cache(maxsize=32)
def service_model(service: str) -> ServiceModel:
    """botocore's own loader, not ours: an oracle must not share our mistakes."""
    return ServiceModel(Loader().load_service_model(service, "service-2"), service)


@dataclass(frozen=True, slots=True)
class Oracle:
    """One service's client over one protocol."""

    service: str
    protocol: str

    def operation(self, name: str) -> OperationModel:
        return service_model(self.service).operation_model(name)

    def request(self, name: str, params: dict[str, Any]) -> HttpRequest:
        """What the client would put on the wire, unsigned."""
        operation = self.operation(name)
        serializer = create_serializer(self.protocol, include_validation=False)
        description = serializer.serialize_to_request(params, operation)
        prepare_request_dict(description, ENDPOINT, context={"client_config": None})
        prepared = create_request_object(description).prepare()
        url = urlsplit(prepared.url)
        body = prepared.body
        raw = body.read() if hasattr(body, "read") else body.encode() if isinstance(body, str) else bytes(body or b"")
        headers = [(key, _text(value)) for key, value in prepared.headers.items()]
        return HttpRequest(prepared.method, url.path, url.query, Headers(headers), raw)

    def result(self, name: str, response: HttpResponse) -> dict[str, Any]:
        """What the client would hand to its caller, without ResponseMetadata."""
        operation = self.operation(name)
        parsed = create_parser(self.protocol).parse(_response_dict(operation, response), operation.output_shape)
        parsed.pop("ResponseMetadata", None)
        for member, value in parsed.items():
            if isinstance(value, io.BytesIO):
                parsed[member] = value.read()
        return parsed

    def error(self, name: str, response: HttpResponse) -> dict[str, Any]:
        """What the client's ClientError would carry."""
        operation = self.operation(name)
        shape = operation.output_shape
        return create_parser(self.protocol).parse(_response_dict(None, response), shape)

    def error_members(self, shape: Shape, response: HttpResponse) -> dict[str, Any]:
        return create_parser(self.protocol).parse(_response_dict(None, response), shape)


def _response_dict(operation: OperationModel | None, response: HttpResponse) -> dict[str, Any]:
    assert isinstance(response.body, bytes)
    streaming = operation is not None and operation.has_streaming_output
    return {
        "status_code": response.status,
        "headers": HeadersDict(dict(response.headers.items())),
        "body": io.BytesIO(response.body) if streaming else response.body,
        "context": {"operation_name": operation.name if operation else ""},
    }


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)
