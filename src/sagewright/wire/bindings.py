"""Where a REST protocol puts the members of an operation: path, query string, headers, status, body.

Owns: the text forms of scalars outside bodies, and per-operation tables of who goes where.
Does not own: bodies (`json_shapes`, `xml_shapes`), finding the operation (`routes`).
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from sagewright.wire import timestamps
from sagewright.wire.messages import Headers
from sagewright.wire.shapes import INTEGER_BOUNDS, Shape

Parser = Callable[[str], Any]
Formatter = Callable[[Any], str]
Query = Mapping[str, list[str]]

_INTEGER = re.compile(r"[+-]?[0-9]{1,19}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_ITEM = re.compile(r'\s*(?:"((?:[^"\\]|\\.)*)"|([^,]*))\s*(?:,|$)')


class BadText(ValueError):
    """A path label, query value or header that is not what the model says."""

    def __init__(self, name: str, value: str, wanted: str) -> None:
        super().__init__(f"{name} must be {wanted}, and {value[:200]!r} is not")
        self.name = name
        self.value = value
        self.wanted = wanted


def percent_decoded(text: str) -> str:
    """Decoded exactly once; `+` stays. Raises ValueError when the bytes are not UTF-8."""
    return text if "%" not in text and text.isascii() else unquote_to_bytes(text).decode("utf-8")


def parse_query(raw_query: str) -> dict[str, list[str]]:
    """Every parameter in order of appearance; one without `=` has the value "". Raises ValueError."""
    found: dict[str, list[str]] = {}
    for part in raw_query.split("&"):
        if part:
            name, _, value = part.replace("+", " ").partition("=")
            found.setdefault(percent_decoded(name), []).append(percent_decoded(value))
    return found


def folded(headers: Headers) -> dict[str, str]:
    """Headers for look-up; repeated ones are joined by commas, as HTTP reads them."""
    found: dict[str, str] = {}
    for name, value in headers:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def header_text(text: str) -> str:
    """`text` fit for a header: it cannot start another one, and what Latin-1 lacks goes out as UTF-8 bytes."""
    if text.isascii() and text.isprintable():
        return text
    text = _CONTROL.sub(" ", text)
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode("latin-1")
    return text


def parse_integer(text: str, kind: str = "long") -> int:
    """Raises ValueError, also outside the range of `integer` or `long`."""
    least, most = INTEGER_BOUNDS[kind]
    if not _INTEGER.fullmatch(text) or not least <= int(text) <= most:
        raise ValueError("an integer in range")
    return int(text)


def parse_float(text: str) -> float:
    if text in _SPECIAL_FLOATS:
        return _SPECIAL_FLOATS[text]
    if not _FLOAT.fullmatch(text):
        raise ValueError("a number")
    return float(text)


def format_float(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def parse_boolean(text: str) -> bool:
    lowered = text.lower()
    if lowered not in ("true", "false"):
        raise ValueError("true or false")
    return lowered == "true"


def parse_blob(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("base64") from error


def scalar_parser(shape: Shape) -> Parser:
    """Text to value. Raises ValueError whose message says what would be right."""
    if shape.type in INTEGER_BOUNDS:
        return lambda text: parse_integer(text, shape.type)
    parsers: dict[str, Parser] = {
        "timestamp": timestamps.from_text,
        "boolean": parse_boolean,
        "float": parse_float,
        "double": parse_float,
        "blob": parse_blob,
    }
    return parsers.get(shape.type, str)


def scalar_formatter(shape: Shape, default_timestamp: str) -> Formatter:
    if shape.type == "timestamp":
        form = shape.traits.get("timestampFormat")
        return lambda moment: timestamps.format_as(form, default_timestamp, _moment(moment))
    formatters: dict[str, Formatter] = {
        "boolean": lambda value: "true" if value else "false",
        "float": format_float,
        "double": format_float,
        "blob": lambda value: base64.b64encode(value).decode("ascii"),
    }
    return formatters.get(shape.type, str)


def _moment(value: Any) -> Any:
    return timestamps.from_text(value) if isinstance(value, str) else value


def _header_parser(shape: Shape) -> Parser:
    if shape.type == "list":
        each = scalar_parser(shape.member)
        return lambda text: [each(item) for item in split_list(text)]
    return _parse_json_value if shape.traits.get("jsonvalue") else scalar_parser(shape)


def _header_formatter(shape: Shape) -> Formatter:
    if shape.type == "list":
        each = scalar_formatter(shape.member, "rfc822")
        return lambda values: ",".join(_quoted(each(value)) for value in values)
    if shape.traits.get("jsonvalue"):
        return lambda value: base64.b64encode(orjson.dumps(value)).decode("ascii")
    return scalar_formatter(shape, "rfc822")


def _quoted(item: str) -> str:
    if '"' not in item and "," not in item:
        return item
    return '"' + item.replace('"', '\\"') + '"'


def split_list(text: str) -> list[str]:
    """A list header's elements; one with a comma or a quote in it comes quoted."""
    items = []
    position = 0
    while position < len(text):
        match = _HEADER_ITEM.match(text, position)
        if match is None:  # a quote that never ends: taken as it stands
            items.append(text[position:].strip())
            break
        items.append(match[1].replace('\\"', '"') if match[1] is not None else match[2].strip())
        position = match.end()
    return items


def _parse_json_value(text: str) -> Any:
    try:
        return orjson.loads(parse_blob(text))
    except orjson.JSONDecodeError as error:
        raise ValueError("JSON in base64") from error


@dataclass(frozen=True, slots=True)
class _Bound:
    """One member outside the body: its name in the model and on the wire, and how its text reads."""

    member: str
    wire: str
    parse: Parser
    empty_is_absent: bool
    many: bool


class _Binding:
    """Which members are in the body, and which one is the body itself."""

    def __init__(self, shape: Shape | None) -> None:
        members = shape.members if shape else {}
        self.payload = shape.payload if shape else None
        self.payload_shape = members[self.payload] if self.payload else None
        self.outside = frozenset(name for name, member in members.items() if member.location is not None)
        self.has_body = len(self.outside) < len(members)
        self._prefixes = [(n, (m.wire_name or "").lower()) for n, m in members.items() if m.location == "headers"]


class InputBinding(_Binding):
    """Reads an operation's members from everywhere but the body."""

    def __init__(self, shape: Shape | None) -> None:
        super().__init__(shape)
        members = shape.members if shape else {}
        self._labels = _bound(members, "uri", scalar_parser)
        self._query = _bound(members, "querystring", _query_parser)
        self._headers = _bound(members, "header", _header_parser)
        self._rest = [n for n, m in members.items() if m.location == "querystring" and m.type == "map"]

    @property
    def query_names(self) -> list[str]:
        return [bound.wire for bound in self._query]

    def read(self, labels: Mapping[str, str], query: Query, headers: Mapping[str, str]) -> dict[str, Any]:
        """Raises BadText."""
        found: dict[str, Any] = {}
        for bound in self._labels:
            found[bound.member] = _parsed(bound, labels[bound.wire])
        for bound in self._query:
            if bound.wire in query:
                _read_query(bound, query[bound.wire], found)
        for bound in self._headers:
            text = headers.get(bound.wire)
            if text is not None and not (bound.empty_is_absent and not text):
                found[bound.member] = _parsed(bound, text)
        for member, prefix in self._prefixes:
            if entries := {n[len(prefix) :]: v for n, v in headers.items() if n.startswith(prefix)}:
                found[member] = entries
        for member in self._rest:
            if entries := {name: values[0] for name, values in query.items() if name not in self.query_names}:
                found[member] = entries
        return found


def _bound(members: Mapping[str, Shape], location: str, parser: Callable[[Shape], Parser]) -> list[_Bound]:
    return [
        _Bound(
            member=name,
            wire=_wire_name(name, shape, location),
            parse=parser(shape),
            empty_is_absent=shape.type not in ("string", "map"),
            many=shape.type == "list",
        )
        for name, shape in members.items()
        if shape.location == location and shape.type != "map"
    ]


def _wire_name(name: str, shape: Shape, location: str) -> str:
    wire = shape.wire_name or name
    return wire.lower() if location == "header" else wire


def _query_parser(shape: Shape) -> Parser:
    return scalar_parser(shape.member if shape.type == "list" else shape)


def _read_query(bound: _Bound, texts: list[str], found: dict[str, Any]) -> None:
    if bound.many:
        found[bound.member] = [_parsed(bound, text) for text in texts]
    elif texts[0] or not bound.empty_is_absent:
        found[bound.member] = _parsed(bound, texts[0])


def _parsed(bound: _Bound, text: str) -> Any:
    try:
        return bound.parse(text)
    except ValueError as error:
        raise BadText(bound.wire, text, str(error)) from error


class OutputBinding(_Binding):
    """Writes an operation's (or an error's) members to everywhere but the body."""

    def __init__(self, shape: Shape | None) -> None:
        super().__init__(shape)
        members = shape.members if shape else {}
        self.status_member = next((n for n, m in members.items() if m.location == "statusCode"), "statusCode")
        self._headers = [
            (name, (member.wire_name or name).lower(), _header_formatter(member))
            for name, member in members.items()
            if member.location == "header"
        ]

    def inside(self, result: Mapping[str, Any]) -> Mapping[str, Any]:
        """The members that go into the body."""
        return {name: item for name, item in result.items() if name not in self.outside} if self.outside else result

    def headers(self, result: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
        for member, name, form in self._headers:
            value = result.get(member)
            if value is not None and value != []:
                yield name, header_text(form(value))
        for member, prefix in self._prefixes:
            for name, text in (result.get(member) or {}).items():
                yield header_text(prefix + name), header_text(text)
