"""Feed every channel of the record in the working folder, epoch after epoch, until killed.

    CHANNEL_0 is there from the start; a reader opens it ──► the epoch's bytes ──► CHANNEL_1 is made, CHANNEL_0 closed

The container may do to its folders what it likes: pipes are reached without following a link, and what is no pipe is
never written to. An error keeps the pipe open, so that its reader waits for the job's end instead of taking a cut-off
epoch for a whole one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from .channel import Channel
from .pipe import Pipe, Unreadable
from .progress import FEEDING, IDLE, TRYING, Progress

DATA = ("ml", "input", "data")  # from the folder above the record
MODE = 0o644
_QUICK, _CALM = 0.001, 0.02  # seconds between two looks for a reader: at first, and after a while
_PIPE_SIZE = 1 << 20  # bytes in flight; the kernel may grant less
_LOOK = 1.0  # seconds between looks whether the record is still there
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def main() -> None:
    """`lock` is inherited, and with it the right to feed."""
    lock = int(sys.argv[1])
    os.umask(0o022)
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    here = Path()
    for folder in sorted(path.name for path in here.iterdir() if path.name.isdecimal()):
        threading.Thread(target=_feed, args=(folder,), daemon=True).start()
    while here.stat().st_nlink:
        time.sleep(_LOOK)


def _feed(folder: str) -> None:
    """One channel. Never returns: what was opened stays open."""
    try:
        channel, progress = Channel(folder), Progress(f"{folder}/progress")
        data = open_data("..")
        while True:
            feed_epoch(channel, progress, data)
    except Unreadable as error:
        _give_up(str(error))
    except Exception as error:
        _give_up(f"InternalServerError: feeding the channel of {folder} failed: {error!r}")


def feed_epoch(channel: Channel, progress: Progress, data: int) -> None:
    """Wait for a reader, give it the epoch, and be ready for the next one before this one's end is seen."""
    epoch = progress.epoch
    units = channel.order(epoch)
    name = f"{channel.name}_{epoch}"
    descriptor = _await_reader(name, epoch, progress, data)
    progress.set(epoch, FEEDING)
    with suppress(BrokenPipeError):  # it has seen enough
        channel.feed(units, Pipe(descriptor))
    make_pipe(f"{channel.name}_{epoch + 1}", data)
    progress.set(epoch + 1, IDLE)
    os.close(descriptor)
    with suppress(OSError):
        os.unlink(name, dir_fd=data)  # opened a second time it would be waited for in vain


def _await_reader(name: str, epoch: int, progress: Progress, data: int) -> int:
    """The writing end, once somebody has the reading end open."""
    looks = 0
    while True:
        make_pipe(name, data)
        progress.set(epoch, TRYING)
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=data)
        except OSError as error:
            progress.set(epoch, IDLE)
            if error.errno not in (errno.ENXIO, errno.ENOENT):
                raise Unreadable(
                    f"The pipe {name} cannot be opened ({error.strerror}): the program changed it."
                ) from None
            time.sleep(_QUICK if looks < 500 else _CALM)
            looks += 1
            continue
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            raise Unreadable(f"{name} is no pipe any more: the program put something else in its place.")
        os.set_blocking(descriptor, True)
        with suppress(OSError):  # a limit of this user's: the usual size does as well
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        return descriptor


def make_pipe(name: str, data: int) -> None:
    with suppress(FileExistsError):
        os.mkfifo(name, MODE, dir_fd=data)  # no chmod afterwards: by then the name could be a link


def open_data(above: str) -> int:
    """The folder of the channels, wherever the program has put links. Raises Unreadable."""
    folder = os.open(above, _FOLDER)
    for name in DATA:
        try:
            inner = os.open(name, _FOLDER, dir_fd=folder)
        except OSError as error:
            raise Unreadable(f"/opt/ml/input/data is no folder any more ({error.strerror}).") from None
        finally:
            os.close(folder)
        folder = inner
    return folder


def _give_up(reason: str) -> None:
    """Say why, and hold what is open until the job has been ended. Who cannot even say it, the disk being full, dies:
    then `progress` tells as much as matters."""
    beside = Path(f"error.{threading.get_ident()}")
    try:
        beside.write_text(reason, encoding="utf-8")
        beside.rename("error")
    except OSError:
        print(reason, flush=True)
        os._exit(1)
    threading.Event().wait()
