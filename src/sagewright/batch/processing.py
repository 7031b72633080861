"""DataProcessing (contract C.6): input filter -> model -> join -> output filter. Pure.

Records are rows of CSV, lines of JSON, or, with SplitType None, one JSON document. A join sees the record as it was,
whatever the input filter dropped. Owns: how a batch is filtered, and how its answer becomes output.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from sagewright.core.json_paths import JsonPath, PathError, parse

OUTPUT, INPUT = "SageMakerOutput", "SageMakerInput"
CSV: Final = "text/csv"


class Mismatch(Exception):
    """A record, or the model's answer to it, is not what the filters need; the text says which."""


class Processing:
    """`lines`: a batch has one record per line; else it is one document."""

    def __init__(self, asked: Mapping[str, Any], content_type: str, *, lines: bool) -> None:
        self._input = parse(asked.get("InputFilter", "$"))
        self._output = parse(asked.get("OutputFilter", "$"))
        self._joins = asked.get("JoinSource", "None") == "Input"
        self._csv = content_type.partition(";")[0].strip().lower() == CSV
        self._lines = lines

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Processing | None:
        """None when there is nothing to do."""
        made = cls(
            request.get("DataProcessing") or {},
            request["TransformInput"].get("ContentType", ""),
            lines=request["TransformInput"].get("SplitType", "None") == "Line",
        )
        return None if made.is_idle else made

    @property
    def is_idle(self) -> bool:
        return self._input.is_all and self._output.is_all and not self._joins

    def before(self, data: bytes) -> bytes:
        """What the model gets. Raises Mismatch."""
        if self._input.is_all:
            return data
        return self._written([self._filtered(self._input, each) for each in self._read(data)], data.endswith(b"\n"))

    def after(self, data: bytes, answer: bytes) -> bytes:
        """What is written: one line per record, or the one document. Raises Mismatch."""
        values = self._read(answer)
        if self._joins:
            given = self._read(data)
            if len(given) != len(values):
                raise Mismatch(
                    f"JoinSource Input needs an answer per record: the model answered {len(values)} for {len(given)}"
                )
            values = [self._joined(before, after) for before, after in zip(given, values, strict=True)]
        return self._written([self._filtered(self._output, each) for each in values], self._lines)

    def _filtered(self, path: JsonPath, value: Any) -> Any:
        try:
            found = path.apply(value)
        except PathError as error:
            raise Mismatch(str(error)) from None
        return [found] if self._csv and not isinstance(found, list) else found

    def _joined(self, given: Any, answer: Any) -> Any:
        if self._csv:
            return [*given, *answer]
        return {**given, OUTPUT: answer} if isinstance(given, dict) else {INPUT: given, OUTPUT: answer}

    def _read(self, data: bytes) -> Sequence[Any]:
        try:
            if self._csv:
                return list(csv.reader(io.StringIO(data.decode(), newline="")))
            if self._lines:
                return [orjson.loads(line) for line in data.split(b"\n") if line.strip()]
            return [orjson.loads(data)]
        except (ValueError, csv.Error) as error:
            raise Mismatch(f"a record cannot be read as {'CSV' if self._csv else 'JSON'}: {error}") from None

    def _written(self, values: Sequence[Any], ended: bool) -> bytes:
        if self._csv:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(values)
            data = text.getvalue().encode()
        else:
            data = b"".join(orjson.dumps(value) + b"\n" for value in values)
        return data if ended else data.removesuffix(b"\n")
