"""What the running server leaves in DATA/run for its own commands: locks, settings, and who runs.

Owns: `settings.json` (what the server was started with), `status.json` (pids), the supervisor's lock.
Does not own: the health of the API (ask it over HTTP).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sagewright.core.errors import SettingsError
from sagewright.core.ids import Account, Region
from sagewright.settings import ControllerSettings, DataDir, ServerSettings, Settings


@dataclass(frozen=True, slots=True)
class Running:
    """A server that holds its lock. `pids` maps a role ("supervisor", "controller", "gateway-1") to a process id."""

    url: str
    pids: Mapping[str, int]


def save_settings(settings: Settings) -> None:
    """So that the server's own processes, and commands in other shells, mean the same server."""
    _write(
        settings.data.run / "settings.json",
        {
            "account": settings.account,
            "region": settings.region,
            "host": settings.server.host,
            "port": settings.server.port,
            "gateways": settings.server.gateways,
            "jobs_at_once": settings.controller.jobs_at_once,
            "proxy_networks": list(settings.server.proxy_networks),
            "docker_host": settings.docker_host,
            "database_url": settings.database_url,
            "upstream_proxy": settings.upstream_proxy,
            "outer_bundle": str(settings.outer_bundle) if settings.outer_bundle else None,
        },
    )


def load_settings(data: DataDir) -> Settings:
    """What the server of this data directory was last started with, or the defaults."""
    kept = _read(data.run / "settings.json")
    if kept is None:
        return Settings(data)
    server = ServerSettings(
        host=kept["host"],
        port=kept["port"],
        gateways=kept["gateways"],
        proxy_networks=tuple(kept.get("proxy_networks", ())),
    )
    return Settings(
        data,
        account=Account(kept["account"]),
        region=Region(kept["region"]),
        server=server,
        controller=ControllerSettings(jobs_at_once=kept.get("jobs_at_once")),
        docker_host=kept["docker_host"],
        database_url=kept["database_url"],
        upstream_proxy=kept["upstream_proxy"],
        outer_bundle=Path(kept["outer_bundle"]) if kept["outer_bundle"] else None,
    )


def save_running(data: DataDir, running: Running) -> None:
    _write(data.run / "status.json", {"url": running.url, "pids": dict(running.pids)})


def load_running(data: DataDir) -> Running | None:
    """The server that runs now; None when the supervisor's lock is free, whatever the files say."""
    kept = _read(data.run / "status.json")
    if kept is None or not _locked(data.run / "supervisor.lock"):
        return None
    return Running(kept["url"], kept["pids"])


def save_backends(data: DataDir, backends: list[dict[str, Any]]) -> None:
    """The controller tells here what can run on this machine; `status` and `doctor` read it."""
    _write(data.run / "backends.json", backends)


def load_backends(data: DataDir) -> list[dict[str, Any]]:
    return _read(data.run / "backends.json") or []


@contextmanager
def exclusive(path: Path, refusal: str, patience: float = 0.5) -> Iterator[None]:
    """Hold `path` as a lock for the life of the process. Raises SettingsError(refusal) when another process has it.

    The kernel frees it when the holder dies, however it dies, so a stale lock cannot exist. `patience` (seconds)
    outlasts a command that only looks whether the lock is free, and a predecessor that is just leaving.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + patience
    try:
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise SettingsError(refusal)
            time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)


def _locked(path: Path) -> bool:
    """Whether somebody holds the lock; looking takes it, shared, for a moment."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(path: Path) -> Any:
    """None when the file is not there; it may go at any moment, when the server stops."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None


def _write(path: Path, value: Any) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(json.dumps(value, indent=2) + "\n")
    temporary.replace(path)
