"""Random values of a shape, nasty on purpose, within what the protocol can carry.

One seed makes one value, so that a failure is repeated by its seed.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from botocore.model import Shape

NASTY = (
    "",
    " ",
    " leading",
    "trailing ",
    "two  spaces",
    "a+b%2Bc%20d",
    "<b>&amp;\"'</b>",
    "]]>",
    "..",
    "../../etc/passwd",
    "a//b/",
    "/",
    "ünïcødé",
    "日本語",
    "😀",
    "\u2028\u0085",
    "null",
    "true",
    "0",
    "line\nbreak\ttab",
    "a=b&c=d?e#f",
    "{x}",
    "x" * 300,
)
CONTROL = ("\x00", "a\x01b", "\r\n", "\x7f", "\ufffe")
_LABEL_SAFE = tuple(text for text in NASTY if text not in ("", ".."))
_HEADER = string.ascii_letters + string.digits + "-_.,;=/\"'+*()<>@:[]{}!?&%$#~^`|"
_RANGES = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_ZONES = (UTC, timezone(timedelta(hours=-7)), timezone(timedelta(hours=5, minutes=30)))


@dataclass(frozen=True, slots=True)
class Carrier:
    """What a protocol can carry in one direction."""

    control: bool = False  # control characters in body text
    microseconds: bool = True  # else milliseconds
    empty_maps: bool = True
    empty_structures: bool = True
    empty_flattened: bool = True


class Values:
    """Makes values of shapes from one seed."""

    def __init__(self, seed: int, carrier: Carrier, skip: frozenset[str] = frozenset()) -> None:
        self._random = random.Random(seed)
        self._carrier = carrier
        self._skip = skip

    def structure(self, shape: Shape, depth: int = 0) -> dict[str, Any]:
        names = [name for name in shape.members if name not in self._skip]
        if getattr(shape, "is_tagged_union", False):
            return self._one_of(shape, names, depth)
        found = {}
        eager = self._random.choice((0.1, 0.5, 0.9))
        for name in names:
            required = name in shape.required_members
            if required or self._random.random() < eager / (1 + depth):
                value = self._member(shape.members[name], depth, required=required)
                if value is not None:
                    found[name] = value
        return found

    def _one_of(self, shape: Shape, names: list[str], depth: int) -> dict[str, Any]:
        for name in self._random.sample(names, len(names)):
            if (value := self._member(shape.members[name], depth, required=True)) is not None:
                return {name: value}
        return {}

    def _member(self, shape: Shape, depth: int, *, required: bool) -> Any:
        value = self.value(shape, depth + 1)
        if (value == {} and not self._carries_empty(shape)) or (value == [] and not self._carries_empty(shape)):
            return self.value(shape, depth + 1) or None if not required else self._insist(shape, depth)
        return value

    def _insist(self, shape: Shape, depth: int) -> Any:
        for _ in range(50):
            if value := self.value(shape, depth):
                return value
        return None

    def _carries_empty(self, shape: Shape) -> bool:
        if shape.type_name == "map":
            return self._carrier.empty_maps and shape.serialization.get("location") != "headers"
        if shape.type_name == "structure":
            return self._carrier.empty_structures
        if shape.serialization.get("location") in ("header", "querystring"):
            return False
        return self._carrier.empty_flattened or not shape.serialization.get("flattened")

    def value(self, shape: Shape, depth: int = 0) -> Any:
        kind = shape.type_name
        if kind == "structure":
            return self.structure(shape, depth)
        if kind == "list" and shape.serialization.get("location") == "header":
            return [self._element(shape.member) for _ in range(self._count(depth))]
        if kind == "list":
            made = [self.value(shape.member, depth + 1) for _ in range(self._count(depth))]
            return [item for item in made if item not in ({}, []) or self._carries_empty(shape.member)]
        if kind == "map":
            pairs = ((self.value(shape.key, depth + 1), self.value(shape.value, depth + 1)) for _ in range(3))
            header = shape.serialization.get("location") == "headers"
            made_pairs = list(pairs)[: self._count(depth)]
            if header:
                return {self._token(): self._header_text() for _ in range(self._count(depth))}
            return {k: v for k, v in made_pairs if v not in ({}, []) or self._carries_empty(shape.value)}
        return self._scalar(shape)

    def _element(self, shape: Shape) -> str:
        return self._random.choice(shape.enum) if shape.enum and self._random.random() < 0.7 else self._header_text()

    def _count(self, depth: int) -> int:
        return self._random.choice((0, 1, 2, 3)) if depth < 6 else 0

    def _scalar(self, shape: Shape) -> Any:
        kind, location = shape.type_name, shape.serialization.get("location")
        if kind == "boolean":
            return self._random.random() < 0.5
        if kind in _RANGES:
            least, most = _RANGES[kind]
            return self._random.choice((0, 1, -1, least, most, self._random.randint(least, most)))
        if kind in ("float", "double"):
            return self._random.choice(
                (0.0, -1.5, 1e-9, 1e300, self._random.random(), float(self._random.randint(-9, 9)))
            )
        if kind == "timestamp":
            return self._moment(whole=location == "header" or shape.serialization.get("timestampFormat") == "rfc822")
        if kind == "blob":
            return self._random.randbytes(self._random.choice((0, 1, 2, 3, 100)))
        return self._string(shape, location)

    def _moment(self, *, whole: bool) -> datetime:
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=self._random.randint(0, 4_000_000_000))
        micro = self._random.choice((0, 1000, 123_000, 999_000, self._random.randint(0, 999_999)))
        fraction = 0 if whole else micro if self._carrier.microseconds else micro // 1000 * 1000
        return moment.replace(microsecond=fraction).astimezone(self._random.choice(_ZONES))

    def _string(self, shape: Shape, location: str | None) -> str:
        if shape.enum and self._random.random() < 0.7:
            return self._random.choice(shape.enum)
        if location == "uri":
            return self._random.choice(_LABEL_SAFE)
        if location == "header":
            return self._header_text()
        roll = self._random.random()
        if roll < 0.5:
            return self._random.choice(NASTY)
        if roll < 0.6 and self._carrier.control:
            return self._random.choice(CONTROL)
        return "".join(self._random.choice(string.printable[:95] + "éß漢") for _ in range(self._random.randint(1, 20)))

    def _header_text(self) -> str:
        return "".join(self._random.choice(_HEADER + " ") for _ in range(self._random.randint(1, 20))).strip() or "x"

    def _token(self) -> str:
        return "".join(self._random.choice(string.ascii_lowercase + "-") for _ in range(self._random.randint(1, 8)))
