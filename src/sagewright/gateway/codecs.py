"""The codec for a request, known service or not: an error must reach any client in words that its parser knows.

Owns: the choice. Does not own: codecs (`wire.models.codec_for`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

from sagewright.wire.codec import Codec
from sagewright.wire.denials import Family
from sagewright.wire.identify import Identity
from sagewright.wire.messages import HttpRequest
from sagewright.wire.models import UnknownService, codec_for

# Services whose error format stands for their family's when the service itself is unknown to botocore.
_STAND_INS: Final[Mapping[Family, str]] = {Family.S3: "s3", Family.JSON: "sagemaker", Family.QUERY: "sts"}


def codec_of(identity: Identity) -> Codec:
    try:
        return codec_for(identity.service, identity.protocol)
    except UnknownService:
        return codec_for(_STAND_INS[identity.family])


def operation_hint(request: HttpRequest) -> str:
    """What the client calls the operation, for a service whose codec we cannot ask: target, action or path."""
    target = request.headers.get("x-amz-target")
    if target:
        return target.rpartition(".")[2][:128]
    form = (request.body or b"")[:4096].decode("latin-1") or request.raw_query[:4096]
    action = parse_qs(form).get("Action") if "Action=" in form else None
    return action[0][:128] if action else f"{request.method} {request.raw_path[:128]}"
