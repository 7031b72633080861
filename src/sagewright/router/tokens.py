"""Bearer tokens for one endpoint: for curl and services that cannot sign.

    sgw. base64url({"e": endpoint, "r": region, "x": expiry}) . base64url(HMAC)

Owns: making and checking them. A token needs no row: the keyring's seal tells that it is ours, and the payload says for
what and until when. It cannot be taken back before it expires, but by making a new master key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import orjson

from sagewright.core.credentials import Keyring
from sagewright.core.ids import DEFAULT_REGION, Region

_PREFIX: Final = "sgw"
_PURPOSE: Final = "endpoint tokens"
_LONGEST: Final = 1024


class BadToken(Exception):
    """The text is not a token that this installation made."""


@dataclass(frozen=True, slots=True)
class Token:
    """What a token allows: invoking one endpoint, until `expires` (None: for ever)."""

    endpoint: str
    region: Region
    expires: datetime | None


def make(keyring: Keyring, endpoint: str, expires: datetime | None, region: Region = DEFAULT_REGION) -> str:
    """The token's text, fit for `Authorization: Bearer TEXT`."""
    payload = {"e": endpoint, "r": region, "x": int(expires.timestamp()) if expires else None}
    body = base64.urlsafe_b64encode(orjson.dumps(payload)).decode().rstrip("=")
    return f"{_PREFIX}.{body}.{_seal(keyring, body)}"


def check(keyring: Keyring, text: str) -> Token:
    """Raises BadToken. An expired token is returned: the caller compares with its clock."""
    prefix, _, rest = text.partition(".")
    body, _, seal = rest.partition(".")
    if prefix != _PREFIX or len(text) > _LONGEST or not text.isascii():
        raise BadToken
    if not hmac.compare_digest(seal.encode(), _seal(keyring, body).encode()):
        raise BadToken
    try:
        payload = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError) as error:
        raise BadToken from error
    expires = datetime.fromtimestamp(payload["x"], UTC) if payload["x"] is not None else None
    return Token(payload["e"], Region(payload["r"]), expires)


def _seal(keyring: Keyring, body: str) -> str:
    digest = hmac.digest(keyring.derive(_PURPOSE), body.encode(), "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")
