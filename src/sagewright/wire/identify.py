"""Which service a request is for: read from its signature's scope, never guessed from the path while there is one.

Owns: signing name → botocore service, the family of error codes, the claim. Never raises: what cannot be read is a
Malformed claim, to be refused in the caller's own protocol. Does not own: checking the claim (`wire.sigv4`, `sigv2`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sagewright.wire import sigv2, sigv4
from sagewright.wire.denials import Family
from sagewright.wire.messages import HttpRequest

# Signing names that are not botocore's service name.
_SERVICES: Final[Mapping[str, str]] = {"monitoring": "cloudwatch"}
_TARGETS: Final[Mapping[str, str]] = {  # for unsigned requests, whose only clue this is
    "SageMaker": "sagemaker",
    "Logs_20140328": "logs",
    "AmazonEC2ContainerRegistry_V20150921": "ecr",
    "AnyScaleFrontendService": "application-autoscaling",
    "GraniteServiceVersion20100801": "cloudwatch",
}
_SAGEMAKER_PATHS: Final = (
    ("/endpoints/", "sagemaker-runtime"),
    ("/FeatureGroup/", "sagemaker-featurestore-runtime"),
    ("/BatchGetRecord", "sagemaker-featurestore-runtime"),
    ("/BatchWriteRecord", "sagemaker-featurestore-runtime"),
    ("/BatchPutMetrics", "sagemaker-metrics"),
    ("/BatchGetMetrics", "sagemaker-metrics"),
)
_QUERY_SERVICES: Final = frozenset({"sts", "iam"})

ClaimKind = sigv4.Claim | sigv2.ClaimV2 | sigv4.Malformed | None


@dataclass(frozen=True, slots=True)
class Identity:
    """`service` is botocore's name, or the unknown signing name. `claim` None: unsigned.

    `protocol` is set when the service speaks several and this request has chosen one.
    """

    service: str
    family: Family
    protocol: str | None
    claim: ClaimKind


def identify(request: HttpRequest) -> Identity:
    claim = sigv4.read_claim(request) or sigv2.read_claim(request)
    target = request.headers.get("x-amz-target")
    service = _service(claim, request, target)
    family = _family(service, request, target)
    protocol = family.value if service == "cloudwatch" else None
    return Identity(service, family, protocol, claim)


def _service(claim: ClaimKind, request: HttpRequest, target: str | None) -> str:
    if isinstance(claim, sigv4.Claim):
        if claim.service == "sagemaker":
            return "sagemaker" if target is not None else _sagemaker_part(request.raw_path)
        return _SERVICES.get(claim.service, claim.service)
    if isinstance(claim, sigv2.ClaimV2):
        return "s3"
    if target is not None:
        return _TARGETS.get(target.partition(".")[0], "sagemaker")
    host = (request.headers.get("host") or "").partition(".")[0]
    if host in _QUERY_SERVICES:
        return host
    return "sts" if _is_query(request) else "s3"


def _sagemaker_part(raw_path: str) -> str:
    for start, service in _SAGEMAKER_PATHS:
        if raw_path.startswith(start):
            return service
    return "sagemaker"


def _family(service: str, request: HttpRequest, target: str | None) -> Family:
    if service == "s3":
        return Family.S3
    if target is not None:
        return Family.JSON
    return Family.QUERY if service in _QUERY_SERVICES or _is_query(request) else Family.JSON


def _is_query(request: HttpRequest) -> bool:
    content_type = request.headers.get("content-type") or ""
    return content_type.startswith("application/x-www-form-urlencoded") or request.raw_query.startswith("Action=")
