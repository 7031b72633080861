"""The program as the runner's child: fork, namespaces of the parent's side, signals, reaping."""

from __future__ import annotations

import json
import os
import signal
import time

from . import child, files, processes, syscalls
from .cgroups import Group
from .task import CannotRun, Task


class Program:
    """One start of one task. `record` is the record folder, absolute and current working directory."""

    def __init__(self, task: Task, record: str, group: Group) -> None:
        self._task = task
        self._record = record
        self._group = group
        self._pid = 0

    def start(self) -> float:
        """Time of the start, in seconds since the epoch; CannotRun with the reason if the program did not start."""
        self._enter_namespaces()
        go_read, go_write = os.pipe()
        report_read, report_write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(go_write)
            os.close(report_read)
            child.run(self._task, self._record, self._group, go_read, report_write)
        os.close(go_read)
        os.close(report_write)
        self._write_down(None)
        os.write(go_write, b"g")
        os.close(go_write)
        said = _read_all(report_read)
        if said:
            os.waitpid(self._pid, 0)
            cause, message = json.loads(said)
            raise CannotRun(cause, message)
        started = time.time()
        self._write_down(started)
        return started

    def _enter_namespaces(self) -> None:
        if not self._task.namespaces:
            syscalls.adopt_orphans()  # so that no descendant escapes `kill`
            return
        if self._task.user_namespace:
            enter_user_namespace()
        syscalls.unshare(syscalls.CLONE_NEWPID)  # the next child is its first process

    def _write_down(self, started: float | None) -> None:
        """Who the program is, before it can do anything: a runner killed later leaves it observable."""
        identity = processes.identify(self._pid)
        if identity is not None:
            files.write_json("pid", {"identity": identity.as_list(), "started_at": started})

    def reap(self) -> int | None:
        """Exit code once the program has ended (128+n for signal n), and all its descendants with it; else None."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                raise CannotRun("lost", "The program's end was taken by someone else.") from None
            if pid == 0:
                return None
            if pid == self._pid:
                break
        self._end_descendants()
        code = os.waitstatus_to_exitcode(status)
        return 128 - code if code < 0 else code

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """The whole PID namespace ends with its first process; without one, descendants end in `reap`."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        try:
            os.kill(self._pid, number)  # our own child, not yet reaped: the id is still its
        except ProcessLookupError:
            return

    def _end_descendants(self) -> None:
        """Without a PID namespace, orphans were adopted by us: end them, as the end of a container would."""
        if self._task.namespaces:
            return
        while True:
            for pid in _children():
                os.kill(pid, signal.SIGKILL)
            try:
                os.waitpid(-1, 0)
            except ChildProcessError:
                return


def enter_user_namespace() -> None:
    """Become root of a user namespace in which only this user exists."""
    uid, gid = os.getuid(), os.getgid()
    syscalls.unshare(syscalls.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _children() -> list[int]:
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        return [int(pid) for pid in file.read().split()]


def _read_all(descriptor: int) -> bytes:
    content = b""
    while part := os.read(descriptor, 4096):
        content += part
    os.close(descriptor)
    return content
