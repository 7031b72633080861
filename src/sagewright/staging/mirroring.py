"""Mirrors that are under way: one thread for each, which looks again and again until it is ended.

Owns: the threads, pauses, what is said of a pass that failed. Does not own: a pass (`mirror`).
All of it is in memory: after a restart a mirror is unknown, and the controller starts it again.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from sagewright.core.errors import SagewrightError
from sagewright.core.ids import TransferId
from sagewright.staging import disk
from sagewright.staging.meter import Cancelled, Meter
from sagewright.staging.mirror import FolderMirror
from sagewright.staging.source import ObjectStore
from sagewright.workloads.transfer import MirrorFolders, TransferPhase, TransferState

PAUSE: Final = 1.0  # seconds between two passes
_SHARE: Final = 20  # a pass that takes long is rested from for so many times as long, so that looking costs a core 5%
_LONGEST: Final = 60.0

_log: Final = logging.getLogger(__name__)


class Mirrors:
    """Safe to call from any thread."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._running: dict[TransferId, _Running] = {}

    def start(self, transfer: MirrorFolders) -> None:
        with self._lock:
            if transfer.id not in self._running:
                self._running[transfer.id] = _Running(transfer, self._objects)

    def state(self, each: TransferId) -> TransferState | None:
        with self._lock:
            running = self._running.get(each)
        if running is None:
            return None
        return TransferState(each, TransferPhase.RUNNING, running.problem, bytes_moved=running.meter.moved)

    def end(self, each: TransferId) -> None:
        """Returns when its thread has let go."""
        with self._lock:
            running = self._running.pop(each, None)
        if running is not None:
            running.end()

    def finish(self, transfer: MirrorFolders, meter: Meter) -> None:
        """End it, with a last pass over all that was written. Raises what a pass raises. Where there is no root,
        there is nothing to publish, and nothing is deleted for it."""
        self.end(transfer.id)
        if not transfer.root.is_dir():
            return
        try:
            for each in _folders(transfer, self._objects):
                each.look(meter, last=True)
        except (SagewrightError, OSError) as error:
            _log.warning("%s: the last pass over what its program wrote failed: %s", transfer.id, error)
            raise

    def close(self) -> None:
        with self._lock:
            running = list(self._running.values())
            self._running.clear()
        for each in running:
            each.meter.cancel()
        for each in running:
            each.end()


class _Running:
    def __init__(self, transfer: MirrorFolders, objects: ObjectStore) -> None:
        self.meter = Meter()
        self.problem = ""  # of the last pass
        self._transfer = transfer
        self._objects = objects
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror {transfer.id}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.meter.cancel()
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        folders = _folders(self._transfer, self._objects)
        while not self._ending.is_set():
            began = time.monotonic()
            problems = [said for each in folders if (said := self._look(each))]
            self._note("; ".join(problems))
            took = time.monotonic() - began
            self._ending.wait(min(_LONGEST, max(PAUSE, took * _SHARE)))

    def _look(self, folder: FolderMirror) -> str:
        """What went wrong. Whatever it was, it is tried again: the program must not fail for it."""
        try:
            folder.look(self.meter)
        except Cancelled:
            return ""
        except OSError as error:
            return str(disk.refusal(error, self._transfer.root))
        except SagewrightError as error:
            return str(error)
        except Exception as error:
            _log.exception("%s failed in a way that nobody thought of", self._transfer.id)
            return f"an internal error: {error!r}"
        return ""

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            _log.warning("%s cannot publish what its program writes, and tries again: %s", self._transfer.id, problem)
        self.problem = problem


def _folders(transfer: MirrorFolders, objects: ObjectStore) -> list[FolderMirror]:
    return [FolderMirror(transfer.root, number, each, objects) for number, each in enumerate(transfer.mirrors)]
