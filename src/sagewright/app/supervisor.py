"""The supervisor: one process that binds the port, starts the controller and the gateways, and keeps them running.

    supervisor ──► gateway-1 ... gateway-N     share the listening socket
              └──► controller                  exactly one

The gateways start first, with the machine to themselves: the controller follows when the first of them answers.
Children hold the read end of a pipe whose write end only the supervisor has: when it dies, however it dies, they see
end-of-file and leave. Started as `python -m sagewright.app.supervisor`; standard library only, so that it is small.
"""

from __future__ import annotations

import argparse
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from sagewright.app import state
from sagewright.core.errors import SettingsError
from sagewright.settings import ControllerSettings, DataDir, ServerSettings, Settings, read_environment

_STOP_GRACE = 10.0  # seconds between SIGTERM and SIGKILL for our own processes
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds before a dead child is started again
_HEAD_START = 2.0  # seconds that the controller waits for a gateway at most


@dataclass(slots=True)
class _Child:
    role: str
    arguments: list[str]
    fds: tuple[int, ...]
    process: subprocess.Popen[bytes] | None = None
    pause: float = _FIRST_PAUSE
    due: float = 0.0
    started: float = field(default=0.0)


class Supervisor:
    """Starts the children, restarts what dies, ends them all on SIGTERM or SIGINT."""

    def __init__(self, settings: Settings, listener: socket.socket) -> None:
        self._settings = settings
        self._listener = listener
        self._lifeline, self._held = os.pipe()
        self._answering, self._answers = os.pipe()
        self._stopping = False
        self._children = self._plan()

    def run(self) -> None:
        """Returns when asked to stop and every child has ended."""
        self._wake_r, self._wake_w = os.pipe()
        os.set_blocking(self._wake_w, False)
        signal.set_wakeup_fd(self._wake_w, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask_to_stop)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        while not self._stopping:
            pause = self._tend()
            for ready in select.select([self._wake_r, self._answering], [], [], pause)[0]:
                os.read(ready, 4096)
                if ready == self._answering:
                    self._release()
        self._end_children()

    def _plan(self) -> list[_Child]:
        data = str(self._settings.data.root)
        lifeline = ["--data", data, "--lifeline", str(self._lifeline)]
        listen = [*lifeline, "--listen", str(self._listener.fileno()), "--ready", str(self._answers)]
        passed = (self._lifeline, self._listener.fileno(), self._answers)
        gateways = [
            _Child(f"gateway-{number}", ["sagewright.app.gateway", *listen], passed)
            for number in range(1, self._settings.server.gateways + 1)
        ]
        controller = _Child("controller", ["sagewright.app.controller", *lifeline], (self._lifeline,))
        controller.due = time.monotonic() + _HEAD_START
        return [*gateways, controller]

    def _release(self) -> None:
        """A gateway answers: what has never been started waits no longer."""
        for child in self._children:
            if not child.started:
                child.due = 0.0

    def _tend(self) -> float | None:
        """Start what is due; how long to sleep until something is."""
        now = time.monotonic()
        changed = False
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                self._note_death(child, now)
                changed = True
            if child.process is None and child.due <= now:
                self._start(child, now)
                changed = True
        if changed:
            state.save_running(self._settings.data, state.Running(url(self._settings), self._pids()))
        due = [child.due - now for child in self._children if child.process is None]
        return max(0.0, min(due)) if due else None

    def _start(self, child: _Child, now: float) -> None:
        command = [sys.executable, "-m", *child.arguments]
        child.process = subprocess.Popen(command, pass_fds=child.fds, stdin=subprocess.DEVNULL)
        child.started = now

    def _note_death(self, child: _Child, now: float) -> None:
        """A child that ran for a while is started again at once; one that keeps dying waits longer each time."""
        assert child.process is not None
        code, child.process = child.process.returncode, None
        child.pause = _FIRST_PAUSE if now - child.started > 30 else min(child.pause * 2, _LONGEST_PAUSE)
        child.due = now + child.pause
        print(f"sagewright: {child.role} ended ({_describe(code)}); starting it again", file=sys.stderr, flush=True)

    def _pids(self) -> dict[str, int]:
        children = {child.role: child.process.pid for child in self._children if child.process is not None}
        return {"supervisor": os.getpid(), **children}

    def _ask_to_stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _end_children(self) -> None:
        running = [child.process for child in self._children if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + _STOP_GRACE
        for process in running:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def url(settings: Settings) -> str:
    """How clients on this machine reach the server."""
    host = "127.0.0.1" if settings.server.host in {"0.0.0.0", "::"} else settings.server.host
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"


def bind(server: ServerSettings) -> socket.socket:
    """The listening socket. Raises SettingsError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {server.host} port {server.port}: {error.strerror}. Another program has it, or it is "
            "not an address of this machine; choose another with --port or --host."
        ) from error
    listener.listen(2048)
    return listener


def _describe(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="sagewright-supervisor")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--gateways", type=int, default=1)
    parser.add_argument("--jobs-at-once", type=int)
    arguments = parser.parse_args()
    data = DataDir(arguments.data)
    server = replace(ServerSettings(), host=arguments.host, port=arguments.port, gateways=arguments.gateways)
    try:
        controller = ControllerSettings(jobs_at_once=arguments.jobs_at_once)
        _supervise(read_environment(Settings(data, server=server, controller=controller), os.environ))
    except SettingsError as error:
        sys.exit(f"sagewright: {error}")


def _supervise(settings: Settings) -> None:
    data = settings.data
    data.create()
    running = state.load_running(data)
    where = f" at {running.url}" if running else ""
    with state.exclusive(data.run / "supervisor.lock", f"a server already runs on {data.root}{where}"):
        with bind(settings.server) as listener:
            if settings.server.port == 0:
                settings = replace(settings, server=replace(settings.server, port=listener.getsockname()[1]))
            state.save_settings(settings)
            Supervisor(settings, listener).run()
        (data.run / "status.json").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
