"""What rest-json and rest-xml share: finding the operation, members outside the body, streams, statuses.

Owns: everything but the body's format and how a fault looks.
Does not own: those two (`rest_json`, `rest_xml`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from sagewright.wire.bindings import BadText, InputBinding, OutputBinding, folded, parse_query
from sagewright.wire.bodies import whole_body
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from sagewright.wire.routes import Router
from sagewright.wire.shapes import Model, Operation, Shape

Body = bytes | AsyncIterator[bytes]


class Compiled:
    """One operation, ready for use."""

    __slots__ = ("input", "model", "output")

    def __init__(self, operation: Operation) -> None:
        self.model = operation
        self.input = InputBinding(operation.input)
        self.output = OutputBinding(operation.output)

    @property
    def takes_bytes(self) -> bool:
        """Whether the body is a member as it is, and may come as a stream."""
        return self.input.payload_shape is not None and self.input.payload_shape.type == "blob"


class RestCodec(ABC):
    """The shared half of both REST codecs; a protocol adds the six methods at the end."""

    def __init__(self, model: Model, without: Iterable[str] = ()) -> None:
        self._model = model
        self._service = model.service
        self._router = Router(model, without)
        self._compiled: dict[str, Compiled] = {}

    def decode(self, request: HttpRequest) -> Call:
        query, headers = self._read(request)
        operation, labels = self._find(request, query, headers)
        try:
            params = operation.input.read(labels, query, headers)
        except BadText as error:
            raise self._bad_text(error) from error
        name = operation.model.name
        if operation.takes_bytes and operation.input.payload:
            if request.body is None and request.stream is not None:
                return Call(self._service, name, params, request.stream)
            params[operation.input.payload] = request.body or b""
        else:
            self._read_body(operation, request, params)
        return Call(self._service, name, params)

    def streams_body(self, request: HttpRequest) -> bool:
        """Whether this request's body may be left unread for `Call.stream`. Raises ApiFault like `decode`."""
        query, headers = self._read(request)
        return self._find(request, query, headers)[0].takes_bytes

    def encode(self, operation: str, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        compiled = self._operation(operation)
        output = compiled.output
        headers = self._base_headers(request_id)
        for name, text in output.headers(result):
            headers.add(name, text)
        status = result.get(output.status_member) or compiled.model.status
        body, content_type = self._body_of(compiled, result)
        if content_type and "content-type" not in headers:
            headers.add("content-type", content_type)
        length = None if isinstance(body, bytes) else result.get("ContentLength")
        return HttpResponse(status, headers, body, length)

    def _body_of(self, compiled: Compiled, result: Mapping[str, Any]) -> tuple[Body, str]:
        output = compiled.output
        """The body and its content type; that of raw bytes is the operation's to say (a header member)."""
        if output.payload and output.payload_shape:
            value = result.get(output.payload)
            shape = output.payload_shape
            if shape.traits.get("eventstream"):
                return value or b"", "application/vnd.amazon.eventstream"
            if shape.type in ("blob", "string"):
                return _raw(value), ""
            return self._write_body(compiled, shape, value) if value is not None else (b"", "")
        if not output.has_body or compiled.model.output is None:
            return b"", ""
        return self._write_body(compiled, compiled.model.output, result)

    def _read(self, request: HttpRequest) -> tuple[dict[str, list[str]], dict[str, str]]:
        try:
            return parse_query(request.raw_query), folded(request.headers)
        except ValueError as error:
            raise self._bad_uri() from error

    def _find(
        self, request: HttpRequest, query: Mapping[str, list[str]], headers: Mapping[str, str]
    ) -> tuple[Compiled, dict[str, str]]:
        try:
            found = self._router.find(request.method, request.raw_path, query, headers)
        except ValueError as error:
            raise self._bad_uri() from error
        if found is None:
            raise self._no_route(request)
        name, labels = found
        return self._operation(name), labels

    def _operation(self, name: str) -> Compiled:
        known = self._compiled.get(name)
        if known is None:
            operation = self._model.operation(name)
            if operation is None:
                raise ApiFault("UnknownOperationException", f"{self._service} has no operation {name!r}", 404)
            known = self._compiled[name] = Compiled(operation)
        return known

    def _read_body(self, operation: Compiled, request: HttpRequest, params: dict[str, Any]) -> None:
        """Add the members in the body to `params`. Raises ApiFault."""
        payload, shape = operation.input.payload, operation.input.payload_shape
        if not payload and not operation.input.has_body:
            return
        body = self._whole(request)
        if payload and shape and shape.type == "string":
            params[payload] = self._text(body)
        elif payload and shape:
            if body.strip():
                params[payload] = self._parse_body(shape, body)
        elif operation.model.input and body.strip():
            params.update(self._parse_body(operation.model.input, body))

    def _text(self, body: bytes) -> str:
        try:
            return body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ApiFault("SerializationException", f"The body is not UTF-8 text: {error}") from error

    def _whole(self, request: HttpRequest) -> bytes:
        return whole_body(request)

    @abstractmethod
    def _base_headers(self, request_id: str) -> Headers: ...

    @abstractmethod
    def _parse_body(self, shape: Shape, body: bytes) -> Any:
        """The value in a body that is not empty. Raises ApiFault."""

    @abstractmethod
    def _write_body(self, compiled: Compiled, shape: Shape, value: Mapping[str, Any]) -> tuple[bytes, str]:
        """A structure as body, and its content type."""

    @abstractmethod
    def _bad_text(self, error: BadText) -> ApiFault: ...

    @abstractmethod
    def _bad_uri(self) -> ApiFault: ...

    @abstractmethod
    def _no_route(self, request: HttpRequest) -> ApiFault: ...


def _raw(value: Any) -> Body:
    if value is None:
        return b""
    return value.encode("utf-8") if isinstance(value, str) else value
