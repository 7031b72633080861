"""The controller's side of feeding Pipe channels: a process per job's host, started, looked at, ended.

    .transfers/ID.feed ──► OWN/pipes       which record belongs to which transfer
    OWN/pipes/lock         held by the process while it lives, so that whether it does needs no guess
    OWN/pipes/code         its program (`staging.feeder`)

The process lives on when we end, however we end, and the next controller finds it. One that died while nobody was
reading is followed by another. One that died within an epoch has shown its reader a false end: the transfer has FAILED,
because what the program was given cannot be mended, nor what it made of it trusted.
Owns: that process. Does not own: what it feeds (`pipes`), how (`feeder`).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from sagewright.core.errors import TransferError
from sagewright.core.ids import TransferId
from sagewright.staging.feeder import progress
from sagewright.staging.pipes import RECORD
from sagewright.workloads.transfer import FeedPipes, TransferPhase, TransferState

_ENTRY: Final = "import sys\nsys.path.insert(0, 'code')\nfrom feeder.main import main\nmain()\n"
_END: Final = 10.0  # seconds for a killed process to be gone


class Feeds:
    """`markers` is the folder that says what belongs to a transfer. All calls block for some milliseconds."""

    def __init__(self, markers: Path) -> None:
        self._markers = markers
        self._python = os.path.realpath(sys.executable)

    def start(self, feed: FeedPipes) -> None:
        """Unless it runs already, or must not. Raises TransferError, OSError."""
        record = feed.root.with_name(RECORD)
        marker = self._marker(feed.id)
        if not marker.is_symlink():
            marker.symlink_to(record)
        if self._failure(record):
            return
        if (lock := _lock(record)) is None:
            return
        try:
            self._spawn(record, lock)
        finally:
            os.close(lock)

    def state(self, each: TransferId) -> TransferState | None:
        """None: it was never started, or its process died and may be followed by another."""
        try:
            record = self._marker(each).readlink()
        except OSError:
            return None
        if failure := self._failure(record):
            return TransferState(each, TransferPhase.FAILED, failure)
        return TransferState(each, TransferPhase.RUNNING) if _lives(record) else None

    def end(self, each: TransferId) -> None:
        """Returns when nothing feeds any more."""
        marker = self._marker(each)
        try:
            record = marker.readlink()
        except OSError:
            return
        deadline = time.monotonic() + _END
        while _lives(record) and time.monotonic() < deadline:
            _kill(record)
            time.sleep(0.005)
        marker.unlink(missing_ok=True)

    def _marker(self, each: TransferId) -> Path:
        return self._markers / f"{each}.feed"

    def _failure(self, record: Path) -> str:
        """Why what the container reads cannot be trusted; empty while it can."""
        with suppress(FileNotFoundError):
            return (record / "error").read_text(errors="replace")
        if _lives(record):
            return ""
        for path in sorted(record.glob("*/progress")):
            epoch, phase = progress.read(str(path))
            if phase != progress.IDLE:
                return (
                    "InternalServerError: The process that feeds the Pipe channels was killed within epoch "
                    f"{epoch}, so the program may have taken a part of the data for all of it. Start the job again."
                )
        return ""

    def _spawn(self, record: Path, lock: int) -> None:
        """Its command line names neither Sagewright nor the data directory, like that of a job's own process."""
        code = record / "code"
        _install(code)
        python = Path(self._python)
        with open(record / "log", "ab") as said:
            process = subprocess.Popen(
                [python.name, "-I", "-S", "code/run.py", str(lock)],
                executable=self._python,
                cwd=record,
                env={"PATH": f"{python.parent}:{os.defpath}"},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
                pass_fds=(lock,),
            )
        threading.Thread(target=process.wait, name="feeder", daemon=True).start()  # so that it leaves no zombie


def _install(code: Path) -> None:
    shutil.rmtree(code, ignore_errors=True)
    (code / "feeder").mkdir(parents=True)
    for source in Path(progress.__file__).parent.glob("*.py"):
        (code / "feeder" / source.name).write_bytes(source.read_bytes())
    (code / "run.py").write_text(_ENTRY)


def _lock(record: Path) -> int | None:
    """The right to feed, which a process inherits with it; None while another one has it."""
    try:
        descriptor = os.open(record / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise TransferError("What the Pipe channels are fed with is not there any more.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)  # the number of a process that is no more must not be taken for the next one's
    return descriptor


def _lives(record: Path) -> bool:
    try:
        descriptor = os.open(record / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _kill(record: Path) -> None:
    """The holder of the lock: it wrote its number there, and as long as the lock is held the number is its own."""
    with suppress(OSError, ValueError):
        number = int((record / "lock").read_text())
        handle = os.pidfd_open(number)
        try:
            if _lives(record):
                signal.pidfd_send_signal(handle, signal.SIGKILL)
        finally:
            os.close(handle)
