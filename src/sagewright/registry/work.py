"""What every part of the registry stands on: rows, files, the clock, the account.

Owns: where reads and writes of rows run. Does not own: any meaning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from sagewright.core.clock import Clock
from sagewright.registry.faults import name_unknown
from sagewright.registry.files import Files
from sagewright.registry.threads import in_thread
from sagewright.store import registry_rows
from sagewright.store.registry_rows import Repository
from sagewright.store.resources import Store, Tx

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Shelf:
    """`reads_inline` (SQLite): reads wait for nobody, and run where they are asked."""

    store: Store
    files: Files
    clock: Clock
    account: str
    reads_inline: bool

    async def read(self, work: Callable[[Tx], T]) -> T:
        if self.reads_inline:
            return self.store.read(work)
        return await in_thread(lambda: self.store.read(work))

    async def write(self, work: Callable[[Tx], T]) -> T:
        return await in_thread(lambda: self.store.write(work))

    def repository(self, tx: Tx, name: str) -> Repository:
        """Raises RegistryFault NAME_UNKNOWN."""
        found = registry_rows.find_repository(tx, self.account, name)
        if found is None:
            raise name_unknown(name, self.account)
        return found
