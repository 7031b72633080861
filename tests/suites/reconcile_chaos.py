"""What may happen in `reconcile_world`, and how likely it is; and what outlives a process on its disk."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from sagewright.core.ids import TransferId, WorkloadId
from sagewright.workloads.transfer import TransferState


@dataclass
class Chaos:
    """Probabilities per call; 0 when the world has calmed down. `slow`: the engine takes its time. `late`: the process
    dies as it submits, and the engine carries that out all the same, some time after."""

    crash: float = 0.0
    unavailable: float = 0.0
    reply_lost: float = 0.0
    hint_lost: float = 0.0
    transfer_fails: float = 0.0
    slow: float = 0.0
    late: float = 0.0


class Disk:
    """What transfers leave behind beside folders: which are done, what feeds pipes, how often outputs were published
    and whose checkpoints were. Outlives lives."""

    def __init__(self) -> None:
        self.done: dict[TransferId, TransferState] = {}
        self.ran: Counter[TransferId] = Counter()
        self.feeds: dict[TransferId, TransferState] = {}
        self.published: Counter[TransferId] = Counter()
        self.saved: set[WorkloadId] = set()
