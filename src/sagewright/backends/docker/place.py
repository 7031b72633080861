"""Where the engine is on this machine, and why it cannot be reached, in words that say how to mend it."""

from __future__ import annotations

import os
import shutil
import socket
from datetime import UTC, datetime
from pathlib import Path

from sagewright.core.errors import BackendUnavailable

_START = "Start it (`sudo systemctl start docker`, or open Docker Desktop)"


def candidates() -> list[Path]:
    """The usual sockets: Docker, Docker Desktop, Colima, rootless Docker, Podman."""
    home, own = Path.home(), Path(f"/run/user/{os.getuid()}")
    return [
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",
        home / ".colima/default/docker.sock",
        own / "docker.sock",
        own / "podman/podman.sock",
        Path("/run/podman/podman.sock"),
    ]


def find(host: str | None) -> str:
    """The address to connect to: what was asked for, or the first socket on which somebody listens, or the first that
    may be used, or the first there is."""
    if host:
        return host
    there = [path for path in candidates() if path.is_socket()]
    usable = [path for path in there if os.access(path, os.W_OK)]
    for path in (*filter(_listens, usable), *usable, *there):
        return f"unix://{path}"
    raise BackendUnavailable(problem(None))


def is_local(url: str, host: str | None) -> bool:
    """Whether the engine runs on this machine's kernel or in a VM of it, and so sees this machine's files."""
    return host is None or host.startswith("unix://") or "localhost" in url or "127.0.0.1" in url


def installed() -> bool:
    """Whether anything of an engine is on this machine."""
    names = ("dockerd", "docker", "podman", "colima")
    return any(path.exists() for path in candidates()) or any(shutil.which(name) for name in names)


def problem(host: str | None, words: str = "") -> str:
    """Why the engine does not answer, and what to do; `words` is what was heard of it."""
    if host and not host.startswith("unix://"):
        return f"The container engine at {host} does not answer ({words}). Check DOCKER_HOST, and that it is running."
    there = [Path(host.removeprefix("unix://"))] if host else [path for path in candidates() if path.exists()]
    if not there:
        if installed():
            return f"Docker is installed but is not running. {_START}."
        return "No container engine is installed. Install Docker (https://docs.docker.com/engine/install/) or Podman."
    path = there[0]
    if not path.exists():
        return f"There is no engine socket at {path}. {_START}, or correct DOCKER_HOST."
    if not os.access(path, os.W_OK):
        return (
            f"This user may not use the engine's socket {path}. "
            "Add yourself to its group (`sudo usermod -aG docker $USER`), then log in again."
        )
    if not _listens(path):
        return f"Nothing listens on the engine's socket {path}. {_START}."
    return f"The container engine at {path} does not answer as it should ({words})."


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        return connection.connect_ex(str(path)) == 0


def booted_at() -> datetime | None:
    """When this machine came up."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("btime ")), None)
    return datetime.fromtimestamp(int(found), UTC) if found else None
