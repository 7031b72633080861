"""JSON values by shape, both directions, compiled once per shape into closures.

Owns: JSON ↔ Python values: timestamps, blobs, renamed members, nulls.
Does not own: where the JSON lies in a request (`json_rpc`, `rest_json`), limits (`validate`).

Decoders raise Mismatch in the words of AWS's own deserializer. Encoders write what the model has and drop the rest.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from sagewright.wire import timestamps
from sagewright.wire.shapes import INTEGER_BOUNDS, JAVA_NAMES, Mismatch, Shape, lower_camel

Decoder = Callable[[Any], Any]
Encoder = Callable[[Any], Any]

# A member's wire name → its own name, the JSON type that needs no decoding (or None), its decoder.
_Members = dict[str, tuple[str, type | None, Decoder]]

_AS_IS: dict[str, type] = {"string": str, "character": str, "boolean": bool}
_TOKENS = {str: "STRING_VALUE", int: "NUMBER_VALUE", float: "DECIMAL_VALUE", type(None): "NULL_VALUE"}
_SPECIAL_FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def not_a(wanted: str, value: object) -> Mismatch:
    """In AWS's words: `NUMBER_VALUE can not be converted to a String`."""
    if isinstance(value, dict):
        return Mismatch("Start of structure or map found where not expected")
    if isinstance(value, list):
        return Mismatch("Start of list found where not expected")
    token = f"{value!s}_VALUE".upper() if isinstance(value, bool) else _TOKENS[type(value)]
    article = "an" if wanted[0] in "AEIOU" else "a"
    return Mismatch(f"{token} can not be converted to {article} {wanted}")


class JsonShapes:
    """Compiled decoders and encoders of one service."""

    def __init__(self) -> None:
        self._decoders: dict[str, Decoder] = {}
        self._encoders: dict[str, Encoder | None] = {}

    def decoder(self, shape: Shape) -> Decoder:
        if shape.type not in _CONTAINER_DECODERS:
            return _scalar_decoder(shape)
        known = self._decoders.get(shape.name)
        return known or _CONTAINER_DECODERS[shape.type](self, shape)

    def encoder(self, shape: Shape) -> Encoder | None:
        """None when values of the shape are JSON already."""
        if shape.type not in _CONTAINER_ENCODERS:
            return _scalar_encoder(shape)
        if shape.name not in self._encoders:
            _CONTAINER_ENCODERS[shape.type](self, shape)
        return self._encoders[shape.name]

    def _structure_decoder(self, shape: Shape) -> Decoder:
        if shape.traits.get("document"):
            return lambda value: value
        members: _Members = {}

        def decode(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise not_a("Structure", value)
            found = {}
            name = ""
            try:
                for key, item in value.items():
                    entry = members.get(key)
                    if item is not None and entry is not None:
                        name, as_is, decoder = entry
                        found[name] = item if type(item) is as_is else decoder(item)
            except Mismatch as mismatch:
                mismatch.under(lower_camel(name))
                raise
            return found

        self._decoders[shape.name] = decode  # before its members: shapes refer to themselves
        for name, member in shape.members.items():
            members[member.wire_name or name] = (name, _AS_IS.get(member.type), self.decoder(member))
        return decode

    def _list_decoder(self, shape: Shape) -> Decoder:
        member = shape.member
        as_is = _AS_IS.get(member.type)
        decoder: Decoder

        def decode(value: Any) -> list[Any]:
            if type(value) is not list:
                raise not_a("List", value)
            found: list[Any] = []
            try:
                for item in value:
                    found.append(item if item is None or type(item) is as_is else decoder(item))
            except Mismatch as mismatch:
                mismatch.under(f"{len(found) + 1}.member")
                raise
            return found

        self._decoders[shape.name] = decode
        decoder = self.decoder(member)
        return decode

    def _map_decoder(self, shape: Shape) -> Decoder:
        as_is = _AS_IS.get(shape.value.type)
        decoder: Decoder

        def decode(value: Any) -> dict[str, Any]:
            if type(value) is not dict:
                raise not_a("Map", value)
            found = {}
            key = ""
            try:
                for key, item in value.items():
                    found[key] = item if item is None or type(item) is as_is else decoder(item)
            except Mismatch as mismatch:
                mismatch.under(f"{key}.member")
                raise
            return found

        self._decoders[shape.name] = decode
        decoder = self.decoder(shape.value)
        return decode

    def _structure_encoder(self, shape: Shape) -> None:
        if shape.traits.get("document"):
            self._encoders[shape.name] = None
            return
        members: dict[str, tuple[str, Encoder | None]] = {}

        def encode(value: Mapping[str, Any]) -> dict[str, Any]:
            found = {}
            for name, item in value.items():
                entry = members.get(name)
                if item is not None and entry is not None:
                    wire_name, encoder = entry
                    found[wire_name] = item if encoder is None else encoder(item)
            return found

        self._encoders[shape.name] = encode
        for name, member in shape.members.items():
            members[name] = (member.wire_name or name, self.encoder(member))

    def _list_encoder(self, shape: Shape) -> None:
        encoder: Encoder | None

        def encode(value: Any) -> list[Any]:
            return [item if encoder is None or item is None else encoder(item) for item in value]

        self._encoders[shape.name] = encode
        encoder = self.encoder(shape.member)
        if encoder is None:
            self._encoders[shape.name] = None

    def _map_encoder(self, shape: Shape) -> None:
        encoder: Encoder | None

        def encode(value: Mapping[str, Any]) -> dict[str, Any]:
            return {key: item if encoder is None else encoder(item) for key, item in value.items() if item is not None}

        self._encoders[shape.name] = encode
        encoder = self.encoder(shape.value)


_CONTAINER_DECODERS: dict[str, Callable[[JsonShapes, Shape], Decoder]] = {
    "structure": JsonShapes._structure_decoder,
    "list": JsonShapes._list_decoder,
    "map": JsonShapes._map_decoder,
}
_CONTAINER_ENCODERS: dict[str, Callable[[JsonShapes, Shape], None]] = {
    "structure": JsonShapes._structure_encoder,
    "list": JsonShapes._list_encoder,
    "map": JsonShapes._map_encoder,
}


def plain(value: Any) -> Any:
    """What orjson asks about: read-only mappings and other sequences become dicts and lists."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"a result holds a {type(value).__name__}, which the model does not say is JSON")


def _scalar_decoder(shape: Shape) -> Decoder:
    wanted = JAVA_NAMES[shape.type]
    if shape.type in _AS_IS:
        return _exactly(_AS_IS[shape.type], wanted)
    if shape.type in INTEGER_BOUNDS:
        return _integer(wanted, *INTEGER_BOUNDS[shape.type])
    if shape.type == "timestamp":
        return _timestamp
    return _blob if shape.type == "blob" else _float_of(wanted)


def _exactly(kind: type, wanted: str) -> Decoder:
    def decode(value: Any) -> Any:
        if type(value) is kind:
            return value
        raise not_a(wanted, value)

    return decode


def _integer(wanted: str, least: int, most: int) -> Decoder:
    def decode(value: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise not_a(wanted, value)
        if not least <= value <= most:
            raise Mismatch(f"NUMBER_VALUE {value} is outside the range of {wanted}")
        return value

    return decode


def _float_of(wanted: str) -> Decoder:
    def decode(value: Any) -> float:
        if type(value) is float or type(value) is int:
            return float(value)
        if type(value) is str and value in _SPECIAL_FLOATS:
            return _SPECIAL_FLOATS[value]
        raise not_a(wanted, value)

    return decode


def _timestamp(value: Any) -> datetime:
    try:
        if type(value) is float or type(value) is int:
            return timestamps.from_epoch(value)
        if type(value) is str:
            return timestamps.from_text(value)
    except ValueError as error:
        raise Mismatch(f"{error}: send seconds since 1970 as a number") from error
    raise not_a("Date", value)


def _blob(value: Any) -> bytes:
    if type(value) is not str:
        raise not_a("Blob", value)
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Mismatch("STRING_VALUE is not valid base64") from error


def _scalar_encoder(shape: Shape) -> Encoder | None:
    if shape.type == "timestamp":
        return _encode_iso if shape.traits.get("timestampFormat") == "iso8601" else _encode_timestamp
    if shape.type == "blob":
        return _encode_blob
    return _encode_float if shape.type in ("float", "double") else None


def _encode_timestamp(value: datetime | str | float) -> float:
    """A datetime; also the two forms in which the store keeps one."""
    if isinstance(value, int | float):
        return value
    return timestamps.to_epoch(timestamps.from_text(value) if isinstance(value, str) else value)


def _encode_iso(value: datetime) -> str:
    return timestamps.to_iso(value)


def _encode_blob(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")


def _encode_float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
