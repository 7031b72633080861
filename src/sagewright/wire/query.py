"""The query protocol (sts, iam, cloudwatch): a form in, XML out.

    Action=GetRole&RoleName=x              Names.member.1=a   Map.entry.1.key=k   Map.entry.1.value=v   A.B=nested

Owns: both directions of the protocol and its faults. Does not own: elements by shape (`xml_shapes`), limits.
Source: smithy.io "AWS Query protocol". GET with the same parameters in the query string works too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sagewright.wire.bindings import parse_query, scalar_parser
from sagewright.wire.bodies import whole_body
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse
from sagewright.wire.shapes import Mismatch, Model, Operation, Shape, error_code, error_status, lower_camel
from sagewright.wire.xml_shapes import Encoder, XmlShapes
from sagewright.wire.xml_tree import DECLARATION, escaped, legible

_CONTENT_TYPE = "text/xml"
_MAX_STEPS = 64


class Form:
    """One name of a form, split at its dots: the text at it and the names below it."""

    __slots__ = ("below", "text")

    def __init__(self) -> None:
        self.text: str | None = None
        self.below: dict[str, Form] = {}

    def put(self, name: str, text: str) -> None:
        steps = name.split(".")
        if len(steps) > _MAX_STEPS:
            raise _malformed(f"the parameter {name[:80]}... is nested too deeply")
        place = self
        for step in steps:
            place = place.below.setdefault(step, Form())
        place.text = text

    def numbered(self) -> list[Form]:
        """`1`, `2`, ... in order; gaps are closed up, as AWS does."""
        numbers = [name for name in self.below if name.isascii() and name.isdecimal() and len(name) < 10]
        return [self.below[name] for name in sorted(numbers, key=int)]


Decoder = Callable[[Form], Any]


class QueryCodec:
    """One service over the query protocol."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._service = model.service
        self._namespace: str = model.metadata.get("xmlNamespace", "")
        self._decoders: dict[str, Decoder] = {}
        self._shapes = XmlShapes()
        self._operations: dict[str, Operation] = {}

    def decode(self, request: HttpRequest) -> Call:
        parameters = self._parameters(request)
        name = parameters.pop("Action", "")
        operation = self._operation(name)
        if operation.input is None:
            return Call(self._service, name, {})
        form = Form()
        for key, text in parameters.items():
            form.put(key, text)
        try:
            return Call(self._service, name, self._decoder(operation.input)(form))
        except Mismatch as mismatch:
            raise _malformed(str(mismatch)) from mismatch

    def encode(self, operation: str, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        known = self._operation(operation)
        out = [DECLARATION, f'<{operation}Response xmlns="{self._namespace}">']
        if known.output is not None:
            self._encoder(known.output)(out, known.result_wrapper or f"{operation}Result", result)
        out.append(f"<ResponseMetadata><RequestId>{escaped(request_id)}</RequestId></ResponseMetadata>")
        out.append(f"</{operation}Response>")
        return self._response(200, out, request_id)

    def encode_fault(self, operation: str | None, fault: ApiFault, request_id: str) -> HttpResponse:
        error = self._model.error(fault.code)
        code = error_code(error) if error is not None else fault.code
        blame = "Receiver" if fault.is_server_fault else "Sender"
        out = [DECLARATION, f'<ErrorResponse xmlns="{self._namespace}"><Error><Type>{blame}</Type>']
        out.append(f"<Code>{escaped(code)}</Code><Message>{escaped(legible(fault.message))}</Message>")
        for name, member in (error.members if error is not None else {}).items():
            if (value := fault.members.get(name)) is not None:
                self._encoder(member)(out, member.wire_name or name, value)
        out.append(f"</Error><RequestId>{escaped(request_id)}</RequestId></ErrorResponse>")
        response = self._response(error_status(error, fault.status), out, request_id)
        for name, text in fault.headers.items():
            response.headers.add(name, text)
        return response

    def _encoder(self, shape: Shape) -> Encoder:
        return self._shapes.encoder(shape)

    def _response(self, status: int, out: list[str], request_id: str) -> HttpResponse:
        headers = Headers((("x-amzn-requestid", request_id), ("content-type", _CONTENT_TYPE)))
        return HttpResponse(status, headers, "".join(out).encode("utf-8"))

    def _parameters(self, request: HttpRequest) -> dict[str, str]:
        """Query string and form together; the form wins."""
        try:
            found = parse_query(request.raw_query)
            if request.method == "POST":
                found |= parse_query(whole_body(request).decode("utf-8").strip())
        except ValueError as error:
            if request.body is None and request.stream is not None:
                raise
            raise _malformed("the parameters are not percent-encoded UTF-8") from error
        return {name: texts[-1] for name, texts in found.items()}

    def _operation(self, name: str) -> Operation:
        known = self._operations.get(name)
        if known is None:
            if not name:
                raise ApiFault("MissingAction", f"The request must name an operation of {self._service} in Action")
            known = self._model.operation(name)
            if known is None:
                version = self._model.metadata.get("apiVersion", "")
                raise ApiFault("InvalidAction", f"Could not find operation {name[:200]} for version {version}")
            self._operations[name] = known
        return known

    def _decoder(self, shape: Shape) -> Decoder:
        if shape.type == "structure":
            return self._decoders.get(shape.name) or self._structure(shape)
        if shape.type == "list":
            return self._list(shape)
        return self._map(shape) if shape.type == "map" else _scalar(shape)

    def _structure(self, shape: Shape) -> Decoder:
        members: list[tuple[str, str, Decoder]] = []

        def decode(form: Form) -> dict[str, Any]:
            found = {}
            name = ""
            try:
                for name, wire, read in members:
                    place = form.below.get(wire)
                    if place is not None:
                        found[name] = read(place)
            except Mismatch as mismatch:
                mismatch.under(lower_camel(name))
                raise
            return found

        self._decoders[shape.name] = decode  # before its members: shapes refer to themselves
        for name, member in shape.members.items():
            members.append((name, _parameter(name, member), self._decoder(member)))
        return decode

    def _list(self, shape: Shape) -> Decoder:
        each = self._decoder(shape.member)
        tag = None if shape.flattened else shape.member.wire_name or "member"

        def decode(form: Form) -> list[Any]:
            place = form if tag is None else form.below.get(tag)
            found: list[Any] = []
            try:
                for item in place.numbered() if place else ():
                    found.append(each(item))
            except Mismatch as mismatch:
                mismatch.under(f"{len(found) + 1}.member")
                raise
            return found

        return decode

    def _map(self, shape: Shape) -> Decoder:
        read_key, read_value = self._decoder(shape.key), self._decoder(shape.value)
        key_name, value_name = shape.key.wire_name or "key", shape.value.wire_name or "value"
        flattened = shape.flattened

        def decode(form: Form) -> dict[str, Any]:
            place = form if flattened else form.below.get("entry")
            found = {}
            for item in place.numbered() if place else ():
                key, value = item.below.get(key_name), item.below.get(value_name)
                if key is None or value is None:
                    raise Mismatch(f"An entry of a map must have {key_name} and {value_name}")
                found[read_key(key)] = read_value(value)
            return found

        return decode


def _parameter(name: str, member: Shape) -> str:
    """A member's name in a form: a flattened list goes by its elements' name where they have one."""
    if member.type == "list" and member.flattened and member.member.wire_name:
        return member.member.wire_name
    return member.wire_name or name


def _scalar(shape: Shape) -> Decoder:
    parse = scalar_parser(shape)

    def decode(form: Form) -> Any:
        if form.text is None:
            raise Mismatch(f"A {shape.type} was expected, not a structure")
        try:
            return parse(form.text)
        except ValueError as error:
            raise Mismatch(f"{form.text[:200]!r} must be {error}") from error

    return decode


def _malformed(why: str) -> ApiFault:
    return ApiFault("MalformedQueryString", f"The query string contains a syntax error: {why}")
