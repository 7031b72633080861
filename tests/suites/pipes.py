"""A job whose Pipe channels are staged and fed, and its reader."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from sagewright.core.ids import TransferId
from sagewright.staging.transfers import LocalTransfers
from sagewright.workloads.transfer import ChannelInput, FeedPipes, PipeInput, StageInputs, TransferPhase, TransferState

FEED = TransferId("job-1.feed")
SECONDS = 30


class Fed:
    """Over the transfers that `transfers` answers with, which may be others after a restart."""

    def __init__(
        self,
        root: Path,
        transfers: Callable[[], LocalTransfers],
        inputs: StageInputs,
        ended: Callable[[StageInputs], Awaitable[TransferState]],
    ) -> None:
        self.root, self.own, self.data = root, root.parent, root / "input" / "data"
        self._transfers = transfers
        self._inputs = inputs
        self._ended = ended

    async def stage(self, *channels: ChannelInput) -> TransferState:
        return await self._ended(replace(self._inputs, channels=channels))

    def start(self) -> None:
        self._transfers().start(FeedPipes(FEED, self.root))

    def state(self) -> TransferState | None:
        return self._transfers().observe([FEED]).get(FEED)

    def phase(self, phase: TransferPhase | None) -> TransferState | None:
        """The state once it has come to `phase`."""
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            state = self.state()
            if (state.phase if state else None) is phase:
                return state
            time.sleep(0.005)
        raise AssertionError(f"{self.state()} never became {phase}")

    def pid(self) -> int:
        lock = self.own / "pipes" / "lock"
        deadline = time.monotonic() + SECONDS
        while time.monotonic() < deadline and not lock.read_text():
            time.sleep(0.005)
        return int(lock.read_text())

    def opened(self, name: str) -> int:
        """A reader's end, as soon as the pipe is there."""
        deadline = time.monotonic() + SECONDS
        while not (self.data / name).exists():
            assert time.monotonic() < deadline, f"{name} never came"
            time.sleep(0.001)
        return os.open(self.data / name, os.O_RDONLY)

    def read(self, name: str) -> bytes:
        with open(self.opened(name), "rb") as pipe:
            return pipe.read()


def piped(
    uri: str = "s3://b/data/", *, manifest: bool = False, shard: int = 0, shards: int = 1, **pipe: object
) -> ChannelInput:
    return ChannelInput("train", uri, manifest, shard, shards, PipeInput(**pipe))


def records(data: bytes) -> list[bytes]:
    """RecordIO, read the plain way."""
    found = []
    while data:
        magic, length = struct.unpack_from("<II", data)
        assert magic == 0xCED7230A
        assert length >> 29 == 0
        found.append(data[8 : 8 + length])
        data = data[8 + length + -length % 4 :]
    return found
