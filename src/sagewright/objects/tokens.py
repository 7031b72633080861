"""Continuation tokens: the position of a list, opaque to clients.

Owns: the form, telling ours from anything else. Does not own: what a position means.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from sagewright.objects.faults import invalid_argument

_FORM: Final = b"1:"  # the version of the form


def seal(position: str) -> str:
    return base64.urlsafe_b64encode(_FORM + position.encode()).decode()


def unseal(token: str) -> str:
    """The position. Raises InvalidArgument."""
    try:
        plain = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        if plain.startswith(_FORM):
            return plain[len(_FORM) :].decode()
    except (binascii.Error, ValueError):
        pass
    raise invalid_argument("The continuation token provided is incorrect", "continuation-token", token)
