"""botocore's service models, read straight from its data files, and the codec of each service.

Owns: finding, reading, trimming and caching models; choosing the protocol.
Does not own: what a protocol does with a model. No botocore session or client is ever built, and `botocore.model`
is imported only by `load_model`.
"""

from __future__ import annotations

import gzip
import re
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from sagewright.wire.codec import Codec
from sagewright.wire.shapes import Model

if TYPE_CHECKING:
    from botocore.model import ServiceModel

_PREFERENCE = ("json", "rest-json", "rest-xml", "query")
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]*")  # the name may come from a stranger's signature: never a path
_PROSE = ("documentation", "documentationUrl", "examples", "endpoint")


class UnknownService(LookupError):
    """botocore has no model of that name, or the service does not speak that protocol."""


@lru_cache(maxsize=64)
def description(service: str) -> dict[str, Any]:
    """The service's `service-2.json`, newest version, without its prose. Raises UnknownService."""
    if not _SERVICE.fullmatch(service):
        raise UnknownService(service)
    versions = sorted(_data_folder().glob(f"{service}/*/service-2.json*"))
    if not versions:
        raise UnknownService(service)
    raw = versions[-1].read_bytes()
    found: dict[str, Any] = orjson.loads(gzip.decompress(raw) if versions[-1].suffix == ".gz" else raw)
    _drop_prose(found)
    return found


@lru_cache(maxsize=64)
def model(service: str) -> Model:
    """The light view that codecs and validation use. Raises UnknownService."""
    return Model(service, description(service))


@lru_cache(maxsize=64)
def load_model(service: str) -> ServiceModel:
    """botocore's own view of the same description, for code that wants botocore's API. Raises UnknownService."""
    from botocore.model import ServiceModel

    return ServiceModel(description(service), service)


def protocols(service: str) -> tuple[str, ...]:
    """The protocols of the service that we speak, the preferred one first. Raises UnknownService."""
    metadata = model(service).metadata
    offered = metadata.get("protocols") or [metadata["protocol"]]
    return tuple(protocol for protocol in _PREFERENCE if protocol in offered)


def codec_for(service: str, protocol: str | None = None) -> Codec:
    """The codec of a service: `json`, `rest-json`, `rest-xml` or `query`; None picks the preferred one.

    Raises UnknownService for an unknown service and for a protocol that the service does not speak.
    """
    spoken = protocols(service)
    chosen = protocol or next(iter(spoken), "")
    if chosen not in spoken:
        raise UnknownService(f"{service} does not speak {chosen or 'any protocol of ours'}")
    return _codec(service, chosen)


@lru_cache(maxsize=128)
def _codec(service: str, protocol: str) -> Codec:
    if protocol == "json":
        from sagewright.wire.json_rpc import JsonRpcCodec

        return JsonRpcCodec(model(service))
    if protocol == "rest-json":
        from sagewright.wire.rest_json import RestJsonCodec

        return RestJsonCodec(model(service))
    if protocol == "rest-xml":
        from sagewright.wire.rest_xml import RestXmlCodec

        return RestXmlCodec(model(service))
    from sagewright.wire.query import QueryCodec

    return QueryCodec(model(service))


def _data_folder() -> Path:
    import botocore

    return Path(botocore.__file__).parent / "data"


def _drop_prose(found: dict[str, Any]) -> None:
    """Nine tenths of a model are documentation."""
    for operation in found["operations"].values():
        for word in _PROSE:
            operation.pop(word, None)
    for shape in found["shapes"].values():
        shape.pop("documentation", None)
        for member in shape.get("members", {}).values():
            member.pop("documentation", None)
        for part in ("member", "key", "value"):
            if part in shape:
                shape[part].pop("documentation", None)
