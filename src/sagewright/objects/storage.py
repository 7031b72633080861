"""What every S3 operation stands on: the store, the blobs, the clock, and the way to threads.

Owns: where blocking work runs. Does not own: any meaning.

Writes wait for disks and for other writers, so they run in a thread. Reads of an embedded database wait for nobody and
take less time than the way to a thread and back, so they run where they are asked, unless the database is remote.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sagewright.blobs.base import BlobStore
from sagewright.core.clock import Clock
from sagewright.core.ids import Region
from sagewright.store.resources import Store, Tx

T = TypeVar("T")


class Run(Protocol):
    """Runs blocking work elsewhere and hands its result back."""

    def __call__(self, work: Callable[[], T], /) -> Awaitable[T]: ...


def in_thread(work: Callable[[], T], /) -> Awaitable[T]:
    """In the running loop's default executor."""
    return asyncio.get_running_loop().run_in_executor(None, work)


@dataclass(frozen=True, slots=True)
class Storage:
    store: Store
    blobs: BlobStore
    region: Region
    clock: Clock
    run: Run
    reads_inline: bool

    async def read(self, work: Callable[[Tx], T]) -> T:
        if self.reads_inline:
            return self.store.read(work)
        return await self.run(lambda: self.store.read(work))

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await self.run(lambda: self.store.write(work))
