"""`up`, `down`, `status`: the life of the server as its user sees it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from sagewright import __version__
from sagewright.app import state
from sagewright.core.errors import SettingsError
from sagewright.settings import DataDir, default_data_dir

_START_LIMIT = 30.0  # seconds until a start that does not answer is called a failure
_STOP_LIMIT = 20.0


def data_dir(data: Path | None) -> DataDir:
    return DataDir((data or default_data_dir(os.environ)).expanduser().absolute())


def option(folder: DataDir) -> str:
    """What a command needs besides to mean this data directory: nothing when it does so by itself."""
    return "" if folder.root == default_data_dir(os.environ).absolute() else f" --data {folder.root}"


def make(folder: DataDir) -> None:
    """The data directory, or SettingsError when it cannot be made or written."""
    try:
        folder.create()
        folder.log.open("ab").close()
    except OSError as error:
        where = "" if error.filename == str(folder.root) else f"{error.filename}: "
        raise SettingsError(
            f"{folder.root} cannot be used as data directory: {where}{error.strerror}. Choose another with --data or "
            "SAGEWRIGHT_DATA."
        ) from error


def up(
    data: Path | None,
    port: int | None,
    host: str | None,
    gateways: int,
    detach: bool,
    *,
    jobs_at_once: int | None = None,
) -> None:
    """Start the supervisor and wait until the API answers. Attached, this process stays until Ctrl-C."""
    folder = data_dir(data)
    make(folder)
    if running := state.load_running(folder):
        raise SettingsError(f"a server already runs on {folder.root} at {running.url}. `sagewright down` stops it.")
    kept = state.load_settings(folder).server
    command = [sys.executable, "-m", "sagewright.app.supervisor", "--data", str(folder.root)]
    command += ["--host", host or kept.host, "--port", str(kept.port if port is None else port)]
    command += ["--gateways", str(gateways)]
    command += ["--jobs-at-once", str(jobs_at_once)] if jobs_at_once else []
    begun = time.monotonic()
    with folder.log.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, close_fds=True
        )
    url = _wait_until_ready(folder, process)
    _greet(folder, url, time.monotonic() - begun, detach)
    if not detach:
        _stay(folder, process)


def down(data: Path | None) -> None:
    folder = data_dir(data)
    running = state.load_running(folder)
    if running is None:
        print(f"No server runs on {folder.root}.")
        return
    os.kill(running.pids["supervisor"], signal.SIGTERM)
    deadline = time.monotonic() + _STOP_LIMIT
    while state.load_running(folder) is not None:
        if time.monotonic() > deadline:
            raise SettingsError(f"the server (pid {running.pids['supervisor']}) does not stop; see {folder.log}")
        time.sleep(0.05)
    print(f"Stopped {running.url}. Jobs that were running go on; `sagewright up{option(folder)}` takes them up again.")


def status(data: Path | None, as_json: bool) -> None:
    """Exit code 0 when it runs and answers, 3 when it does not run (as service managers have it)."""
    folder = data_dir(data)
    running = state.load_running(folder)
    shown: dict[str, Any] = {
        "running": running is not None,
        "healthy": running is not None and health(running.url) is not None,
        "url": running.url if running else None,
        "version": __version__,
        "pids": list(running.pids.values()) if running else [],
        "processes": dict(running.pids) if running else {},
        "data": str(folder.root),
        "backends": state.load_backends(folder) if running else [],
    }
    if as_json:
        print(json.dumps(shown, indent=2))
    else:
        _print_status(shown)
    if running is None:
        sys.exit(3)


def health(url: str, timeout: float = 2.0) -> dict[str, Any] | None:
    """The server's own word, or None when it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{url}/_sagewright/health", timeout=timeout) as answer:
            return dict(json.loads(answer.read()))
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _wait_until_ready(folder: DataDir, process: subprocess.Popen[bytes]) -> str:
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SettingsError(f"the server did not start: {_last_line(folder.log)}")
        running = state.load_running(folder)
        if running and health(running.url):
            return running.url
        time.sleep(0.01)
    raise SettingsError(f"the server did not answer within {_START_LIMIT:.0f} s; see {folder.log}")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1].removeprefix("sagewright: ") if lines else f"see {log}"


def _greet(folder: DataDir, url: str, seconds: float, detach: bool) -> None:
    more = option(folder)
    print(f"Sagewright {__version__} is ready at {url} ({seconds:.1f} s)\n")
    print(f'  Connect any AWS client   eval "$(sagewright env{more})"')
    print(f"  See it work              sagewright demo{more}")
    print(f"  What works here          sagewright doctor{more}")
    print(f"  Data                     {folder.root}")
    print(f"  Stop                     {f'sagewright down{more}' if detach else 'Ctrl-C'}", flush=True)


def _stay(folder: DataDir, process: subprocess.Popen[bytes]) -> None:
    """Show what the server's log says until Ctrl-C (or a service manager's SIGTERM) ends both."""

    def pass_on(_number: int, _frame: object) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    with folder.log.open("rb") as log:
        log.seek(0, os.SEEK_END)
        while process.poll() is None:
            sys.stderr.buffer.write(log.read())
            sys.stderr.flush()
            time.sleep(0.2)
    print(f"\nStopped. Jobs that were running go on; `sagewright up{option(folder)}` takes them up again.")


def _print_status(shown: dict[str, Any]) -> None:
    if not shown["running"]:
        print(
            f"Not running (data: {shown['data']}). Start it with `sagewright up{option(DataDir(Path(shown['data'])))}`."
        )
        return
    state_word = "running" if shown["healthy"] else "running, but it does not answer: see server.log"
    print(f"Sagewright {shown['version']} is {state_word}")
    print(f"  url        {shown['url']}")
    print(f"  data       {shown['data']}")
    print(f"  processes  {', '.join(f'{role} {pid}' for role, pid in shown['processes'].items())}")
    for backend in shown["backends"]:
        note = backend["version"] if backend["available"] else f"not available: {backend['problem']}"
        print(f"  backend    {backend['name']}: {note}")
