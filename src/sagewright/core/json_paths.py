"""The part of JSONPath that DataProcessing knows (contract C.6): parsing and applying. Pure.

    $   .name   ['a']   ['a','b']   [3]   [1,3,-1]   [start:end]   .*   [*]

A slice ends before `end`, as in JsonPath. An index that does not exist is an error; so is a name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

_STEP: Final = re.compile(
    r"""\.(?P<name>[^.\[\]'"*\s]+)
      | (?P<star>\.\*|\[\s*\*\s*\])
      | \[\s*(?P<names>'[^']*'(?:\s*,\s*'[^']*')*)\s*\]
      | \[\s*(?P<indexes>-?\d+(?:\s*,\s*-?\d+)*)\s*\]
      | \[\s*(?P<start>-?\d*)\s*:\s*(?P<end>-?\d*)\s*\]""",
    re.VERBOSE,
)
_QUOTED: Final = re.compile(r"'([^']*)'")

Step = Callable[[Any], Any]


class PathError(ValueError):
    """The text is no path that is known here, or there is nothing at its end."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    """`indexes_only`: it can be applied to a row of CSV."""

    text: str
    steps: tuple[Step, ...]
    indexes_only: bool

    @property
    def is_all(self) -> bool:
        return not self.steps

    def apply(self, value: Any) -> Any:
        """Raises PathError."""
        for step in self.steps:
            try:
                value = step(value)
            except (KeyError, IndexError, TypeError) as error:
                raise PathError(f"there is nothing at {self.text} ({_why(error)})") from None
        return value


def parse(text: str) -> JsonPath:
    """Raises PathError."""
    if not text.startswith("$"):
        raise PathError(f"'{text}' does not begin with $")
    steps, position, named = list[Step](), 1, False
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None:
            raise PathError(f"'{text}' cannot be read from '{text[position:]}' on")
        steps.append(_step(found))
        named = named or bool(found["name"] or found["names"])
        position = found.end()
    return JsonPath(text, tuple(steps), not named)


def _step(found: re.Match[str]) -> Step:
    if name := found["name"]:
        return lambda value: _member(value, name)
    if found["star"]:
        return lambda value: list(value.values()) if isinstance(value, dict) else list(value)
    if found["names"]:
        names = _QUOTED.findall(found["names"])
        if len(names) == 1:
            return lambda value: _member(value, names[0])
        return lambda value: {each: _member(value, each) for each in names}
    if found["indexes"]:
        indexes = [int(each) for each in found["indexes"].split(",")]
        if len(indexes) == 1:
            return lambda value: _element(value, indexes[0])
        return lambda value: [_element(value, each) for each in indexes]
    start, end = (int(text) if text else None for text in (found["start"], found["end"]))
    return lambda value: _slice(value, start, end)


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise TypeError("it is not an object")
    return value[name]


def _element(value: Any, index: int) -> Any:
    if not isinstance(value, list):
        raise TypeError("it is not an array")
    return value[index]


def _slice(value: Any, start: int | None, end: int | None) -> Any:
    if not isinstance(value, list):
        raise TypeError("it is not an array")
    if max(start or 0, 0) >= len(value) > 0 or (end or 0) > len(value):
        raise IndexError("out of range")
    return value[start:end]


def _why(error: Exception) -> str:
    return f"no member {error}" if isinstance(error, KeyError) else str(error)
