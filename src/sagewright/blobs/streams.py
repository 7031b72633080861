"""Append-only log streams: what jobs print, kept line by line, read by CloudWatch-compatible operations.

    ROOT/
    └── <group>/                  see `stream_names` for how names become paths
        ├── .created              empty; its time of change is when the group was made
        ├── .retention            days, as text; absent: kept for ever
        └── <stream>.log          see `stream_file` for its lines; an empty file is a stream without events

The file itself is the truth: the cursor of its last line tells a copier where to go on, so that each line is kept
exactly once, whenever either side dies. An append is one write under the file's lock; a torn line that a dead writer
left is cut off before the next one. Owns: locks, appending, groups. Does not own: who follows what (controllers).
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sagewright.blobs import stream_names
from sagewright.blobs.full import full_is_said
from sagewright.blobs.stream_file import Record, StreamEvent, StreamFile, StreamRecord, encode
from sagewright.core.errors import BlobNotFound

__all__ = ["GroupInfo", "LogPage", "LogStreams", "StreamEvent", "StreamInfo", "StreamRecord"]

EVENT_OVERHEAD: Final = 26
"""Bytes that CloudWatch counts for an event besides its message."""
_KNOWN: Final = 4096  # streams whose last timestamp is remembered
_ATTEMPTS: Final = 100  # times that a stream may be removed between opening and locking it


@dataclass(frozen=True, slots=True)
class GroupInfo:
    """`created` is in ms since the epoch; `retention_days` None keeps events for ever."""

    name: str
    created: int
    retention_days: int | None


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """Moments are in ms since the epoch; None when there are no events yet. `bytes` is the file's size."""

    name: str
    created: int
    first_ts: int | None
    last_ts: int | None
    changed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class LogPage:
    """Events in order of time. `forward` is the offset to read on from, `backward` the offset to read up to."""

    events: tuple[StreamEvent, ...]
    forward: int
    backward: int


@dataclass(frozen=True, slots=True)
class _Tail:
    """What a stream's last append left: believed as long as the file is still that one."""

    inode: int
    size: int
    changed: int
    timestamp: int


class LogStreams:
    """Log groups and streams below `root`. Safe to use from any number of threads and processes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._tails: dict[Path, _Tail] = {}

    # -- writing

    def append(self, group: str, stream: str, records: Sequence[Record], *, durable: bool = False) -> None:
        """Add lines; group and stream are made if need be, also for no records. All of them or none.

        A timestamp before that of the line above it is raised to that one. `durable` returns after fsync.
        Raises BlobStoreFull.
        """
        path = self._path(group, stream)
        with self._locked(path, self._made_group(group)) as descriptor:
            tail = self._tail(path, descriptor)
            data, last = encode(records, tail.timestamp)
            if data:
                _write(descriptor, data, tail.size, path)
                self._remember(path, descriptor, last)
            if durable:
                _sync(descriptor, path, self._root)

    def sync(self, group: str, stream: str) -> None:
        """Make everything that was appended durable."""
        self.append(group, stream, (), durable=True)

    def last_cursor(self, group: str, stream: str) -> str | None:
        """The cursor of the last line, after cutting off a torn one; None for an empty or unknown stream."""
        path = self._path(group, stream)
        if not path.exists():
            return None
        with self._locked(path, stream_names.group_path(self._root, group)) as descriptor:
            self._repair(path, descriptor)
            _, record = StreamFile(descriptor).last()
        return record.cursor if record else None

    def create_group(self, group: str) -> bool:
        """False when it was there already."""
        if self.group(group) is not None:
            return False
        self._made_group(group)
        return True

    def create_stream(self, group: str, stream: str) -> bool:
        """False when it was there already."""
        if self._path(group, stream).exists():
            return False
        self.append(group, stream, (), durable=True)
        return True

    def set_retention(self, group: str, days: int | None) -> None:
        """Note how long events are wanted. Raises BlobNotFound."""
        if self.group(group) is None:
            raise BlobNotFound(group)
        note = stream_names.group_path(self._root, group) / ".retention"
        if days is None:
            note.unlink(missing_ok=True)
        else:
            with full_is_said(note):
                note.write_text(str(days))

    def remove(self, group: str, stream: str) -> None:
        """Removing what is not there is success."""
        folder, path = stream_names.group_path(self._root, group), self._path(group, stream)
        path.unlink(missing_ok=True)
        with suppress(OSError):  # stops at the first folder that is not empty
            for above in path.relative_to(folder).parents[:-1]:
                (folder / above).rmdir()

    def remove_group(self, group: str) -> None:
        """With all its streams. Removing what is not there is success."""
        shutil.rmtree(stream_names.group_path(self._root, group), ignore_errors=True)

    # -- reading

    def groups(self, prefix: str = "") -> list[str]:
        """Names, sorted."""
        return sorted(name for name in stream_names.groups(self._root) if name.startswith(prefix))

    def group(self, group: str) -> GroupInfo | None:
        folder = stream_names.group_path(self._root, group)
        try:
            created = _ms((folder / ".created").stat())
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return GroupInfo(group, created, int((folder / ".retention").read_text()))
        except (FileNotFoundError, ValueError):
            return GroupInfo(group, created, None)

    def size(self, group: str) -> int:
        """Bytes of all its streams; looks at every file."""
        folder = stream_names.group_path(self._root, group)
        total = 0
        for name in stream_names.streams(folder, ""):
            with suppress(FileNotFoundError):
                total += stream_names.stream_path(folder, name).stat().st_size
        return total

    def names(self, group: str, prefix: str = "") -> list[str]:
        """The streams of a group, sorted; looks at no file."""
        return sorted(stream_names.streams(stream_names.group_path(self._root, group), prefix))

    def streams(self, group: str, prefix: str = "") -> list[StreamInfo]:
        """Sorted by name."""
        found = (self.info(group, name) for name in self.names(group, prefix))
        return [info for info in found if info is not None]

    def info(self, group: str, stream: str) -> StreamInfo | None:
        try:
            with StreamFile.open(self._path(group, stream)) as file:
                first = next(file.events(0, file.end), None)
                last = next(file.events_backward(0, file.end), None)
                changed = _ms(file.stat)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if first is None or last is None:
            return StreamInfo(stream, changed, None, None, changed, 0)
        return StreamInfo(stream, min(first.timestamp, changed), first.timestamp, last.timestamp, changed, file.end)

    def read(
        self,
        group: str,
        stream: str,
        *,
        start_ms: int | None = None,
        end_ms: int | None = None,
        offset: int | None = None,
        from_head: bool = True,
        limit_events: int = 10_000,
        limit_bytes: int = 1_048_576,
    ) -> LogPage:
        """A page of the events with start_ms <= timestamp < end_ms. Raises BlobNotFound.

        `from_head` reads forward, from `offset` or the first event; otherwise backward, up to `offset` or the last
        event. An empty page gives back `offset`. A page holds at least one event, however large, if there is one.
        """
        with self._open(group, stream) as file:
            start = file.find(start_ms) if start_ms is not None else 0
            stop = file.find(end_ms) if end_ms is not None else file.end
            if offset is not None:
                start, stop = (max(start, offset), stop) if from_head else (start, min(stop, offset))
            found = file.events(start, stop) if from_head else file.events_backward(start, stop)
            events = _limited(found, limit_events, limit_bytes)
        if not events:
            here = offset if offset is not None else start if from_head else max(start, stop)
            return LogPage((), here, here)
        ordered = tuple(events if from_head else reversed(events))
        return LogPage(ordered, ordered[-1].end, ordered[0].offset)

    def read_all(self, group: str, stream: str, *, start_ms: int = 0) -> Iterator[StreamEvent]:
        """Every event from `start_ms` on, in constant memory. Raises BlobNotFound at the first one."""
        with self._open(group, stream) as file:
            yield from file.events(file.find(start_ms) if start_ms else 0, file.end)

    def tail(self, group: str, stream: str, lines: int) -> list[bytes]:
        """The messages of the last `lines` events, in order; empty for an unknown stream."""
        try:
            page = self.read(group, stream, from_head=False, limit_events=lines)
        except BlobNotFound:
            return []
        return [event.message for event in page.events]

    # -- within

    def _path(self, group: str, stream: str) -> Path:
        return stream_names.stream_path(stream_names.group_path(self._root, group), stream)

    def _open(self, group: str, stream: str) -> StreamFile:
        try:
            return StreamFile.open(self._path(group, stream))
        except (FileNotFoundError, NotADirectoryError):
            raise BlobNotFound(f"{group} {stream}") from None

    def _made_group(self, group: str) -> Path:
        folder = stream_names.group_path(self._root, group)
        note = folder / ".created"
        for _ in range(_ATTEMPTS):
            if note.exists():
                return folder
            _make(folder, note)
        raise OSError(errno.ESTALE, f"{folder} is being removed again and again")

    @contextmanager
    def _locked(self, path: Path, group: Path) -> Iterator[int]:
        """The stream's file, made if need be and locked against other writers."""
        descriptor = _open_locked(path, group)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _tail(self, path: Path, descriptor: int) -> _Tail:
        """The end of the file; looked for, and mended, when another process or an earlier life wrote last."""
        known = self._tails.get(path)
        found = os.fstat(descriptor)
        if known and (known.inode, known.size, known.changed) == (found.st_ino, found.st_size, found.st_mtime_ns):
            return known
        return self._repair(path, descriptor)

    def _repair(self, path: Path, descriptor: int) -> _Tail:
        file = StreamFile(descriptor)
        end, record = file.last()
        if end < file.size:
            os.ftruncate(descriptor, end)
        return self._remember(path, descriptor, record.timestamp if record else 0)

    def _remember(self, path: Path, descriptor: int, timestamp: int) -> _Tail:
        found = os.fstat(descriptor)
        tail = _Tail(found.st_ino, found.st_size, found.st_mtime_ns, timestamp)
        if len(self._tails) >= _KNOWN:
            self._tails.clear()
        self._tails[path] = tail
        return tail


def _open_locked(path: Path, group: Path) -> int:
    for _ in range(_ATTEMPTS):
        try:
            with full_is_said(path):
                descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except FileNotFoundError:
            _make(path.parent, group / ".created")  # the group, too, may just have been removed
            continue
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                return descriptor
        os.close(descriptor)  # removed between opening and locking
    raise OSError(errno.ESTALE, f"{path} is being removed again and again")


def _make(folder: Path, note: Path) -> None:
    """A folder and the note of its group; perhaps not, when someone removes them just now. The caller looks again."""
    with full_is_said(note), suppress(FileExistsError, FileNotFoundError):
        folder.mkdir(parents=True, exist_ok=True)
        note.touch()


def _write(descriptor: int, data: bytes, size: int, path: Path) -> None:
    """All of `data` at the end, which is at `size`, or nothing."""
    try:
        with full_is_said(path), memoryview(data) as rest:
            written = 0
            while written < len(rest):
                written += os.write(descriptor, rest[written:])
    except BaseException:
        os.ftruncate(descriptor, size)
        raise


def _sync(descriptor: int, path: Path, root: Path) -> None:
    """The file, and its name in every folder down from `root`."""
    with full_is_said(path), suppress(FileNotFoundError):  # removed meanwhile: nothing to keep
        os.fsync(descriptor)
        for above in path.relative_to(root).parents:
            folder = os.open(root / above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _limited(events: Iterator[StreamEvent], most: int, most_bytes: int) -> list[StreamEvent]:
    found: list[StreamEvent] = []
    size = 0
    for event in events:
        size += len(event.message) + EVENT_OVERHEAD
        if found and size > most_bytes:
            break
        found.append(event)
        if len(found) >= most:
            break
    return found


def _ms(found: os.stat_result) -> int:
    return found.st_mtime_ns // 1_000_000
