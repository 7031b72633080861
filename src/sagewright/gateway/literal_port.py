"""Port 443 on loopback: where this machine's Docker finds us under AWS's own registry names.

    docker push ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME ─▶ /etc/hosts ─▶ 127.0.0.1:443 ─TLS, by SNI─▶ GatewayHttp

Owns: that listener, bound while `sagewright setup docker` is in force, and which of the names it answers to now.
Does not own: the record (`registry.literal_names`), certificates (`gateway.authority`), what is asked (`registry`).
Every gateway process has one; they share the port (SO_REUSEPORT). A record that comes or goes is seen within a second.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import Final

from sagewright.core.errors import SettingsError
from sagewright.gateway.authority import Authority
from sagewright.registry import literal_names
from sagewright.settings import DataDir

_LOOK: Final = 1.0  # seconds between looks at the record
_RENEW: Final = 86_400.0  # seconds; the authority decides whether a certificate must be made anew
_HANDSHAKE_LIMIT: Final = 15.0  # seconds
_BACKLOG: Final = 128
_log = logging.getLogger("sagewright.gateway")


class LiteralPort:
    """`port` is 443 but in tests."""

    def __init__(self, data: DataDir, authority: Authority, port: int = literal_names.PORT) -> None:
        self._data = data
        self._authority = authority
        self._port = port
        self._seen: tuple[int, int, int] | None = None  # of the record's file
        self._contexts: Mapping[str, ssl.SSLContext] = {}
        self._made_at = 0.0
        self._server: asyncio.Server | None = None
        self._problem = ""
        self._closed = False

    def answers_to(self, name: str) -> bool:
        """Whether docker on this machine reaches this process under `name` now."""
        return self._server is not None and name in self._contexts

    async def follow(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        """Bind, close and bind again as the record says. Never ends by itself."""
        while not self._closed:
            try:
                await self._look(protocol)
                self._problem = ""
            except (OSError, ValueError, SettingsError) as error:
                self._say(f"docker cannot reach this server on {literal_names.ADDRESS} port {self._port}: {error}")
            await asyncio.sleep(_LOOK)

    def close(self) -> None:
        """For good. Connections that are open stay."""
        self._closed = True
        self._stop()

    async def _look(self, protocol: Callable[[], asyncio.Protocol]) -> None:
        loop = asyncio.get_running_loop()
        seen = self._signature()
        if seen != self._seen or (self._contexts and loop.time() - self._made_at > _RENEW):
            names = literal_names.load(self._data).names
            self._contexts = await loop.run_in_executor(None, self._make, names)
            self._seen, self._made_at = seen, loop.time()
        if not self._contexts:
            self._stop()
        elif self._server is None and not self._closed:
            listener = _bind(self._port)
            self._server = await loop.create_server(
                protocol,
                sock=listener,
                backlog=_BACKLOG,
                ssl=self._by_name(),
                ssl_handshake_timeout=_HANDSHAKE_LIMIT,
            )
            _log.info("docker reaches this server as %s", ", ".join(self._contexts))

    def _signature(self) -> tuple[int, int, int] | None:
        """None when there is no record."""
        try:
            found = self._data.docker_names.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _make(self, names: tuple[str, ...]) -> Mapping[str, ssl.SSLContext]:
        return {name: self._authority.context(name) for name in names}

    def _by_name(self) -> ssl.SSLContext:
        """No certificate of its own: the name that the client asks for decides."""

        def choose(connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> int | None:
            found = self._contexts.get((name or "").lower())
            if found is None:
                return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
            connection.context = found
            return None

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        context.sni_callback = choose
        return context

    def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _say(self, problem: str) -> None:
        """Once, not every second."""
        if problem != self._problem:
            _log.error("%s", problem)
            self._problem = problem


def _bind(port: int) -> socket.socket:
    """Raises OSError that says what to do."""
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.setblocking(False)
        bound.bind((literal_names.ADDRESS, port))
    except OSError as error:
        bound.close()
        raise OSError(f"{error.strerror} (`sagewright doctor` says what to do)") from error
    return bound
