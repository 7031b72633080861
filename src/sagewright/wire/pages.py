"""NextToken: where a listing goes on, sealed so that a client can neither read meaning into it nor change it.

    token = base64url( MAC(16 bytes) | JSON array of the position )      MAC = HMAC-SHA256(secret, scope, position)

Owns: sealing and opening. Does not own: what a position is (the store's page key), or how a service names its token.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence

import orjson

from sagewright.wire.faults import ApiFault, validation

_MAC_BYTES = 16


def seal(secret: bytes, position: Sequence[str], scope: str) -> str:
    """A token that `unseal` accepts for the same secret and scope only. URL-safe, without padding."""
    body = orjson.dumps(list(position))
    return base64.urlsafe_b64encode(_mac(secret, body, scope) + body).decode("ascii").rstrip("=")


def unseal(secret: bytes, token: str, scope: str) -> tuple[str, ...]:
    """The position in `token`. Raises ApiFault ValidationException when it was not sealed for this scope."""
    try:
        raw = base64.urlsafe_b64decode(token.encode("ascii") + b"=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise _invalid() from None
    mac, body = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(secret, body, scope)):
        raise _invalid()
    return tuple(orjson.loads(body))


def _mac(secret: bytes, body: bytes, scope: str) -> bytes:
    message = f"{len(scope)}:{scope}".encode() + body
    return hmac.new(secret, message, hashlib.sha256).digest()[:_MAC_BYTES]


def _invalid() -> ApiFault:
    return validation(
        "Invalid NextToken: it was not returned by this operation with these filters. Repeat the first call without it."
    )
