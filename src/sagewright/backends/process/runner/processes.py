"""Which process is meant: a process id together with its start time and the boot it belongs to.

Ids are used again; the triple is not. Zombies count as gone: they run nothing and only wait to be reaped.
"""

from __future__ import annotations

import errno
import os
import signal


class Identity:
    """Never changed after it was made. Not a dataclass: `dataclasses` and `typing` would double the runner's start."""

    __slots__ = ("boot", "pid", "start")

    def __init__(self, pid: int, start: int, boot: str) -> None:
        self.pid = pid
        self.start = start  # clock ticks since boot
        self.boot = boot

    def as_list(self) -> list[object]:
        return [self.pid, self.start, self.boot]


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def start_time(pid: int) -> int | None:
    """Clock ticks from boot to the start of process `pid`; None when there is no such process, or only its zombie."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            stat = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()  # the command may hold spaces and brackets
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def identify(pid: int) -> Identity | None:
    start = start_time(pid)
    return None if start is None else Identity(pid, start, boot_id())


def alive(identity: Identity) -> bool:
    return start_time(identity.pid) == identity.start and boot_id() == identity.boot


def send(identity: Identity, number: int) -> bool:
    """Signal exactly this process; False when it is gone. A later process with the same id is never hit."""
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return False
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise
        return _send_by_id(identity, number)
    try:
        if not alive(identity):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def _send_by_id(identity: Identity, number: int) -> bool:
    """Without pidfd (kernel before 5.3) a moment between look and signal remains."""
    if not alive(identity):
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    return True
