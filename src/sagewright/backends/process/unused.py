"""Built environments that nothing needs any more: found, and taken away under the builder's lock.

    needed   a folder image has these requirements, or the record of a workload names it
    spare    neither, and no runner has found it since a given time
    aside    what a build that was killed left, or a removal; the next build of the same one would sweep it

A runner's record is there before it looks for its environment, which it does under the lock (`runner.environment`). So
whoever holds the lock and sees no record may take it away: a runner that comes later finds nothing, and builds it.
Owns: which are spare, taking them away. Does not own: names of environments (`environments`), building.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from sagewright.backends.process.environments import base_python, key
from sagewright.workloads.workload import FolderImage

_ASIDE: Final = ".build-"
_LENGTH: Final = 32  # characters of a name


def of_images(images: Collection[FolderImage]) -> set[str]:
    python = base_python()
    return {key(each.requirements, python) for each in images}


def unused(environments: Path, needed: Collection[str], before: float) -> list[Path]:
    """Folders below `environments` that are spare, or were put aside; untouched since `before`, in seconds."""
    found = []
    for folder in sorted(environments.iterdir()):
        name, aside = _name(folder)
        if name and (aside or name not in needed) and folder.is_dir() and folder.stat().st_mtime < before:
            found.append(folder)
    return found


def discard(folder: Path, needed: Callable[[], Collection[str]], before: float) -> None:
    """Remove one of those, unless it is needed again. `needed` by workloads, asked under the lock. Raises OSError."""
    name, aside = _name(folder)
    with _locked(folder.parent / f"{name}.lock") as held:
        if not held or not folder.is_dir() or folder.stat().st_mtime >= before or (not aside and name in needed()):
            return
        doomed = folder if aside else folder.with_name(f"{_ASIDE}{name}-unused")
        if not aside:
            shutil.rmtree(doomed, ignore_errors=True)
            folder.rename(doomed)
        shutil.rmtree(doomed)


def _name(folder: Path) -> tuple[str, bool]:
    """The environment that a folder is, or is a part of, and whether that is aside; empty for what is neither."""
    told = folder.name
    aside = told.startswith(_ASIDE)
    name = told.removeprefix(_ASIDE).partition("-")[0] if aside else told
    return (name if len(name) == _LENGTH and set(name) <= set("0123456789abcdef") else ""), aside


@contextmanager
def _locked(path: Path) -> Iterator[bool]:
    """False when a runner is at it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
