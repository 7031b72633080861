"""What one run is to do and has done, on disk: the truth after a crash.

    ROOT/plan.jsonl   the objects of this run, one a line; made once, whole or not at all
    ROOT/done.jsonl   one line per object that is finished, after its output was published

An object whose output was published and whose line was not yet written is done again, with the same result. A torn
last line is cut off. Owns: the two files and a lock, so that a predecessor that is still dying is waited for.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from sagewright.batch.inputs import Item


class Journal:
    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._plan = root / "plan.jsonl"
        self._done = root / "done.jsonl"
        self._descriptor = os.open(self._done, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def __enter__(self) -> Self:
        """Waits for a predecessor."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._descriptor)

    def plan(self, items: Iterable[Item]) -> tuple[int, int]:
        """Freeze what is to do, unless that was done before; answers how many objects and bytes it is."""
        if not self._plan.exists():
            beside = self._plan.with_suffix(".new")
            with beside.open("wb") as file:
                for item in items:
                    file.write(orjson.dumps(tuple(item)) + b"\n")
            beside.rename(self._plan)
        count = size = 0
        for item in self.items():
            count, size = count + 1, size + item.size
        return count, size

    def items(self) -> Iterator[Item]:
        with self._plan.open("rb") as file:
            for line in file:
                yield Item.of(orjson.loads(line))

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
        os.lseek(self._descriptor, 0, os.SEEK_END)
        os.write(self._descriptor, orjson.dumps(line) + b"\n")
