"""The kernel's routing netlink: links, addresses and routes by messages, so that no other program is needed.

Owns: the encoding, and one call per thing that `network` does. Does not own: which links there are, and why.
A socket speaks for the network namespace that it was opened in, wherever its process goes afterwards.
Source: rtnetlink(7), netlink(7), linux/if_link.h.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator

_NEWLINK, _DELLINK, _GETLINK, _NEWADDR, _GETADDR, _NEWROUTE = 16, 17, 18, 20, 22, 24
_REQUEST, _ACK, _DUMP, _EXCL, _CREATE = 0x1, 0x4, 0x300, 0x200, 0x400
_ERROR, _DONE = 2, 3
_NESTED = 0x8000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_NET_NS_FD, _IFLA_IFALIAS = 1, 3, 10, 18, 28, 20
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST = 1, 2, 4
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PREFSRC = 1, 4, 5, 7
_ON_LINK = 253  # scope: the neighbour itself
_UP = 1
_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_ROUTE = struct.Struct("=BBBBBBBBI")
_MAIN_TABLE, _BY_BOOT, _UNICAST = 254, 3, 1


class Netlink:
    """One socket. Addresses are 4 bytes, link addresses 6. Refusals are OSError with what was tried."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(10)
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def make_bridge(self, name: str, mac: bytes) -> None:
        """FileExistsError when the name is taken."""
        attributes = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_ADDRESS, mac) + _info("bridge")
        self._make(f"make the bridge {name}", attributes)

    def make_veth(self, name: str, bridge: int, alias: str, peer: tuple[str, bytes, int]) -> None:
        """A pair: `name` here, up, a port of `bridge` (0: of none, and not up); `peer` is (name, mac, open namespace).
        FileExistsError when the name is taken."""
        inner, mac, namespace = peer
        far = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(inner)) + _attribute(_IFLA_ADDRESS, mac)
        far += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
        near = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_MASTER, struct.pack("=I", bridge))
        near += _info("veth", _attribute(_VETH_PEER, far))
        self._make(f"make the network interface {name}", near, up=bool(bridge))
        naming = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_IFALIAS, alias.encode()[:255])
        self._ask(f"name the network interface {name}", _NEWLINK, _ACK, _LINK.pack(0, 0, 0, 0, 0) + naming)

    def make_pair(self, name: str, mac: bytes, peer: tuple[str, bytes, int]) -> None:
        """A pair without a bridge: `name` here, `peer` as for `make_veth`."""
        inner, far_mac, namespace = peer
        far = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(inner)) + _attribute(_IFLA_ADDRESS, far_mac)
        far += _attribute(_IFLA_NET_NS_FD, struct.pack("=I", namespace))
        near = _attribute(_IFLA_IFNAME, _text(name)) + _attribute(_IFLA_ADDRESS, mac)
        self._make(f"make the network interface {name}", near + _info("veth", _attribute(_VETH_PEER, far)))

    def lead(self, name: str, address: bytes, source: bytes) -> None:
        """Switch `name` on; what is for `address` goes there, and comes from `source`."""
        naming = _LINK.pack(0, 0, 0, _UP, _UP) + _attribute(_IFLA_IFNAME, _text(name))
        self._ask(f"switch {name} on", _NEWLINK, _ACK, naming)
        body = _ROUTE.pack(socket.AF_INET, 32, 0, 0, _MAIN_TABLE, _BY_BOOT, _ON_LINK, _UNICAST, 0)
        body += _attribute(_RTA_DST, address) + _attribute(_RTA_PREFSRC, source)
        body += _attribute(_RTA_OIF, struct.pack("=I", self.index(name)))
        self._ask(f"lead to a host by {name}", _NEWROUTE, _ACK | _CREATE, body)

    def index(self, name: str) -> int:
        asked = _LINK.pack(0, 0, 0, 0, 0) + _attribute(_IFLA_IFNAME, _text(name))
        (found,) = self._ask(f"find the network interface {name}", _GETLINK, _ACK, asked)
        return int(_LINK.unpack_from(found)[2])

    def _make(self, what: str, attributes: bytes, *, up: bool = False) -> None:
        state = _UP if up else 0
        self._ask(what, _NEWLINK, _ACK | _CREATE | _EXCL, _LINK.pack(0, 0, 0, state, state) + attributes)

    def up(self, index: int) -> None:
        self._ask("switch a network interface on", _NEWLINK, _ACK, _LINK.pack(0, 0, index, _UP, _UP))

    def delete(self, index: int) -> None:
        self._ask("remove a network interface", _DELLINK, _ACK, _LINK.pack(0, 0, index, 0, 0))

    def give_address(self, index: int, address: bytes, prefix: int) -> None:
        host = (1 << (32 - prefix)) - 1
        broadcast = (int.from_bytes(address, "big") | host).to_bytes(4, "big")
        body = _ADDRESS.pack(socket.AF_INET, prefix, 0, 0, index) + _attribute(_IFA_LOCAL, address)
        body += _attribute(_IFA_ADDRESS, address) + _attribute(_IFA_BROADCAST, broadcast)
        self._ask("give a network interface its address", _NEWADDR, _ACK | _CREATE | _EXCL, body)

    def addresses(self) -> Iterator[tuple[int, bytes, int]]:
        """(interface, address, prefix length) of every IPv4 address."""
        request = _ADDRESS.pack(socket.AF_INET, 0, 0, 0, 0)
        for body in self._ask("list addresses", _GETADDR, _DUMP, request):
            _, prefix, _, _, index = _ADDRESS.unpack_from(body)
            for kind, value in _attributes(body[_ADDRESS.size :]):
                if kind == _IFA_LOCAL:
                    yield index, value, prefix

    def give_way_out(self, index: int, gateway: bytes) -> None:
        """The default route."""
        body = _ROUTE.pack(socket.AF_INET, 0, 0, 0, _MAIN_TABLE, _BY_BOOT, 0, _UNICAST, 0)
        body += _attribute(_RTA_GATEWAY, gateway) + _attribute(_RTA_OIF, struct.pack("=I", index))
        self._ask("set the default route", _NEWROUTE, _ACK | _CREATE, body)

    def _ask(self, what: str, kind: int, flags: int, body: bytes) -> list[bytes]:
        """The bodies of what the kernel answers."""
        self._sequence += 1
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags | _REQUEST, self._sequence, 0)
        self._socket.send(header + body)
        answers: list[bytes] = []
        while True:
            for sort, answer in _messages(self._socket.recv(1 << 16)):
                if sort == _ERROR:
                    number = -struct.unpack_from("=i", answer)[0]
                    if number:
                        raise OSError(number, f"{what}: {os.strerror(number)}")
                    return answers
                if sort == _DONE:
                    return answers
                answers.append(answer)


def _messages(packet: bytes) -> Iterator[tuple[int, bytes]]:
    while len(packet) >= _HEADER.size:
        length, kind, _, _, _ = _HEADER.unpack_from(packet)
        yield kind, packet[_HEADER.size : length]
        packet = packet[_aligned(length) :]


def _attributes(content: bytes) -> Iterator[tuple[int, bytes]]:
    while len(content) >= 4:
        length, kind = struct.unpack_from("=HH", content)
        yield kind, content[4:length]
        content = content[_aligned(length) :]


def _attribute(kind: int, value: bytes) -> bytes:
    length = 4 + len(value)
    return struct.pack("=HH", length, kind) + value + bytes(_aligned(length) - length)


def _info(kind: str, data: bytes = b"") -> bytes:
    content = _attribute(_INFO_KIND, kind.encode())
    if data:
        content += _attribute(_INFO_DATA | _NESTED, data)
    return _attribute(_IFLA_LINKINFO | _NESTED, content)


def _text(name: str) -> bytes:
    return name.encode() + b"\0"


def _aligned(length: int) -> int:
    return (length + 3) & ~3
