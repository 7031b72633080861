"""Required members, lengths, ranges, patterns and enums, in AWS's words.

Owns: the checks that the model states, compiled once per shape into closures.
Does not own: types (a codec refuses those while decoding), rules that no model states (operations).

    1 validation error detected: Value 'a b' at 'trainingJobName' failed to satisfy constraint: Member must ...

A checker returns the problems that it found; `_FINE` when there are none, which costs nothing to pass on.
Unknown members never reach us: codecs drop them, as AWS does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from sagewright.wire import models, patterns
from sagewright.wire.faults import ApiFault
from sagewright.wire.shapes import Operation, Shape, lower_camel

_CODES = {
    "cloudwatch": "ValidationError",
    "ecr": "InvalidParameterException",
    "iam": "ValidationError",
    "logs": "InvalidParameterException",
    "sagemaker-runtime": "ValidationError",
    "sts": "ValidationError",
}
_HIDDEN = object()  # a value that must not be repeated
_MOST = 100  # problems listed per container: a message is for people


class _Problem(NamedTuple):
    path: str
    value: object
    constraint: str

    def under(self, step: str) -> _Problem:
        return _Problem(f"{step}.{self.path}" if self.path else step, self.value, self.constraint)

    def __str__(self) -> str:
        return f"{_shown(self.value)} at '{self.path}' failed to satisfy constraint: {self.constraint}"


_Problems = Sequence[_Problem]
_Checker = Callable[[Any], _Problems]
_FINE: _Problems = ()


def validate(service: str, operation: str, params: Mapping[str, Any]) -> None:
    """Raises ApiFault: ValidationException, or what this service calls it. Lists every problem, not just the first.

    S3 (and any rest-xml service) has no such sentence: there only missing members are refused, one at a time.
    """
    check = _operation_checker(service, operation)
    if check is None:
        return
    try:
        problems = check(params)
    except RecursionError:
        raise ApiFault(_code(service), "The request is nested too deeply") from None
    if problems:
        raise _fault(service, operation, problems)


def _fault(service: str, operation: str, problems: _Problems) -> ApiFault:
    if _is_xml(service):
        return _missing_xml(models.model(service).operation(operation), problems[0])
    plural = "" if len(problems) == 1 else "s"
    sentences = "; ".join(str(problem) for problem in problems)
    return ApiFault(_code(service), f"{len(problems)} validation error{plural} detected: {sentences}")


def _code(service: str) -> str:
    return _CODES.get(service, "ValidationException")


def _is_xml(service: str) -> bool:
    return "rest-xml" in models.protocols(service)


def _missing_xml(operation: Operation | None, problem: _Problem) -> ApiFault:
    """S3's answers to a request that lacks something: they depend on where it should have been."""
    members = operation.input.members if operation and operation.input else {}
    top, _, rest = problem.path.partition(".")
    shape = next((member for name, member in members.items() if lower_camel(name) == top), None)
    if rest or shape is None or shape.location is None:
        if shape is not None and not rest:
            return ApiFault("MissingRequestBodyError", "Request body is empty.")
        return ApiFault(
            "MalformedXML",
            "The XML you provided was not well-formed or did not validate against our published schema: "
            f"{problem.path} is missing.",
        )
    kind = "header" if shape.location.startswith("header") else "parameter"
    return ApiFault("InvalidRequest", f"Missing required {kind} for this request: {shape.wire_name}")


@lru_cache(maxsize=4096)
def _operation_checker(service: str, operation: str) -> _Checker | None:
    found = models.model(service).operation(operation)
    if found is None or found.input is None:
        return None
    return _checks(service).checker(found.input)


@lru_cache(maxsize=64)
def _checks(service: str) -> _Checks:
    return _Checks(required_only=_is_xml(service))


class _Checks:
    """Compiled checkers of one service, by shape name. None: every value of the shape is fine."""

    def __init__(self, *, required_only: bool) -> None:
        self._required_only = required_only
        self._known: dict[str, _Checker | None] = {}

    def checker(self, shape: Shape) -> _Checker | None:
        if shape.name not in self._known:
            build = {"structure": self._structure, "list": self._list, "map": self._map}.get(shape.type)
            self._known[shape.name] = build(shape) if build else self._scalar(shape)
        return self._known[shape.name]

    def _is_union(self, shape: Shape) -> bool:
        return bool(shape.traits.get("union")) and not self._required_only

    def _scalar(self, shape: Shape) -> _Checker | None:
        return None if self._required_only else _scalar(shape)

    def _structure(self, shape: Shape) -> _Checker | None:
        required = [(name, _Problem(lower_camel(name), None, "Member must not be null")) for name in shape.required]
        checks: dict[str, tuple[str, _Checker]] = {}
        one_of = [lower_camel(name) for name in shape.members] if self._is_union(shape) else None

        def check(value: Mapping[str, Any]) -> _Problems:
            problems = _FINE
            for name, missing in required:
                if value.get(name) is None:
                    problems = [*problems, missing]
            for name, item in value.items():
                entry = checks.get(name)
                if entry is not None and item is not None and (found := entry[1](item)):
                    problems = [*problems, *(problem.under(entry[0]) for problem in found)]
            if one_of is not None and len(value) != 1:
                wanted = f"Member must have exactly one of: [{', '.join(one_of)}]"
                problems = [*problems, _Problem("", _HIDDEN, wanted)]
            return problems

        self._known[shape.name] = check  # before its members: shapes refer to themselves
        for name, member in shape.members.items():
            if (checker := self.checker(member)) is not None:
                checks[name] = (lower_camel(name), checker)
        return check if required or checks or one_of else None

    def _list(self, shape: Shape) -> _Checker | None:
        size = None if self._required_only else _length(shape)
        phrase = _element_phrase("Member", shape.member)
        secret = _hides(shape)
        each: _Checker | None

        def check(value: Sequence[Any]) -> _Problems:
            problems = size(value) if size else _FINE
            for index, item in enumerate(value, 1):
                if found := _null_or(each, item):
                    if phrase and item is not None:
                        return [*problems, _Problem("", _HIDDEN if secret else value, phrase)]
                    problems = [*problems, *(problem.under(f"{index}.member") for problem in found)]
                if len(problems) >= _MOST:
                    break
            return problems

        self._known[shape.name] = check
        each = self.checker(shape.member)
        return None if self._required_only and each is None else check

    def _map(self, shape: Shape) -> _Checker | None:
        size = None if self._required_only else _length(shape)
        key_phrase, phrase = _element_phrase("Map keys", shape.key), _element_phrase("Map value", shape.value)
        secret = _hides(shape)
        keys: _Checker | None
        values: _Checker | None

        def check(value: Mapping[str, Any]) -> _Problems:
            problems = size(value) if size else _FINE
            if keys is not None and any(keys(key) for key in value):
                problems = [*problems, _Problem("", _HIDDEN if secret else value, key_phrase)]
            for key, item in value.items():
                if found := _null_or(values, item):
                    if phrase and item is not None:
                        return [*problems, _Problem("", _HIDDEN if secret else value, phrase)]
                    problems = [*problems, *(problem.under(f"{key}.member") for problem in found)]
                if len(problems) >= _MOST:
                    break
            return problems

        self._known[shape.name] = check
        keys, values = self.checker(shape.key), self.checker(shape.value)
        return check


def _element_phrase(what: str, element: Shape) -> str:
    """AWS reports scalar elements once, at their container, with all that they must satisfy."""
    if element.type in ("structure", "list", "map"):
        return ""
    verb = "must satisfy constraint"
    return f"{what} {verb}: [{', '.join(_stated(element))}]"


def _null_or(checker: _Checker | None, item: object) -> _Problems:
    if item is None:
        return (_Problem("", None, "Member must not be null"),)
    return checker(item) if checker else _FINE


def _scalar(shape: Shape) -> _Checker | None:
    if shape.type in ("string", "blob"):
        return _text(shape)
    return _number(shape) if shape.type in ("integer", "long", "float", "double") else None


def _text(shape: Shape) -> _Checker | None:
    least, most = shape.traits.get("min") or 0, shape.traits.get("max", sys.maxsize)
    pattern: str | None = shape.traits.get("pattern")
    enum = frozenset(shape.traits.get("enum", ()))
    matches = patterns.compiled(pattern).fullmatch if pattern and pattern != ".*" else None
    if not least and most == sys.maxsize and matches is None and not enum:
        return None

    def check(value: Any) -> _Problems:
        # A value that is too long anyway is not searched: patterns need not be linear.
        if least <= len(value) <= most and (not enum or value in enum) and (matches is None or matches(value)):
            return _FINE
        shown = _HIDDEN if _hides(shape) else value
        return [_Problem("", shown, constraint) for constraint in explain(value)]

    def explain(value: Any) -> Iterable[str]:
        if not least <= len(value) <= most:
            yield _above(shape) if len(value) > most else _below(shape)
        if enum and value not in enum:
            yield _enum_constraint(shape)
        if matches and len(value) <= most and not matches(value):
            yield _pattern_constraint(shape)

    return check


def _number(shape: Shape) -> _Checker | None:
    return _bounded(shape, lambda value: value)


def _length(shape: Shape) -> _Checker | None:
    return _bounded(shape, len)


def _bounded(shape: Shape, measure: Callable[[Any], float]) -> _Checker | None:
    least, most = shape.traits.get("min"), shape.traits.get("max")
    if least is None and most is None:
        return None
    secret = _hides(shape)

    def check(value: Any) -> _Problems:
        size = measure(value)
        if (least is None or size >= least) and (most is None or size <= most):
            return _FINE
        bound = _above(shape) if most is not None and size > most else _below(shape)
        return (_Problem("", _HIDDEN if secret else value, bound),)

    return check


_NUMBERS = frozenset(("integer", "long", "float", "double"))


def _quantity(shape: Shape) -> str:
    return "value" if shape.type in _NUMBERS else "length"


def _above(shape: Shape) -> str:
    return f"Member must have {_quantity(shape)} less than or equal to {shape.traits['max']}"


def _below(shape: Shape) -> str:
    return f"Member must have {_quantity(shape)} greater than or equal to {shape.traits['min']}"


def _pattern_constraint(shape: Shape) -> str:
    return f"Member must satisfy regular expression pattern: {shape.traits['pattern']}"


def _enum_constraint(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.traits.get('enum', ()))}]"


def _stated(shape: Shape) -> Iterable[str]:
    """Everything that a scalar must satisfy: AWS lists it all when an element of a list or a map fails."""
    if "max" in shape.traits:
        yield _above(shape)
    if "min" in shape.traits:
        yield _below(shape)
    if "pattern" in shape.traits:
        yield _pattern_constraint(shape)
    if "enum" in shape.traits:
        yield _enum_constraint(shape)


def _hides(shape: Shape) -> bool:
    """Whether a value may not be repeated in a message: secrets, bytes, and structures, which may hold secrets."""
    if shape.traits.get("sensitive") or shape.type in ("structure", "blob"):
        return True
    if shape.type == "list":
        return _hides(shape.member)
    return shape.type == "map" and (_hides(shape.key) or _hides(shape.value))


def _shown(value: object) -> str:
    if value is _HIDDEN:
        return "Value"
    return "Value null" if value is None else f"Value '{_java(value)}'"


def _java(value: object) -> str:
    """As Java prints it: `[a, b]`, `{k=v}`, `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}={_java(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_java(item) for item in value) + "]"
    return str(value)
