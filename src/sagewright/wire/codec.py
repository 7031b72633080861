"""The codec contract: bytes to call, result to bytes. Pure in both directions.

One implementation per AWS protocol: `json_rpc` (json-1.1 and json-1.0), `rest_json`, `rest_xml`, `query`.
`decode` and `encode` never change what they are given.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import HttpRequest, HttpResponse


@dataclass(frozen=True, slots=True)
class Call:
    """What the client meant.

    `operation` is the model's operation name. `params` holds Python values by the model's member names:
    timestamps as aware datetimes, blobs as bytes, everything else as JSON types. A streaming input member is
    not in `params`: its bytes come from `stream` (or are whole in `params` when the request had a whole body).
    """

    service: str  # botocore's service name: "sagemaker", "s3", ...
    operation: str
    params: dict[str, Any]
    stream: AsyncIterator[bytes] | None = None


class Codec(Protocol):
    """Both directions of one protocol for one service model."""

    def decode(self, request: HttpRequest) -> Call:
        """The call in `request`. Raises ApiFault: unknown operation, a body that is not what the model says."""
        ...

    def encode(self, operation: str, result: Mapping[str, Any], request_id: str) -> HttpResponse:
        """The success response. A streaming output member may be bytes or an async iterator of bytes."""
        ...

    def encode_fault(self, operation: str | None, fault: ApiFault, request_id: str) -> HttpResponse:
        """The error response, parseable by every client of this protocol. `operation` is None when unknown."""
        ...
