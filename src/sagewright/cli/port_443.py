"""Who has port 443 of this machine's loopback, and who may have it.

Owns: asking the kernel (Linux's /proc) and the port itself. Does not own: our listener (`gateway.literal_port`).
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sagewright.registry.literal_names import ADDRESS, PORT

_LISTEN: Final = "0A"  # a state in /proc/net/tcp
_BIND_CAPABILITY: Final = 10  # CAP_NET_BIND_SERVICE
_PATIENCE: Final = 2.0  # seconds


def answers_as_us(name: str, authority: Path) -> bool:
    """Whether a server with a certificate of `authority` for `name` is there, and is a registry."""
    try:
        context = ssl.create_default_context(cafile=str(authority))
        with (
            socket.create_connection((ADDRESS, PORT), _PATIENCE) as plain,
            context.wrap_socket(plain, server_hostname=name) as connection,
        ):
            connection.sendall(f"GET /v2/ HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
            return b" 401 " in connection.recv(64)
    except (OSError, ValueError):
        return False


def is_free() -> bool:
    """Whether a listener could be bound there, the right to do so left aside."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, PORT))
        except OSError as error:
            return error.errno != errno.EADDRINUSE
    return True


def holder() -> str:
    """The program that listens there: `nginx (pid 12)`; "another program" when the kernel does not tell us."""
    inodes = set(_listeners())
    for entry in list(Path("/proc").glob("[0-9]*/fd/*")):
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            pid = entry.parts[2]
            return f"{Path('/proc', pid, 'comm').read_text().strip()} (pid {pid})"
    return "another program"


def may_bind(pid: int) -> bool:
    """Whether the process may listen on a port below 1024. True where that cannot be told."""
    try:
        first_free = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        lines = Path("/proc", str(pid), "status").read_text().splitlines()
        capabilities = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration, ValueError):
        return True
    return first_free <= PORT or bool(capabilities >> _BIND_CAPABILITY & 1)


def _listeners() -> Iterator[str]:
    """Inodes of the sockets that listen on the port, whatever the address."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN and int(fields[1].rpartition(":")[2], 16) == PORT:
                yield fields[9]
