"""The service model as codecs see it: operations and shapes, with every trait merged in.

Owns: a light view over one `service-2.json` (a tenth of the memory and start-up of `botocore.model`, which pulls
in an HTTP client and the signers), and the words for "this value is not what the model says".
Does not own: finding the file (`models`), any wire format.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Json = Mapping[str, Any]

INTEGER_BOUNDS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
JAVA_NAMES = {
    "string": "String",
    "character": "String",
    "integer": "Integer",
    "long": "Long",
    "float": "Float",
    "double": "Double",
    "boolean": "Boolean",
    "timestamp": "Date",
    "blob": "Blob",
}


class Mismatch(Exception):
    """A value on the wire that is not what the model says. Each level that it passes adds its own name."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self._steps: list[str] = []

    def under(self, step: str) -> None:
        self._steps.append(step)

    @property
    def path(self) -> str:
        """Where, in AWS's notation: `inputDataConfig.1.member.channelName`. Empty for the request itself."""
        return ".".join(reversed(self._steps))

    def __str__(self) -> str:
        return f"{self.sentence} at '{self.path}'" if self._steps else self.sentence


def lower_camel(name: str) -> str:
    """AWS names members in messages with the first letter lowered: `RoleArn` is `roleArn`."""
    return name[:1].lower() + name[1:]


class Shape:
    """One shape as referred to from one place: the reference's traits win over the shape's own."""

    __slots__ = ("_model", "name", "traits", "type")

    def __init__(self, model: Model, name: str, traits: Json) -> None:
        self._model = model
        self.name = name
        self.type: str = traits["type"]
        self.traits = traits

    @property
    def members(self) -> dict[str, Shape]:
        """A structure's members by the model's names, in the model's order."""
        return {name: self._model.resolve(ref) for name, ref in self.traits.get("members", {}).items()}

    @property
    def member(self) -> Shape:
        return self._model.resolve(self.traits["member"])

    @property
    def key(self) -> Shape:
        return self._model.resolve(self.traits["key"])

    @property
    def value(self) -> Shape:
        return self._model.resolve(self.traits["value"])

    @property
    def location(self) -> str | None:
        """`uri`, `querystring`, `header`, `headers`, `statusCode`, or None for the body."""
        return self.traits.get("location")

    @property
    def wire_name(self) -> str | None:
        """The name on the wire where it differs from the member's own."""
        return self.traits.get("locationName")

    @property
    def flattened(self) -> bool:
        return bool(self.traits.get("flattened"))

    @property
    def required(self) -> list[str]:
        return list(self.traits.get("required", ()))

    @property
    def payload(self) -> str | None:
        """The member that is the whole body, if there is one."""
        return self.traits.get("payload")


class Operation:
    """One operation of a service."""

    __slots__ = ("deprecated", "input", "method", "name", "output", "result_wrapper", "status", "uri")

    def __init__(self, model: Model, name: str, description: Json) -> None:
        http = description.get("http", {})
        self.name = name
        self.method: str = http.get("method", "POST")
        self.uri: str = http.get("requestUri", "/")
        self.status: int = http.get("responseCode", 200)
        self.deprecated = bool(description.get("deprecated"))
        self.input = model.resolve(description["input"]) if "input" in description else None
        self.output = model.resolve(description["output"]) if "output" in description else None
        self.result_wrapper: str | None = description.get("output", {}).get("resultWrapper")


class Model:
    """One service: metadata, operations and errors, looked up by name."""

    def __init__(self, service: str, description: Json) -> None:
        self.service = service
        self.metadata: Json = description["metadata"]
        self._operations: Json = description["operations"]
        self._shapes: Json = description["shapes"]
        self._errors: dict[str, Shape] | None = None

    @property
    def operation_names(self) -> list[str]:
        return list(self._operations)

    def operation(self, name: str) -> Operation | None:
        description = self._operations.get(name)
        return None if description is None else Operation(self, name, description)

    def resolve(self, reference: Json) -> Shape:
        name = reference["shape"]
        shape: Json = self._shapes[name]
        return Shape(self, name, shape if len(reference) == 1 else {**shape, **reference})

    def error(self, code: str) -> Shape | None:
        """The modelled error of that name, or of that query code (`NoSuchEntity` is NoSuchEntityException)."""
        if self._errors is None:
            self._errors = self._index_errors()
        return self._errors.get(code)

    def _index_errors(self) -> dict[str, Shape]:
        found: dict[str, Shape] = {}
        for name, traits in self._shapes.items():
            if traits.get("exception"):
                shape = Shape(self, name, traits)
                found[name] = shape
                found.setdefault(error_code(shape), shape)
        return found


def error_code(error: Shape) -> str:
    """The code that the query protocol puts on the wire for a modelled error."""
    code: str = error.traits.get("error", {}).get("code") or error.name
    return code


def error_status(error: Shape | None, status: int) -> int:
    """The status of a fault: the model's, unless the one who raised it chose another than the default 400."""
    if error is None or status != 400:
        return status
    modelled: int | None = error.traits.get("error", {}).get("httpStatusCode")
    return modelled or (500 if error.traits.get("fault") else 400)
