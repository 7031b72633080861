"""What is known of all training jobs at once: who may begin (`training_queue`), who may take whose pool
(`training_pools`).

    fill   once in a life, every unfinished row: what has begun counts before it is looked at
    note   what a row says, at each look at it
    gone   there is no such row

Owns: that both know the same rows. Does not own: what they make of them. Safe to call from any thread.
"""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import Final

from sagewright.controllers.training_pools import WarmPools
from sagewright.controllers.training_queue import JobQueue
from sagewright.controllers.training_steps import Job
from sagewright.core.ids import Key
from sagewright.store.kinds import training_job as kind
from sagewright.store.resources import Tx

_END_OF_TIME: Final = datetime(9000, 1, 1, tzinfo=UTC)


class Memory:
    """Lost with the process, and told again by the rows."""

    def __init__(self, queue: JobQueue) -> None:
        self.queue = queue
        self.pools = WarmPools()
        self._filled = False
        self._filling = threading.Lock()

    def fill(self, tx: Tx) -> None:
        with self._filling:  # whoever comes meanwhile waits: rows read before must not be told after what was decided
            if self._filled:
                return
            for key in tx.due([kind.KIND], _END_OF_TIME, 100_000):
                if row := tx.find(key):
                    self.note(Job.of(row))
            self._filled = True

    def note(self, job: Job) -> None:
        self.queue.note(job)
        self.pools.note(job)

    def gone(self, key: Key) -> None:
        self.queue.release(key)
        self.pools.forget(key)
