"""Signature Version 2 for S3, which boto3 still uses for presigned URLs in the older regions (us-east-1 among them).

Owns: `AWSAccessKeyId/Signature/Expires` queries and `Authorization: AWS KEY:SIGNATURE`.
Does not own: virtual-host rewriting: a request comes in path style (`wire.rest_xml.path_style`), as it was signed.
Source: "Signing and authenticating REST requests (AWS signature version 2)", S3 User Guide.
"""

from __future__ import annotations

import base64
import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

from sagewright.wire.denials import Denied, Reason
from sagewright.wire.messages import HttpRequest
from sagewright.wire.sigv4 import Malformed

# Query parameters that name a sub-resource or change the answer, and are therefore signed.
SUB_RESOURCES: Final = frozenset(
    {
        "accelerate",
        "acl",
        "analytics",
        "cors",
        "defaultObjectAcl",
        "delete",
        "inventory",
        "lifecycle",
        "location",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "partNumber",
        "policy",
        "replication",
        "requestPayment",
        "response-cache-control",
        "response-content-disposition",
        "response-content-encoding",
        "response-content-language",
        "response-content-type",
        "response-expires",
        "restore",
        "select",
        "select-type",
        "storageClass",
        "tagging",
        "torrent",
        "uploadId",
        "uploads",
        "versionId",
        "versioning",
        "versions",
        "website",
    }
)
_EPOCH: Final = re.compile(r"[0-9]{1,11}\Z")


@dataclass(frozen=True, slots=True)
class ClaimV2:
    """What a SigV2 request says about who signed it, unchecked."""

    access_key: str
    signature: str
    token: str | None
    presigned: bool
    expires: str = ""  # of a presigned URL, seconds since 1970


def read_claim(request: HttpRequest) -> ClaimV2 | Malformed | None:
    """The SigV2 claim of a request; None when it carries none."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        return _header_claim(request, authorization)
    if "AWSAccessKeyId=" not in request.raw_query:
        return None
    fields = {name.lower(): value for name, value in _parameters(request.raw_query)}
    try:
        token = fields.get("x-amz-security-token") or request.headers.get("x-amz-security-token")
        return ClaimV2(fields["awsaccesskeyid"], fields["signature"], token, True, fields["expires"])
    except KeyError as missing:
        return Malformed(
            f"Query-string authentication requires the Signature, Expires and AWSAccessKeyId: {missing}", True
        )


def _header_claim(request: HttpRequest, authorization: str) -> ClaimV2 | Malformed:
    scheme, _, rest = authorization.partition(" ")
    access_key, colon, signature = rest.strip().partition(":")
    if scheme != "AWS" or not colon:
        return Malformed(f"Unsupported Authorization type {scheme[:32]!r}")
    return ClaimV2(access_key, signature, request.headers.get("x-amz-security-token"), False)


def verify(request: HttpRequest, claim: ClaimV2, secret: str, now: datetime, max_skew: float = 900.0) -> None:
    """Raises Denied. `request` is in path style; `max_skew` in seconds."""
    date = _check_expiry(claim, now) if claim.presigned else _check_date(request, now, max_skew)
    to_sign = string_to_sign(request, date)
    digest = hmac.new(secret.encode(), to_sign.encode("latin-1", "replace"), "sha1").digest()
    if not hmac.compare_digest(base64.b64encode(digest), claim.signature.encode("utf-8", "replace")):
        raise Denied(
            Reason.MISMATCH,
            members={
                "AWSAccessKeyId": claim.access_key,
                "StringToSign": to_sign,
                "SignatureProvided": claim.signature,
            },
        )


def string_to_sign(request: HttpRequest, date: str) -> str:
    """Method, three standard headers, x-amz-* headers (a presigned URL has them in its query), resource."""
    headers = request.headers
    amz: dict[str, str] = {}
    for name, value in headers:
        if name.startswith("x-amz-"):
            amz[name] = f"{amz[name]},{value.strip()}" if name in amz else value.strip()
    for name, value in _parameters(request.raw_query):
        if name.lower().startswith("x-amz-"):
            amz.setdefault(name.lower(), value)
    lines = [request.method, headers.get("content-md5", "") or "", headers.get("content-type", "") or "", date]
    lines += [f"{name}:{amz[name]}" for name in sorted(amz)]
    return "\n".join([*lines, _resource(request)])


def _resource(request: HttpRequest) -> str:
    kept = []
    for pair in request.raw_query.split("&"):
        name, equals, value = pair.partition("=")
        if name in SUB_RESOURCES:
            kept.append((name, f"{name}={unquote(value, 'latin-1')}" if equals else name))
    kept.sort(key=lambda item: item[0])
    query = "&".join([text for _, text in kept])
    return f"{request.raw_path}?{query}" if query else request.raw_path


def _check_expiry(claim: ClaimV2, now: datetime) -> str:
    if not _EPOCH.match(claim.expires):
        raise Denied(Reason.MALFORMED_URL, "Expires must be a number of seconds since 1970")
    if now.timestamp() > int(claim.expires):
        members = {
            "Expires": f"{datetime.fromtimestamp(int(claim.expires), UTC):%Y-%m-%dT%H:%M:%SZ}",
            "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        }
        raise Denied(Reason.EXPIRED_URL, members=members)
    return claim.expires


def _check_date(request: HttpRequest, now: datetime, max_skew: float) -> str:
    """The text that was signed as the date: empty when x-amz-date stands in for Date."""
    replaced = request.headers.get("x-amz-date")
    sent = replaced or request.headers.get("date") or ""
    try:
        moment = parsedate_to_datetime(sent)
    except ValueError as error:
        raise Denied(Reason.MALFORMED, "AWS authentication requires a valid Date or x-amz-date header") from error
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if abs(now - moment) > timedelta(seconds=max_skew):
        raise Denied(Reason.SKEWED, members={"RequestTime": sent, "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}"})
    return "" if replaced else sent


def _parameters(raw_query: str) -> list[tuple[str, str]]:
    pairs = [pair.partition("=") for pair in raw_query.split("&")]
    return [(name, unquote(value.replace("+", " "), "latin-1")) for name, _, value in pairs]
