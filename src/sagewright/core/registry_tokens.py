"""Passwords for the image registry: what GetAuthorizationToken gives out, and `docker login` hands back.

    base64url({"x": expiry}) . base64url(HMAC)

Owns: making and checking them. The user name is always AWS. A password needs no row: the keyring's seal tells that it
is ours. Does not own: HTTP (`registry.login`), the ECR operation (`services`).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from datetime import datetime, timedelta
from typing import Final

import orjson

from sagewright.core.credentials import Keyring

USER: Final = "AWS"
LIFE: Final = timedelta(hours=12)  # as on AWS
_PURPOSE: Final = "registry passwords"
_LONGEST: Final = 1024


def issue(keyring: Keyring, now: datetime) -> str:
    """A password that is good until `now` + `LIFE`."""
    body = _encode(orjson.dumps({"x": int((now + LIFE).timestamp())}))
    return f"{body}.{_seal(keyring, body)}"


def verify(keyring: Keyring, text: str, now: datetime) -> bool:
    """Whether this installation made the password and its time is not over."""
    body, _, seal = text.partition(".")
    if len(text) > _LONGEST or not text.isascii():
        return False
    if not hmac.compare_digest(seal.encode(), _seal(keyring, body).encode()):
        return False
    try:
        payload = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (binascii.Error, ValueError):
        return False
    return bool(now.timestamp() < payload["x"])


def _seal(keyring: Keyring, body: str) -> str:
    return _encode(hmac.digest(keyring.derive(_PURPOSE), body.encode(), "sha256"))


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
