"""Signature Version 4: reading a request's claim to an identity, and checking it.

    read_claim(request) ─▶ Claim ─▶ (the caller finds the secret) ─▶ Verifier.verify ─▶ Seal, or Denied

Owns: Authorization headers and presigned queries, dates, signed-header rules, signing keys.
Does not own: the secret (`core.credentials`), body bytes (`wire.payload`: it checks them against the Seal), who may do
what. Source: "AWS Signature Version 4 for API requests", IAM User Guide; "Authenticating Requests", S3 API Reference.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import unquote

from sagewright.wire import canonical
from sagewright.wire.denials import Denied, Reason
from sagewright.wire.messages import HttpRequest

ALGORITHM: Final = "AWS4-HMAC-SHA256"
UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
LONGEST_URL: Final = 604_800  # seconds a presigned URL may live: a week

_REGION: Final = re.compile(r"[a-z0-9-]{1,32}\Z")
_SECONDS: Final = re.compile(r"[0-9]{1,6}\Z")
_SIGNATURE_ONLY: Final = frozenset({"X-Amz-Signature"})
_NOTHING: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Claim:
    """What a request says about who signed it, unchecked."""

    access_key: str
    date: str  # of the scope, yyyymmdd
    region: str
    service: str  # the signing name
    signed_headers: str  # as sent, names joined by ;
    signature: str
    token: str | None
    presigned: bool
    timestamp: str  # as sent; empty when absent
    expires: str = ""  # of a presigned URL, seconds

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"


@dataclass(frozen=True, slots=True)
class Malformed:
    """Something that was meant as a signature and cannot be read. `detail` says what is wrong with it."""

    detail: str
    presigned: bool = False


@dataclass(frozen=True, slots=True)
class Seal:
    """A checked signature, which chunk signatures go on from."""

    signing_key: bytes
    timestamp: str
    scope: str
    signature: str


def read_claim(request: HttpRequest) -> Claim | Malformed | None:
    """The SigV4 claim of a request; None when it carries none."""
    authorization = request.headers.get("authorization")
    if authorization is not None:
        if not authorization.startswith("AWS4-"):
            return None
        if "X-Amz-Signature=" in request.raw_query:
            return Malformed("Only one auth mechanism allowed: either the Authorization header or X-Amz-Signature")
        return _header_claim(request, authorization)
    if "X-Amz-Algorithm=" in request.raw_query or "X-Amz-Credential=" in request.raw_query:
        return _query_claim(request)
    return None


def _header_claim(request: HttpRequest, authorization: str) -> Claim | Malformed:
    algorithm, _, rest = authorization.partition(" ")
    if algorithm != ALGORITHM:
        return Malformed(f"The signing algorithm {algorithm} is not supported: sign with {ALGORITHM}")
    fields = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    headers = request.headers
    try:
        access_key, date, region, service, _ = _scope(fields["Credential"])
        return Claim(
            access_key,
            date,
            region,
            service,
            fields["SignedHeaders"],
            fields["Signature"],
            headers.get("x-amz-security-token"),
            False,
            headers.get("x-amz-date") or headers.get("date") or "",
        )
    except KeyError as missing:
        return Malformed(f"Authorization header requires {missing} parameter")
    except ValueError as error:
        return Malformed(str(error))


def _query_claim(request: HttpRequest) -> Claim | Malformed:
    fields = {}
    for pair in request.raw_query.split("&"):
        name, _, value = pair.partition("=")
        if name.startswith("X-Amz-"):
            fields[name] = unquote(value)
    if fields.get("X-Amz-Algorithm", ALGORITHM) != ALGORITHM:
        return Malformed(f"X-Amz-Algorithm only supports {ALGORITHM}", presigned=True)
    try:
        access_key, date, region, service, _ = _scope(fields["X-Amz-Credential"])
        return Claim(
            access_key,
            date,
            region,
            service,
            fields["X-Amz-SignedHeaders"],
            fields["X-Amz-Signature"],
            fields.get("X-Amz-Security-Token"),
            True,
            fields["X-Amz-Date"],
            # Only S3 insists on X-Amz-Expires; elsewhere a URL without it lives as long as the skew allows.
            fields.get("X-Amz-Expires", ""),
        )
    except KeyError as missing:
        return Malformed(f"The query string lacks the parameter {missing}, which a presigned URL must have", True)
    except ValueError as error:
        return Malformed(str(error), presigned=True)


def _scope(credential: str) -> list[str]:
    """Access key, date, region, service, terminator. An access key may itself hold slashes; the scope may not."""
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[4] != "aws4_request" or len(parts[1]) != 8 or not _REGION.match(parts[2]):
        raise ValueError(
            "The credential is malformed; expecting ACCESS-KEY/YYYYMMDD/REGION/SERVICE/aws4_request, got "
            f"{credential[:128]!r}"
        )
    return parts


class SigningKeys:
    """Derived keys: four HMACs saved on each request. Holds at most `limit`, the least recently used goes first."""

    def __init__(self, limit: int = 1024) -> None:
        self._limit = limit
        self._kept: OrderedDict[tuple[str, str, str, str], bytes] = OrderedDict()

    def key(self, secret: str, date: str, region: str, service: str) -> bytes:
        wanted = (secret, date, region, service)
        found = self._kept.get(wanted)
        if found is not None:
            self._kept.move_to_end(wanted)
            return found
        made = _derive(secret, date, region, service)
        self._kept[wanted] = made
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return made


class Verifier:
    """Checks claims. `max_skew` is in seconds, on AWS 15 minutes."""

    def __init__(self, max_skew: float = 900.0, keys: SigningKeys | None = None) -> None:
        self._skew = timedelta(seconds=max_skew)
        self._keys = keys or SigningKeys()

    def check_time(self, claim: Claim, now: datetime) -> None:
        """Everything that can be refused before the body is read. Raises Denied."""
        moment = _moment(claim.timestamp)
        if moment is None:
            raise Denied(
                Reason.MALFORMED, "AWS authentication requires a valid Date or X-Amz-Date (YYYYMMDDTHHMMSSZ, in UTC)"
            )
        if _compact(claim.timestamp)[:8] != claim.date:
            raise Denied(
                Reason.MALFORMED,
                f"Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{claim.date}' != '{moment:%Y%m%d}'",
            )
        if claim.presigned and (claim.expires or claim.service == "s3"):
            _check_lifetime(claim, moment, now, self._skew)
        elif abs(now - moment) > self._skew:
            raise Denied(Reason.SKEWED, _skew_sentence(moment, now, self._skew), _skew_members(claim, now, self._skew))

    def verify(self, request: HttpRequest, claim: Claim, secret: str, payload_hash: str) -> Seal:
        """Raises Denied. `payload_hash` is what stands for the body in the canonical request."""
        signed = claim.signed_headers.split(";")
        _check_signed_headers(request, signed)
        key = self._keys.key(secret, claim.date, claim.region, claim.service)
        timestamp = _compact(claim.timestamp)
        texts = []
        tail = f"{canonical.canonical_headers(request.headers, signed)}\n{claim.signed_headers}\n{payload_hash}"
        for path, query in _forms(request, claim):
            text = f"{request.method}\n{path}\n{query}\n{tail}"
            to_sign = _string_to_sign(timestamp, claim.scope, text)
            expected = hmac.new(key, to_sign.encode("latin-1"), "sha256").hexdigest()
            if hmac.compare_digest(expected.encode(), claim.signature.encode("utf-8", "replace")):
                return Seal(key, timestamp, claim.scope, expected)
            texts.append((text, to_sign))
        text, to_sign = texts[0]
        raise Denied(
            Reason.MISMATCH,
            members={
                "AWSAccessKeyId": claim.access_key,
                "StringToSign": to_sign,
                "SignatureProvided": claim.signature,
                "CanonicalRequest": text,
            },
        )


def _forms(request: HttpRequest, claim: Claim) -> list[tuple[str, str]]:
    """Path and query as sent, then as AWS writes them: most clients sign the one, some the other, when they differ."""
    without = _SIGNATURE_ONLY if claim.presigned else _NOTHING
    raw_path, raw_query = request.raw_path or "/", request.raw_query
    s3 = claim.service == "s3"
    first = (
        raw_path if s3 else canonical.canonical_path(raw_path),
        canonical.canonical_query(raw_query, without=without),
    )
    if not s3 and not raw_query:
        return [first]
    second = (
        canonical.reencoded_path(raw_path) if s3 else first[0],
        canonical.canonical_query(raw_query, without=without, reencode=True),
    )
    return [first] if second == first else [first, second]


def _string_to_sign(timestamp: str, scope: str, canonical_request: str) -> str:
    digest = hashlib.sha256(canonical_request.encode("latin-1", "replace")).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope}\n{digest}"


def _check_signed_headers(request: HttpRequest, signed: list[str]) -> None:
    """`host` and every x-amz-* header must be covered, or a stranger could add to a signed request."""
    missing = [name for name, _ in request.headers if name.startswith("x-amz-") and name not in signed]
    if "host" not in signed:
        missing.append("host")
    if missing:
        names = ", ".join(sorted(set(missing)))
        raise Denied(
            Reason.NOT_SIGNED,
            f"'{names}' must be a 'SignedHeader' in the AWS Authorization",
            {"HeadersNotSigned": names},
        )


def _derive(secret: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.new(key, part.encode("latin-1", "replace"), "sha256").digest()
    return key


def _moment(timestamp: str) -> datetime | None:
    """The compact ISO form, or an HTTP date (which the Date header has)."""
    try:
        if len(timestamp) == 16 and timestamp[8] == "T" and timestamp[15] == "Z":
            return datetime.fromisoformat(timestamp)
        parsed = parsedate_to_datetime(timestamp)
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _compact(timestamp: str) -> str:
    moment = None if len(timestamp) == 16 else _moment(timestamp)
    return timestamp if moment is None else moment.strftime("%Y%m%dT%H%M%SZ")


def _check_lifetime(claim: Claim, moment: datetime, now: datetime, skew: timedelta) -> None:
    if not _SECONDS.match(claim.expires) or not 1 <= int(claim.expires) <= LONGEST_URL:
        raise Denied(
            Reason.MALFORMED_URL,
            f"X-Amz-Expires must be a number of seconds, at least 1 and at most {LONGEST_URL} (a week)",
        )
    if moment - now > skew:
        raise Denied(Reason.SKEWED, _skew_sentence(moment, now, skew), _skew_members(claim, now, skew))
    end = moment + timedelta(seconds=int(claim.expires))
    if now > end:
        raise Denied(
            Reason.EXPIRED_URL,
            f"Signature expired: {claim.timestamp} + {claim.expires} s is now earlier than {now:%Y%m%dT%H%M%SZ}",
            {
                "X-Amz-Expires": claim.expires,
                "Expires": f"{end:%Y-%m-%dT%H:%M:%SZ}",
                "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
            },
        )


def _skew_sentence(moment: datetime, now: datetime, skew: timedelta) -> str:
    """AWS's wording, which also tells the two clocks."""
    minutes = f"{skew.total_seconds() / 60:g} min."
    form = "%Y%m%dT%H%M%SZ"
    sent, current = moment.strftime(form), now.strftime(form)
    if moment < now:
        return f"Signature expired: {sent} is now earlier than {now - skew:{form}} ({current} - {minutes})"
    return f"Signature not yet current: {sent} is still later than {now + skew:{form}} ({current} + {minutes})"


def _skew_members(claim: Claim, now: datetime, skew: timedelta) -> dict[str, str]:
    return {
        "RequestTime": claim.timestamp,
        "ServerTime": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "MaxAllowedSkewMilliseconds": f"{skew.total_seconds() * 1000:.0f}",
    }
