"""Who may use the registry: whoever has a password that GetAuthorizationToken gave out.

Owns: reading `Authorization: Basic`. Does not own: passwords (`core.registry_tokens`).
"""

from __future__ import annotations

import base64
import binascii
from datetime import datetime

from sagewright.core.credentials import Keyring
from sagewright.core.registry_tokens import USER, verify
from sagewright.registry.faults import RegistryFault
from sagewright.wire.messages import HttpRequest


def check(keyring: Keyring, request: HttpRequest, now: datetime) -> None:
    """Raises RegistryFault 401."""
    given = request.headers.get("authorization")
    if given is None:
        raise _refusal(request, "Log in first")
    scheme, _, encoded = given.partition(" ")
    if scheme.lower() != "basic":
        raise _refusal(request, "The registry takes Basic authentication only")
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _refusal(request, "The Authorization header cannot be read") from None
    if user != USER or not verify(keyring, password, now):
        raise _refusal(request, "Your login is not valid or has expired (it is good for 12 hours)")


def _refusal(request: HttpRequest, reason: str) -> RegistryFault:
    host = request.headers.get("host") or ""
    sentence = f"{reason}: aws ecr get-login-password | docker login --username AWS --password-stdin {host}"
    realm = f'Basic realm="{request.scheme}://{host}/", service="sagewright"'.replace("\r", "").replace("\n", "")
    return RegistryFault("UNAUTHORIZED", sentence, headers=(("www-authenticate", realm),))
