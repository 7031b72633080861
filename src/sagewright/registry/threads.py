"""Where the registry's blocking work runs. Owns: nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


def in_thread(work: Callable[[], T], /) -> Awaitable[T]:
    """In the running loop's default executor."""
    return asyncio.get_running_loop().run_in_executor(None, work)
