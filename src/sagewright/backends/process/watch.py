"""Hints from the record folders, by inotify: which workload's state may have changed.

Only hints: where inotify cannot be had (too many instances, a file system without it) there are none, and callers
look from time to time as they must anyway.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import struct
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from sagewright.core.ids import WorkloadId

_IN_MOVED_TO = 0x80
_IN_IGNORED = 0x8000
_TELLING = ("pid", "exit.json", "progress")  # each is put in place by a rename
_EVENT = struct.Struct("iIII")


async def changes(root: Path) -> AsyncIterator[WorkloadId]:
    """Ids of records below `root` that appeared or moved on, until the iterator is closed."""
    inotify = _Inotify.open()
    if inotify is None:
        return
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(inotify.descriptor, ready.set)
    try:
        for hint in inotify.begin(root):
            yield hint
        while True:
            await ready.wait()
            ready.clear()
            for hint in inotify.read():
                yield hint
    finally:
        loop.remove_reader(inotify.descriptor)
        os.close(inotify.descriptor)


class _Inotify:
    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._root = Path()
        self._folders: dict[int, str] = {}  # watch → workload id; the root's is empty

    @classmethod
    def open(cls) -> _Inotify | None:
        descriptor = _libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(descriptor) if descriptor >= 0 else None

    def begin(self, root: Path) -> list[WorkloadId]:
        """Watch what is there; all of it is worth a first look."""
        self._root = root
        self._watch(root, "")
        present = [entry.name for entry in root.iterdir() if not entry.name.startswith(".")]
        for name in present:
            self._watch(root / name, name)
        return [WorkloadId(name) for name in present]

    def _watch(self, folder: Path, name: str) -> None:
        watch = _libc().inotify_add_watch(self.descriptor, os.fsencode(folder), _IN_MOVED_TO)
        if watch >= 0:
            self._folders[watch] = name

    def read(self) -> list[WorkloadId]:
        """Hints from all events that are waiting, each id once."""
        hints: dict[WorkloadId, None] = {}
        for watch, mask, name in self._events():
            if mask & _IN_IGNORED:
                self._folders.pop(watch, None)  # its folder was removed
                continue
            workload = self._folders.get(watch)
            if workload == "" and not name.startswith("."):
                self._watch(self._root / name, name)
                hints[WorkloadId(name)] = None
            elif workload and name in _TELLING:
                hints[WorkloadId(workload)] = None
        return list(hints)

    def _events(self) -> Iterator[tuple[int, int, str]]:
        try:
            content = os.read(self.descriptor, 64 * 1024)
        except BlockingIOError:
            return
        position = 0
        while position < len(content):
            watch, mask, _, length = _EVENT.unpack_from(content, position)
            position += _EVENT.size
            name = content[position : position + length].rstrip(b"\0")
            position += length
            yield watch, mask, os.fsdecode(name)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)
