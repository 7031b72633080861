"""Who may use the port as a proxy: this machine, and the containers that run on it.

Owns: telling a container bridge from other networks. Does not own: who may call the API (signatures decide that).
An open proxy would lend this machine's address and network to strangers, so the rule errs on the side of no.
"""

from __future__ import annotations

import fcntl
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Final

from sagewright.core.errors import SettingsError

Network = IPv4Network | IPv6Network
_INTERFACES: Final = Path("/sys/class/net")
_GET_ADDRESS, _GET_NETMASK = 0x8915, 0x891B  # ioctl numbers of Linux


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Raises SettingsError that names what is not a network."""
    try:
        return tuple(ip_network(text) for text in texts)
    except ValueError as error:
        raise SettingsError(f"proxy_networks: {error}. Write networks like 172.18.0.0/16.") from error


def is_loopback(address: str) -> bool:
    try:
        return ip_address(_plain(address)).is_loopback
    except ValueError:
        return False


def may_use_proxy(peer: str, local: str, networks: Sequence[Network]) -> bool:
    """`peer` is the client's address, `local` the one it reached; `networks` are those that the settings name."""
    try:
        client = ip_address(_plain(peer))
    except ValueError:
        return False
    if client.is_loopback or _plain(peer) == _plain(local):
        return True
    return any(client in network for network in networks) or any(client in bridge for bridge in container_bridges())


def container_bridges() -> list[Network]:
    """The networks of this machine's bridges that no hardware is plugged into: container networks. Linux only."""
    if not _INTERFACES.is_dir():
        return []
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for interface in _INTERFACES.iterdir():
            if (interface / "bridge").is_dir() and not any(interface.glob("brif/*/device")):
                found += _network_of(probe, interface.name)
    return found


def _network_of(probe: socket.socket, interface: str) -> list[Network]:
    """The interface's IPv4 network; none when it has no address."""
    request = struct.pack("256s", interface[:15].encode())
    try:
        address = fcntl.ioctl(probe, _GET_ADDRESS, request)[20:24]
        mask = fcntl.ioctl(probe, _GET_NETMASK, request)[20:24]
    except OSError:
        return []
    return [ip_interface(f"{socket.inet_ntoa(address)}/{socket.inet_ntoa(mask)}").network]


def _plain(address: str) -> str:
    """Without a zone, and as IPv4 when it is an IPv4 client of an IPv6 socket."""
    text = address.partition("%")[0]
    parsed = ip_address(text)
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return str(mapped or parsed)
