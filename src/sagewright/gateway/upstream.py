"""Connections to the outside, for clients that use us as their proxy: direct, or through the user's own proxy.

Owns: resolving, where a client may be connected to, the outer proxy's CONNECT.
Does not own: the bytes (`gateway.relay`).
"""

from __future__ import annotations

import asyncio
import base64
import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import unquote, urlsplit

from sagewright.core.errors import SettingsError
from sagewright.gateway.hosts import parse_authority
from sagewright.gateway.refusals import Refused
from sagewright.gateway.relay import End

CONNECT_LIMIT: Final = 15.0  # seconds for one address to answer
_PROXY_LIMIT: Final = 30.0  # seconds for the outer proxy to answer a CONNECT
_LONGEST_ANSWER: Final = 16 * 1024  # bytes


@dataclass(frozen=True, slots=True)
class OuterProxy:
    """The proxy that was set when the server started. `authorization` is the header's value, empty without a login."""

    host: str
    port: int
    authorization: str

    @classmethod
    def parse(cls, url: str) -> OuterProxy:
        """Raises SettingsError."""
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http":
            raise SettingsError(
                f"the outer proxy {parts.scheme}://{parts.hostname} is not an http:// proxy, which is the only kind "
                "that Sagewright can go through. Start it with HTTPS_PROXY=http://HOST:PORT, or without HTTPS_PROXY."
            )
        login, _, place = parts.netloc.rpartition("@")
        try:
            host, port = parse_authority(place, 80)
        except ValueError as error:
            raise SettingsError(f"HTTPS_PROXY: {error}. Write http://HOST:PORT") from error
        name, _, password = login.partition(":")
        credentials = base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()
        return cls(host, port, f"Basic {credentials}" if login else "")


@dataclass(frozen=True, slots=True)
class Asking:
    """The client that wants to go somewhere. `server` is the address of ours that it reached."""

    is_local: bool
    server: tuple[str, int]


class Outside:
    """Opens connections on behalf of clients. Raises Refused, which is what the client is answered."""

    def __init__(self, proxy: OuterProxy | None) -> None:
        self.proxy = proxy

    def is_direct(self, host: str) -> bool:
        """This machine's own names never go through the outer proxy."""
        return self.proxy is None or host == "localhost" or _is_loopback(host)

    async def tunnel(self, host: str, port: int, asking: Asking, end: End) -> None:
        """Connect `end`, paused, so that what is written to it reaches HOST:PORT."""
        if self.proxy is None or self.is_direct(host):
            await self.connect(host, port, asking, end)
            return
        await self.connect_proxy(end)
        await _ask_proxy(end, host, port, self.proxy)

    async def connect_proxy(self, end: End) -> None:
        assert self.proxy is not None
        await _open(self.proxy.host, self.proxy.port, end, f"The outer proxy {self.proxy.host}:{self.proxy.port}")

    async def connect(self, host: str, port: int, asking: Asking, end: End) -> None:
        """To the first address of `host` that answers and may be connected to."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except TimeoutError as error:
            raise Refused(504, "Gateway Timeout", f"The name {host} could not be resolved in time.") from error
        except OSError as error:
            raise Refused(502, "Bad Gateway", f"The name {host} cannot be resolved: {error.strerror}.") from error
        addresses = list(dict.fromkeys(str(item[4][0]) for item in found))
        for address in addresses:
            _check_destination(address, port, asking)
        for address in addresses[:-1]:
            try:
                await _open(address, port, end, host)
                return
            except Refused:
                continue  # the next address of the same host
        await _open(addresses[-1], port, end, f"{host}:{port}")


def _check_destination(address: str, port: int, asking: Asking) -> None:
    """No way back into this port, and for a container none into the machine itself."""
    destination = ip_address(address.partition("%")[0])
    own = destination.is_loopback or destination.is_unspecified or str(destination) == asking.server[0]
    if own and port == asking.server[1]:
        raise Refused(
            508,
            "Loop Detected",
            "This is Sagewright's own port, asked to connect to itself. Add this address to NO_PROXY.",
        )
    if not asking.is_local and (own or _is_private_to_machine(destination)):
        raise Refused(403, "Forbidden", f"A container may not reach {address}, this machine's own, through the proxy.")


def _is_private_to_machine(destination: IPv4Address | IPv6Address) -> bool:
    mapped = destination.ipv4_mapped if isinstance(destination, IPv6Address) else None
    real = mapped or destination
    return real.is_loopback or real.is_unspecified or real.is_link_local or real.is_multicast


async def _open(address: str, port: int, end: End, what: str) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_LIMIT):
            await loop.create_connection(lambda: end, address, port)
    except TimeoutError as error:
        raise Refused(504, "Gateway Timeout", f"{what} did not answer within {CONNECT_LIMIT:g} seconds.") from error
    except OSError as error:
        raise Refused(502, "Bad Gateway", f"{what} cannot be reached: {error.strerror or error}.") from error


async def _ask_proxy(end: End, host: str, port: int, proxy: OuterProxy) -> None:
    """Raises Refused with the proxy's own status when it does not let us through."""
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    login = f"Proxy-Authorization: {proxy.authorization}\r\n" if proxy.authorization else ""
    end.write(f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n{login}\r\n".encode("latin-1"))
    what = f"The outer proxy {proxy.host}:{proxy.port}"
    try:
        async with asyncio.timeout(_PROXY_LIMIT):
            head = await end.read_head(_LONGEST_ANSWER)
    except TimeoutError as error:
        end.shutdown()
        raise Refused(504, "Gateway Timeout", f"{what} did not answer within {_PROXY_LIMIT:g} seconds.") from error
    except ConnectionError as error:
        end.shutdown()
        raise Refused(502, "Bad Gateway", f"{what} closed the connection or did not answer in HTTP.") from error
    status_line = head.partition(b"\r\n")[0].decode("latin-1")
    code = status_line[9:12]
    if not status_line.startswith("HTTP/1.") or not code.isdigit():
        end.shutdown()
        raise Refused(502, "Bad Gateway", f"{what} did not answer in HTTP.")
    if code[0] != "2":
        end.shutdown()
        raise Refused(int(code), status_line[13:] or "Refused", f"{what} answered: {status_line}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
