"""What a job is to do, and what one run of it has done, on disk: the truth after a crash.

    JOB/plan.jsonl     the objects of the job, one a line; made once for all instances, whole or not at all
    JOB/N/done.jsonl   one line per object that instance N has finished, after its output was published

Instance i of n does every n-th line of the plan, from the i-th on (contract C.5): however long the instances take to
start and whatever is uploaded meanwhile, each object is done by one of them. An object whose output was published and
whose line was not yet written is done again, with the same result. A torn last line is cut off.
Owns: the two files and a lock on each, so that a predecessor that is still dying is waited for.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import orjson

from sagewright.batch.inputs import Item
from sagewright.core.errors import BlobStoreFull

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class Share(NamedTuple):
    """Which part of the plan a run does."""

    instance: int
    instances: int


class Journal:
    """`root` is the folder of one instance, in the folder of its job. Raises BlobStoreFull when there is no room."""

    def __init__(self, root: Path, share: Share) -> None:
        self._plan = root.parent / "plan.jsonl"
        self._done = root / "done.jsonl"
        self._share = share
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._descriptor = _opened(self._done)
        except OSError as error:
            raise _said(error, root) from error

    def __enter__(self) -> Self:
        """Waits for a predecessor."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def plan(self, items: Iterable[Item]) -> tuple[int, int]:
        """Freeze what is to do, unless that was done before; answers how many objects and bytes this run has of it."""
        try:
            self._freeze(items)
        except OSError as error:
            raise _said(error, self._plan) from error
        count = size = 0
        for _, item in self.items():
            count, size = count + 1, size + item.size
        return count, size

    def _freeze(self, items: Iterable[Item]) -> None:
        lock = _opened(self._plan.with_suffix(".lock"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self._plan.exists():
                return
            beside = self._plan.with_suffix(".new")
            with beside.open("wb") as file:
                for item in items:
                    file.write(orjson.dumps(tuple(item)) + b"\n")
            beside.rename(self._plan)
        finally:
            os.close(lock)

    def items(self) -> Iterator[tuple[int, Item]]:
        """What this run does, each with its number in it, from 0."""
        with self._plan.open("rb") as file:
            for number, line in enumerate(file):
                if number % self._share.instances == self._share.instance:
                    yield number // self._share.instances, Item.of(orjson.loads(line))

    def finished(self) -> Iterator[Mapping[str, Any]]:
        """The lines of objects that are done."""
        with self._done.open("rb") as file:
            kept = 0
            for line in file:
                if not line.endswith(b"\n"):
                    break
                kept += len(line)
                yield orjson.loads(line)
        os.ftruncate(self._descriptor, kept)

    def note(self, line: Mapping[str, Any]) -> None:
        """The line is there whole, or not at all."""
        data, end = orjson.dumps(line) + b"\n", os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            if os.write(self._descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            os.ftruncate(self._descriptor, end)
            raise _said(error, self._done) from error


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _said(error: OSError, path: Path) -> Exception:
    if error.errno in _FULL:
        return BlobStoreFull(f"No space is left on the disk that holds {path.parent}: free some and try again.")
    return error
