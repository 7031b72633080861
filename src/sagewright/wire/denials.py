"""Why a caller was turned away, and how each family of protocols says so.

Owns: the reasons, AWS's code, status and sentence for each, and the advice that follows the sentence.
Does not own: finding the reason (`wire.sigv4`, `wire.sigv2`, `wire.payload`).

    Denied (reason, details) ──denial_fault(family)──▶ ApiFault

Sources: "Error responses" of the Amazon S3 API Reference, "Common Errors" of the SageMaker and STS API References.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from sagewright.wire.faults import ApiFault


class Family(StrEnum):
    """Which dialect of error codes a client expects."""

    S3 = "s3"
    JSON = "json"
    QUERY = "query"


class Reason(StrEnum):
    UNSIGNED = "unsigned"
    MALFORMED = "malformed"  # an Authorization header or signature parameters that cannot be read
    MALFORMED_URL = "malformed url"  # the same in a presigned URL
    UNKNOWN_KEY = "unknown key"
    BAD_TOKEN = "bad token"  # the key may be ours, the session token is missing or is not its own
    EXPIRED_TOKEN = "expired token"
    SKEWED = "skewed"
    EXPIRED_URL = "expired url"
    NOT_SIGNED = "not signed"  # a header that matters was left out of SignedHeaders
    MISMATCH = "mismatch"
    BODY_MISMATCH = "body mismatch"  # x-amz-content-sha256 is not the hash of the body


class Denied(Exception):
    """The caller is not let in. `detail` replaces or fills AWS's sentence; `members` are S3's extra error elements."""

    def __init__(self, reason: Reason, detail: str = "", members: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.members = dict(members or {})


_TAKE_OUR_KEYS: Final = (
    'Sagewright accepts only the keys it has issued. Run `eval "$(sagewright env)"` in this shell, which sets '
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, and make the client again."
)

_ADVICE: Final[Mapping[Reason, str]] = {
    Reason.UNSIGNED: _TAKE_OUR_KEYS,
    Reason.MALFORMED: "Let an AWS SDK, the AWS CLI or `curl --aws-sigv4` sign the request.",
    Reason.MALFORMED_URL: "Let an AWS SDK or `aws s3 presign` make the URL, and use it unchanged.",
    Reason.UNKNOWN_KEY: _TAKE_OUR_KEYS,
    Reason.BAD_TOKEN: _TAKE_OUR_KEYS + " All three belong together: a key without its own session token is refused.",
    Reason.EXPIRED_TOKEN: 'Take new keys: `eval "$(sagewright env)"`, or assume the role again.',
    Reason.SKEWED: "Set this machine's clock right (in a virtual machine or WSL it stops during sleep).",
    Reason.EXPIRED_URL: "Make a new URL, with a longer ExpiresIn if it must last.",
    Reason.NOT_SIGNED: "Add the header before signing, or do not send it.",
    Reason.MISMATCH: (
        'Take access key, secret key and session token from one `eval "$(sagewright env)"`. If they are, something '
        "between client and server changed the host, path, query or a signed header."
    ),
    Reason.BODY_MISMATCH: "The body was changed or cut after it was signed: send the request again.",
}

_WRONG_SIGNATURE: Final = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
    "Key and signing method. Consult the service documentation for details."
)
_BAD_CLIENT_TOKEN: Final = "The security token included in the request is invalid."
_EXPIRED: Final = "The security token included in the request is expired"

# (family, reason) → code, status, sentence. An empty sentence is filled from Denied.detail.
_TABLE: Final[Mapping[tuple[Family, Reason], tuple[str, int, str]]] = {
    (Family.S3, Reason.UNSIGNED): ("AccessDenied", 403, "Access Denied"),
    (Family.S3, Reason.MALFORMED): ("AuthorizationHeaderMalformed", 400, ""),
    (Family.S3, Reason.MALFORMED_URL): ("AuthorizationQueryParametersError", 400, ""),
    (Family.S3, Reason.UNKNOWN_KEY): (
        "InvalidAccessKeyId",
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    (Family.S3, Reason.BAD_TOKEN): ("InvalidToken", 400, "The provided token is malformed or otherwise invalid."),
    (Family.S3, Reason.EXPIRED_TOKEN): ("ExpiredToken", 400, "The provided token has expired."),
    (Family.S3, Reason.SKEWED): (
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the current time is too large.",
    ),
    (Family.S3, Reason.EXPIRED_URL): ("AccessDenied", 403, "Request has expired"),
    (Family.S3, Reason.NOT_SIGNED): (
        "AccessDenied",
        403,
        "There were headers present in the request which were not signed",
    ),
    (Family.S3, Reason.MISMATCH): (
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the signature you provided. Check your key and signing "
        "method.",
    ),
    (Family.S3, Reason.BODY_MISMATCH): (
        "XAmzContentSHA256Mismatch",
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
    (Family.JSON, Reason.UNSIGNED): ("MissingAuthenticationTokenException", 403, "Missing Authentication Token"),
    (Family.JSON, Reason.MALFORMED): ("IncompleteSignatureException", 403, ""),
    (Family.JSON, Reason.MALFORMED_URL): ("IncompleteSignatureException", 403, ""),
    (Family.JSON, Reason.UNKNOWN_KEY): ("UnrecognizedClientException", 403, _BAD_CLIENT_TOKEN),
    (Family.JSON, Reason.BAD_TOKEN): ("UnrecognizedClientException", 403, _BAD_CLIENT_TOKEN),
    (Family.JSON, Reason.EXPIRED_TOKEN): ("ExpiredTokenException", 403, _EXPIRED),
    (Family.JSON, Reason.SKEWED): ("InvalidSignatureException", 403, ""),
    (Family.JSON, Reason.EXPIRED_URL): ("InvalidSignatureException", 403, ""),
    (Family.JSON, Reason.NOT_SIGNED): ("InvalidSignatureException", 403, ""),
    (Family.JSON, Reason.MISMATCH): ("InvalidSignatureException", 403, _WRONG_SIGNATURE),
    (Family.JSON, Reason.BODY_MISMATCH): ("InvalidSignatureException", 403, _WRONG_SIGNATURE),
    (Family.QUERY, Reason.UNSIGNED): ("MissingAuthenticationToken", 403, "Request is missing Authentication Token"),
    (Family.QUERY, Reason.MALFORMED): ("IncompleteSignature", 400, ""),
    (Family.QUERY, Reason.MALFORMED_URL): ("IncompleteSignature", 400, ""),
    (Family.QUERY, Reason.UNKNOWN_KEY): ("InvalidClientTokenId", 403, _BAD_CLIENT_TOKEN),
    (Family.QUERY, Reason.BAD_TOKEN): ("InvalidClientTokenId", 403, _BAD_CLIENT_TOKEN),
    (Family.QUERY, Reason.EXPIRED_TOKEN): ("ExpiredToken", 403, _EXPIRED),
    (Family.QUERY, Reason.SKEWED): ("SignatureDoesNotMatch", 403, ""),
    (Family.QUERY, Reason.EXPIRED_URL): ("SignatureDoesNotMatch", 403, ""),
    (Family.QUERY, Reason.NOT_SIGNED): ("SignatureDoesNotMatch", 403, ""),
    (Family.QUERY, Reason.MISMATCH): ("SignatureDoesNotMatch", 403, _WRONG_SIGNATURE),
    (Family.QUERY, Reason.BODY_MISMATCH): ("SignatureDoesNotMatch", 403, _WRONG_SIGNATURE),
}


def denial_fault(denied: Denied, family: Family) -> ApiFault:
    """What the client is told: AWS's code and sentence first, because clients match on them, then what to change."""
    code, status, sentence = _TABLE[family, denied.reason]
    said = sentence or denied.detail
    stop = "" if said.endswith((".", ")")) else "."
    members = denied.members if family is Family.S3 else None
    return ApiFault(code, f"{said}{stop} {_ADVICE[denied.reason]}", status, members=members)
