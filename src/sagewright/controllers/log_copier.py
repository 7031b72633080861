"""Copying log lines from backends into log streams, each exactly once.

    backend.logs(after = the stream's last cursor) ─► buffer ─► append ─► ... ─► end ─► fsync ─► drained

The stream file is the truth: it holds the cursor of each line, so that after a crash at any instant (a torn last line
included) the copier reads where it ended and asks the backend for what comes after that. Nothing else is remembered.
Owns: following, batching, the last lines and metrics for whoever decides. Does not own: the file format
(`blobs.streams`), where lines come from (backends), when a workload is over (controllers).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from sagewright.blobs.streams import LogStreams
from sagewright.controllers.controller import LogState
from sagewright.controllers.metrics import Metrics, MetricStore
from sagewright.core.errors import BackendUnavailable, BlobError, StoreError
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import BatchesLogs, ComputeBackend, LogCursor, LogRecord

T = TypeVar("T")

TAIL: Final = 200  # lines kept for FailureReason: a launcher of many ranks writes much after the cause
_LONGEST: Final = 4096  # bytes of such a line; the middle of a longer one is left out
FLUSH_EVERY: Final = 0.05  # seconds between appends while lines keep coming; the first one is appended at once
FLUSH_SIZE: Final = 64 * 1024  # bytes that are appended without waiting for the time
SAVE_EVERY: Final = 5.0  # seconds between writes of one workload's metrics
HOLD_SIZE: Final = 1024 * 1024  # bytes at which reading waits for writing

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LogTarget:
    """Whose lines go where, and which metrics are in them: (name, regex)."""

    workload: WorkloadId
    group: str
    stream: str
    definitions: tuple[tuple[str, str], ...] = ()


class LogCopier:
    """One follower per workload. `wake` is told a workload whose log has come to its end."""

    def __init__(
        self,
        streams: LogStreams,
        threads: Executor,
        wake: Callable[[WorkloadId], None],
        backoff: tuple[float, float] = (0.2, 15.0),
        metrics: MetricStore | None = None,
    ) -> None:
        self._streams = streams
        self._threads = threads
        self._wake = wake
        self._backoff = backoff
        self._metrics = metrics
        self._followers: dict[WorkloadId, _Follower] = {}

    def follow(self, target: LogTarget, backend: ComputeBackend, exited: bool) -> None:
        """Copy from now on until the end. A log that ended though its workload has not is read on."""
        follower = self._followers.get(target.workload)
        if follower is None:
            follower = _Follower(
                target,
                backend,
                streams=self._streams,
                threads=self._threads,
                wake=self._wake,
                backoff=self._backoff,
                metrics=self._metrics,
            )
            self._followers[target.workload] = follower
        elif follower.ended and not exited:
            follower.go_on()

    def state(self, workload: WorkloadId) -> LogState:
        """Drained only once every line is durably in the stream."""
        follower = self._followers.get(workload)
        return follower.state if follower else LogState(drained=False)

    async def kept(self, target: LogTarget) -> LogState:
        """What is in the stream of a workload that cannot be followed, because it does not exist (any more)."""
        if target.workload in self._followers:
            return self.state(target.workload)
        tail = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: self._streams.tail(target.group, target.stream, TAIL)
        )
        return LogState(drained=False, tail=tuple(_text(line) for line in tail))

    def release(self, workload: WorkloadId) -> None:
        """Nobody asks for this workload any more."""
        if follower := self._followers.pop(workload, None):
            follower.cancel()

    async def aclose(self) -> None:
        """End without finishing: what is missing is copied after the next start."""
        followers = tuple(self._followers.values())
        self._followers.clear()
        for follower in followers:
            follower.cancel()
        for follower in followers:
            await follower.over()


class _Read:
    """What was learned from the lines that are in the file. Belongs to one thread at a time."""

    def __init__(self, definitions: tuple[tuple[str, str], ...]) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.metrics = Metrics(definitions)

    def state(self) -> LogState:
        return LogState(False, tuple(self.tail), self.metrics.final())


class _Follower:
    """Copies one workload's lines into its stream.

    opening ──► following ──► ended        any error: pause, and open again from what the file holds
       ▲            │
       └── pause ◄──┘
    """

    def __init__(
        self,
        target: LogTarget,
        backend: ComputeBackend,
        *,
        streams: LogStreams,
        threads: Executor,
        wake: Callable[[WorkloadId], None],
        backoff: tuple[float, float],
        metrics: MetricStore | None,
    ) -> None:
        self.ended = False
        self._target = target
        self._backend = backend
        self._streams = streams
        self._threads = threads
        self._wake = wake
        self._backoff = backoff
        self._metrics = metrics
        self._save_at = 0.0  # no earlier
        self._read = _Read(target.definitions)
        self._shown = LogState(drained=False)
        self._task = asyncio.create_task(self._run())

    @property
    def state(self) -> LogState:
        return replace(self._shown, drained=self.ended)

    def go_on(self) -> None:
        self.ended = False
        self._task = asyncio.create_task(self._run(self._backoff[0]))

    def cancel(self) -> None:
        self._task.cancel()

    async def over(self) -> None:
        await asyncio.wait((self._task,))

    async def _run(self, pause: float = 0.0) -> None:
        first, longest = self._backoff
        while True:
            await asyncio.sleep(pause)
            try:
                await self._copy()
                break
            except (BackendUnavailable, BlobError, StoreError, OSError) as error:
                pause = min(longest, max(first, pause * 2))
                _log.info("log of %s: %s; it is read on in %.1f s", self._target.workload, error, pause)
            except Exception:
                pause = longest
                _log.exception("log of %s: copying failed; it is tried again", self._target.workload)
        self.ended = True
        self._wake(self._target.workload)

    async def _copy(self) -> None:
        """From the last line in the file to the last line there is."""
        cursor, self._shown = await self._in_thread(self._open)
        batches = _Batches(self._backend, self._target.workload, cursor)
        try:
            while batch := await self._next(batches):
                self._shown = await self._in_thread(lambda batch=batch: self._append(batch))  # type: ignore[misc]
        finally:
            await batches.aclose()
        await self._in_thread(self._save)
        await self._in_thread(lambda: self._streams.sync(self._target.group, self._target.stream))

    async def _next(self, batches: _Batches) -> list[LogRecord]:
        """The next lines. Metrics do not wait for them longer than their time."""
        while self._read.metrics.changed:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._save_at - time.monotonic())):
                    return await batches.next()
            await self._in_thread(self._save)
        return await batches.next()

    def _save(self) -> None:
        values = self._read.metrics.take()
        self._save_at = time.monotonic() + SAVE_EVERY
        if self._metrics is not None:
            self._metrics.save(self._target.group, self._target.stream, values)

    def _open(self) -> tuple[LogCursor | None, LogState]:
        """Make the stream exist, and learn from it what an earlier life had read."""
        group, stream = self._target.group, self._target.stream
        self._streams.append(group, stream, [])
        self._read = _Read(self._target.definitions)
        self._read.tail.extend(_text(line) for line in self._streams.tail(group, stream, TAIL))
        if self._read.metrics:
            for event in self._streams.read_all(group, stream):
                self._read.metrics.read(event.message, event.timestamp)
        last = self._streams.last_cursor(group, stream)
        return LogCursor(last) if last else None, self._read.state()

    def _append(self, batch: list[LogRecord]) -> LogState:
        self._streams.append(self._target.group, self._target.stream, batch)
        self._read.tail.extend(_text(record.message) for record in batch[-TAIL:])
        if self._read.metrics:
            for record in batch:
                self._read.metrics.read(record.message, record.timestamp)
        return self._read.state()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """A thread cannot be cancelled: when we are, its append is waited for, so that the next reader of the file
        sees all that was written."""
        running = asyncio.get_running_loop().run_in_executor(self._threads, work)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise


class _Batches:
    """Reads a backend's log ahead and gives it in batches: at once when it is calm, every FLUSH_EVERY when not."""

    def __init__(self, backend: ComputeBackend, workload: WorkloadId, after: LogCursor | None) -> None:
        self._lines = _batched(backend, workload, after)
        self._buffer: list[LogRecord] = []
        self._size = 0
        self._filled = asyncio.Event()
        self._full = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._next_flush = 0.0
        self._reader = asyncio.create_task(self._read())
        self._reader.add_done_callback(self._over)

    async def next(self) -> list[LogRecord]:
        """The next lines; empty at the end. Lines that were read before an error are given before it is raised."""
        while not self._buffer and not self._reader.done():
            self._filled.clear()
            await self._filled.wait()
        if not self._buffer:
            self._reader.result()
            return []
        clock = asyncio.get_running_loop()
        if not self._reader.done() and (pause := self._next_flush - clock.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._full.wait()
        batch, self._buffer, self._size = self._buffer, [], 0
        self._next_flush = clock.time() + FLUSH_EVERY
        self._full.clear()
        self._room.set()
        return batch

    async def aclose(self) -> None:
        """Let go of the backend's log. What the reader ended with was told by `next`, or is of no interest now."""
        self._reader.cancel()
        await asyncio.wait((self._reader,))

    def _over(self, reader: asyncio.Task[None]) -> None:
        if not reader.cancelled():
            reader.exception()  # seen: asyncio need not warn of it
        self._filled.set()
        self._full.set()

    async def _read(self) -> None:
        try:
            async for records in self._lines:
                self._buffer += records
                self._size += sum([len(record.message) for record in records])
                self._filled.set()
                if self._size >= FLUSH_SIZE:
                    self._full.set()
                if self._size >= HOLD_SIZE:
                    self._room.clear()
                    await self._room.wait()
        finally:
            with suppress(Exception):
                await self._lines.aclose()


async def _batched(
    backend: ComputeBackend, workload: WorkloadId, after: LogCursor | None
) -> AsyncGenerator[Sequence[LogRecord], None]:
    """A backend's lines, as many at a time as it has."""
    if isinstance(backend, BatchesLogs):
        async with aclosing(backend.log_batches(workload, after=after)) as batches:
            async for batch in batches:
                yield batch
        return
    lines = backend.logs(workload, after=after)
    try:
        async for record in lines:
            yield (record,)
    finally:
        await lines.aclose()  # type: ignore[attr-defined]


def _text(message: bytes) -> str:
    if len(message) > _LONGEST:
        message = message[: _LONGEST // 2] + " … ".encode() + message[-_LONGEST // 2 :]
    return message.decode("utf-8", "replace")
