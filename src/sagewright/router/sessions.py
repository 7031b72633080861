"""Stateful sessions: which instance has which (contract B.4).

Owns: session id → instance, for the sessions that were opened through this process. Does not own: their meaning, which
is between client and container. The oldest go first when there are very many.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from sagewright.router.pool import Headers
from sagewright.router.request import CLOSED_SESSION_ID, NEW_SESSION_ID, SESSION_ID

NEW: Final = "NEW_SESSION"
_MOST: Final = 100_000


class Sessions:
    """Where requests with a SessionId go."""

    def __init__(self) -> None:
        self._instances: OrderedDict[tuple[str, str, str], str] = OrderedDict()

    def instance(self, region: str, endpoint: str, session: str | None) -> str | None:
        """None: any instance will do."""
        if session is None or session == NEW:
            return None
        return self._instances.get((region, endpoint, session))

    def note(self, region: str, endpoint: str, instance: str, headers: Headers) -> None:
        """What a container's answer says of sessions."""
        for name, value in headers:
            if name in {SESSION_ID, NEW_SESSION_ID}:
                session = value.decode("latin-1").partition(";")[0].strip()
                self._instances[region, endpoint, session] = instance
                if len(self._instances) > _MOST:
                    self._instances.popitem(last=False)
            elif name == CLOSED_SESSION_ID:
                self._instances.pop((region, endpoint, value.decode("latin-1").strip()), None)
