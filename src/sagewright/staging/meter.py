"""How far one transfer has come, and whether it is still wanted. Shared by its threads and by whoever observes it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any


class Cancelled(Exception):
    """The transfer was forgotten while it ran."""


class Meter:
    """Counts bytes from several threads. `total` None: not known yet."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.moved = 0
        self.progress: Mapping[str, Any] = {}  # what a transform has counted; replaced, never changed
        self._lock = threading.Lock()
        self._cancelled = threading.Event()

    def add(self, count: int) -> None:
        """Count bytes; raises Cancelled when nobody wants them any more."""
        self.check()
        with self._lock:
            self.moved += count

    def check(self) -> None:
        if self._cancelled.is_set():
            raise Cancelled

    def cancel(self) -> None:
        self._cancelled.set()
