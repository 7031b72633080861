"""How a job wants its requests: the request's values, then the container's, then the defaults (contract C.3). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from sagewright.store.kinds.transform_job import ON_ERROR, SKIP

_PARAMETERS: Final = ("MaxConcurrentTransforms", "BatchStrategy", "MaxPayloadInMB")


@dataclass(frozen=True, slots=True)
class Options:
    concurrency: int
    megabytes: int
    multi: bool
    timeout: float
    retries: int
    split: str
    gzip: bool
    lines: bool  # AssembleWith Line
    skip: bool
    headers: str

    @property
    def strategy(self) -> str:
        return "MULTI_RECORD" if self.multi else "SINGLE_RECORD"


def read_parameters(body: bytes) -> Mapping[str, Any]:
    """What GET /execution-parameters answered, as far as it can be believed."""
    try:
        given = orjson.loads(body)
    except ValueError:
        return {}
    if not isinstance(given, dict):
        return {}
    found = {name: given[name] for name in _PARAMETERS if name in given}
    if found.get("BatchStrategy") not in {"MULTI_RECORD", "SINGLE_RECORD"}:
        found.pop("BatchStrategy", None)
    for name, most in (("MaxConcurrentTransforms", 1000), ("MaxPayloadInMB", 100)):
        if not (isinstance(found.get(name), int) and 1 <= found[name] <= most):
            found.pop(name, None)
    return found


def choose(request: Mapping[str, Any], container: Mapping[str, Any]) -> Options:
    source, output = request["TransformInput"], request["TransformOutput"]
    client = request.get("ModelClientConfig") or {}
    strategy = request.get("BatchStrategy") or container.get("BatchStrategy") or "MULTI_RECORD"
    types = (("Content-Type", source.get("ContentType")), ("Accept", output.get("Accept")))
    return Options(
        concurrency=request.get("MaxConcurrentTransforms") or container.get("MaxConcurrentTransforms") or 1,
        megabytes=request.get("MaxPayloadInMB") or container.get("MaxPayloadInMB") or 6,
        multi=strategy in {"MultiRecord", "MULTI_RECORD"},
        timeout=float(client.get("InvocationsTimeoutInSeconds", 600)),
        retries=client.get("InvocationsMaxRetries", 3),
        split=source.get("SplitType", "None"),
        gzip=source.get("CompressionType", "None") == "Gzip",
        lines=output.get("AssembleWith", "None") == "Line",
        skip=(request.get("Environment") or {}).get(ON_ERROR) == SKIP,
        headers="".join(f"{name}: {value}\r\n" for name, value in types if value),
    )
