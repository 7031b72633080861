"""DataProcessing (contract C.6) and inference ids (C.7): input filter -> model -> join -> output filter -> id. Pure.

Records are rows of CSV, lines of JSON, or, with SplitType None, one JSON document. A join sees the record as it was,
whatever the input filter dropped. Owns: how a batch is filtered, and how its answer becomes output.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from uuid import UUID

import orjson

from sagewright.batch.splitting import NONE, Batch
from sagewright.core.json_paths import JsonPath, PathError, parse

OUTPUT, INPUT = "SageMakerOutput", "SageMakerInput"
ID, TIME = "SageMakerInferenceId", "SageMakerInferenceTime"
CSV: Final = "text/csv"


class Mismatch(Exception):
    """A record, or the model's answer to it, is not what the filters need; the text says which. `record` is its index
    in the batch, when it is one record's fault."""

    def __init__(self, text: str, record: int | None = None) -> None:
        super().__init__(text)
        self.record = record


class Stamp(NamedTuple):
    """GenerateInferenceId: what every record of the output gets. `job` is unlike any other job's; `moment` is when it
    began, to the second, with a Z."""

    job: str
    moment: str

    def id(self, where: str, batch: int, number: int) -> str:
        """A random-looking UUID, and the same one when a run that was cut off does the object again."""
        text = f"{self.job}\0{where}\0{batch}\0{number}"
        return str(UUID(bytes=blake2b(text.encode(), digest_size=16).digest(), version=4))


class Processing:
    """`content_type` is that of the records; `lines`: a batch has one record per line; else it is one document."""

    def __init__(self, asked: Mapping[str, Any], content_type: str, *, lines: bool, stamp: Stamp | None = None) -> None:
        self._input = parse(asked.get("InputFilter", "$"))
        self._output = parse(asked.get("OutputFilter", "$"))
        self._joins = asked.get("JoinSource", "None") == "Input"
        self._csv = media_type(content_type) == CSV
        self._lines = lines
        self._stamp = stamp

    @classmethod
    def of(cls, request: Mapping[str, Any], stamp: Stamp | None = None) -> Processing | None:
        """None when there is nothing to do."""
        source = request["TransformInput"]
        made = cls(
            request.get("DataProcessing") or {},
            request["TransformOutput"].get("Accept") or source.get("ContentType", ""),
            lines=source.get("SplitType", NONE) != NONE,
            stamp=stamp,
        )
        return None if made.is_idle else made

    @property
    def is_idle(self) -> bool:
        return self._input.is_all and self._output.is_all and not self._joins and self._stamp is None

    def before(self, data: bytes) -> bytes:
        """What the model gets. Raises Mismatch."""
        if self._input.is_all:
            return data
        return self._written(self._filtered(self._input, self._read(data)), data.endswith(b"\n"))

    def after(self, batch: Batch, answer: bytes, where: str) -> bytes:
        """What is written: one line per record, or the one document. Raises Mismatch."""
        values = self._read(answer)
        if self._joins:
            given = self._read(batch.data)
            if len(given) != len(values):
                raise Mismatch(
                    f"JoinSource Input needs an answer per record: the model answered {len(values)} for {len(given)}"
                )
            values = [self._joined(before, after) for before, after in zip(given, values, strict=True)]
        values = self._filtered(self._output, values)
        if self._stamp is not None:
            values = [self._stamped(value, where, batch.first, number) for number, value in enumerate(values)]
        return self._written(values, self._lines or answer.endswith(b"\n"))

    def _filtered(self, path: JsonPath, values: Sequence[Any]) -> Sequence[Any]:
        if path.is_all:
            return values
        found = []
        for number, value in enumerate(values):
            try:
                each = path.apply(value)
            except PathError as error:
                raise Mismatch(str(error), number) from None
            found.append([each] if self._csv and not isinstance(each, list) else each)
        return found

    def _joined(self, given: Any, answer: Any) -> Any:
        if self._csv:
            return [*given, *answer]
        return {**given, OUTPUT: answer} if isinstance(given, dict) else {INPUT: given, OUTPUT: answer}

    def _stamped(self, value: Any, where: str, batch: int, number: int) -> Any:
        assert self._stamp is not None
        found = self._stamp.id(where, batch, number)
        if self._csv:
            return [*value, found, self._stamp.moment]
        members = value if isinstance(value, dict) else {OUTPUT: value}
        return {**members, ID: found, TIME: self._stamp.moment}

    def _read(self, data: bytes) -> Sequence[Any]:
        try:
            if self._csv:
                return list(csv.reader(io.StringIO(data.decode(), newline="")))
            if not self._lines:
                return [orjson.loads(data)]
        except (ValueError, csv.Error) as error:
            raise Mismatch(f"a record cannot be read as {'CSV' if self._csv else 'JSON'}: {error}") from None
        found: list[Any] = []
        for line in data.split(b"\n"):
            if line.strip():
                try:
                    found.append(orjson.loads(line))
                except ValueError as error:
                    raise Mismatch(f"a record cannot be read as JSON: {error}", len(found)) from None
        return found

    def _written(self, values: Sequence[Any], ended: bool) -> bytes:
        if self._csv:
            text = io.StringIO()
            csv.writer(text, lineterminator="\n").writerows(values)
            data = text.getvalue().encode()
        else:
            data = b"".join(orjson.dumps(value) + b"\n" for value in values)
        return data if ended else data.removesuffix(b"\n")


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()
