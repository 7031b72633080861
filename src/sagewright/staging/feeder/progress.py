"""How far one channel has been fed, on disk, such that a process that was killed leaves the truth behind.

    IDLE      nobody has seen a byte of this epoch
    TRYING    the pipe is being opened: a reader may have been let in
    FEEDING   a reader is in it, and has not been given all of it

A feeder that died IDLE can be followed by another one. One that died otherwise has shown its reader an end that was
none, and nothing can undo that.
"""

from __future__ import annotations

import os
import struct

IDLE, TRYING, FEEDING = range(3)

_FORM = struct.Struct("<QQ")


class Progress:
    """One small write per step: a process may be killed between two of them, never within one."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self.epoch, _ = read(path)

    def set(self, epoch: int, phase: int) -> None:
        os.pwrite(self._file, _FORM.pack(epoch, phase), 0)
        self.epoch = epoch


def read(path: str) -> tuple[int, int]:
    """(epoch, phase); (0, IDLE) before anything was tried."""
    try:
        with open(path, "rb") as file:
            content = file.read(_FORM.size)
    except FileNotFoundError:
        content = b""
    if len(content) < _FORM.size:
        return 0, IDLE
    epoch, phase = _FORM.unpack(content)
    return epoch, phase
