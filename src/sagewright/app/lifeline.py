"""A child of the supervisor ends when the supervisor does, however that ended."""

from __future__ import annotations

import os
import threading


def hold(descriptor: int) -> None:
    """Leave at once, without ceremony, when the pipe's other end is gone: all we do is safe to cut off."""

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
