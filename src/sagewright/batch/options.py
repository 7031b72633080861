"""How a job wants its requests: the request's values, then the container's, then the defaults (contract C.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from sagewright.batch.splitting import NONE
from sagewright.store.kinds.transform_job import ON_ERROR, SKIP

_LIMITS: Final = (("MaxConcurrentTransforms", 1, 1000), ("MaxPayloadInMB", 0, 100))
_STRATEGIES: Final = ("MULTI_RECORD", "SINGLE_RECORD")


@dataclass(frozen=True, slots=True)
class Options:
    """`megabytes` 0 is no limit."""

    concurrency: int
    megabytes: int
    multi: bool
    timeout: float
    retries: int
    split: str
    gzip: bool
    lines: bool  # AssembleWith Line
    skip: bool
    content_type: str
    accept: str

    @property
    def strategy(self) -> str:
        return _STRATEGIES[0] if self.multi else _STRATEGIES[1]

    @property
    def limit(self) -> int | None:
        """Bytes of one request; None is any number."""
        return self.megabytes << 20 or None

    def headers(self, content_type: str, *, last: bool) -> str:
        """Whole lines. Accept is for whoever makes the answer: the last container."""
        lines = (("Content-Type", content_type), ("Accept", self.accept if last else ""))
        return "".join(f"{name}: {value}\r\n" for name, value in lines if value)

    @property
    def whole(self) -> bool:
        """One request per object, whatever its size."""
        return self.limit is None and (self.multi or self.split == NONE)


def read_parameters(body: bytes) -> tuple[Mapping[str, Any], str]:
    """What GET /execution-parameters answered, as far as it can be believed, and what is wrong with the rest."""
    try:
        given = orjson.loads(body)
    except ValueError as error:
        return {}, f"it is not JSON ({error})"
    if not isinstance(given, dict):
        return {}, "it is not a JSON object"
    found, wrong = dict[str, Any](), list[str]()
    if "BatchStrategy" in given:
        if given["BatchStrategy"] in _STRATEGIES:
            found["BatchStrategy"] = given["BatchStrategy"]
        else:
            wrong.append(f"BatchStrategy is not {' or '.join(_STRATEGIES)}")
    for name, least, most in _LIMITS:
        value = given.get(name)
        if type(value) is int and least <= value <= most:
            found[name] = value
        elif name in given:
            wrong.append(f"{name} is not a whole number from {least} to {most}")
    return found, "; ".join(wrong)


def choose(request: Mapping[str, Any], container: Mapping[str, Any]) -> Options:
    source, output = request["TransformInput"], request["TransformOutput"]
    client = request.get("ModelClientConfig") or {}
    strategy = request.get("BatchStrategy") or container.get("BatchStrategy") or "MULTI_RECORD"
    return Options(
        concurrency=request.get("MaxConcurrentTransforms") or container.get("MaxConcurrentTransforms") or 1,
        megabytes=request.get("MaxPayloadInMB", container.get("MaxPayloadInMB", 6)),
        multi=strategy in {"MultiRecord", "MULTI_RECORD"},
        timeout=float(client.get("InvocationsTimeoutInSeconds", 600)),
        retries=client.get("InvocationsMaxRetries", 3),
        split=source.get("SplitType", NONE),
        gzip=source.get("CompressionType", "None") == "Gzip",
        lines=output.get("AssembleWith", "None") == "Line",
        skip=(request.get("Environment") or {}).get(ON_ERROR) == SKIP,
        content_type=source.get("ContentType", ""),
        accept=output.get("Accept", ""),
    )
