"""A network of its own for a workload that serves ports or has peers, so that each of them has all ports to itself.

    this machine:  bridge sw-<installation>, 169.254.N.1/23 ── sw<address> ═══ eth0, 169.254.N.M  :the workload

The workload's end lives in its network namespace, so the pair is gone with its last process, whatever becomes of us.
The name of our end is the address in hexadecimal: making it claims the address, without any list of who has which.
The bridge is made with its first workload and removed with its last, by whoever finds it unused.

What is in there reaches this machine (at the bridge's address) and its neighbours; nothing beyond: this machine is
not made a router, which is its administrator's decision.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from . import syscalls
from .netlink import Netlink

HOST_NAME = "host.docker.internal"  # what containers call this machine, with every backend
PREFIX = 23
_LOCK = "/run/sagewright-network.lock"
_INNER = "eth0"
# Link-local networks (RFC 3927), because nobody routes them, so no network that the user needs is covered. Not
# 168 to 171: cloud machines have their metadata there.
_THIRDS = (*range(200, 256, 2), *range(2, 168, 2), *range(172, 200, 2))


class Home:
    """Where a workload lives: its own address and, as it sees it, this machine's."""

    def __init__(self, address: str, gateway: str) -> None:
        self.address = address
        self.gateway = gateway


def bridge_name(installation: str) -> str:
    """15 bytes at most, as the kernel has it."""
    return f"sw-{installation[:12]}" if installation.isalnum() else f"sw-{zlib.crc32(installation.encode()):08x}"


def move_in(bridge: str, workload: str, *, way_out: bool, alone_with_peers: bool = False) -> Home:
    """Give the calling process a network namespace with an address on the bridge. OSError with what was refused.

    `way_out` is a route to this machine's other addresses and, if it is a router, beyond. `alone_with_peers`: the
    address is its own, and there is no way to the bridge: nobody but its peers, over `links`, reaches it or is reached.
    """
    with Netlink() as outside, alone():
        index, gateway = _bridge(outside, bridge)
        syscalls.unshare(syscalls.CLONE_NEWNET)
        with Netlink() as inside:
            address = _claim(outside, 0 if alone_with_peers else index, gateway, workload)
            link = socket.if_nametoindex(_INNER)
            inside.up(socket.if_nametoindex("lo"))
            inside.give_address(link, address, PREFIX)
            inside.up(link)
            if way_out:
                inside.give_way_out(link, gateway)
    return Home(socket.inet_ntoa(address), socket.inet_ntoa(gateway))


def isolate() -> None:
    """A network namespace with the loopback and nothing else."""
    syscalls.unshare(syscalls.CLONE_NEWNET)
    with Netlink() as inside:
        inside.up(socket.if_nametoindex("lo"))


def try_out() -> None:
    """Make what a workload would get, in a namespace that nobody sees. Cannot be taken back; OSError when refused."""
    if not _may_administer():
        raise OSError(errno.EPERM, "CAP_NET_ADMIN is missing")
    syscalls.unshare(syscalls.CLONE_NEWNET)
    with Netlink() as link, open("/proc/self/ns/net", "rb") as namespace:
        link.make_bridge("sw-try", mac(bytes((0, 0, 0, 1))))
        peer = ("sw-try1", mac(bytes((0, 0, 0, 2))), namespace.fileno())
        link.make_veth("sw-try0", socket.if_nametoindex("sw-try"), "", peer)


def move_out(bridge: str, address: str, workload: str) -> None:
    """Free the address at once, where the kernel would take its time, and remove a bridge that nobody uses."""
    name = _port_name(socket.inet_aton(address))
    with Netlink() as outside, alone():
        if _alias(name) == workload:  # the address may be somebody else's by now
            _delete(outside, name)
        _sweep(outside, bridge)


def _sweep(outside: Netlink, bridge: str) -> None:
    """Remove the bridge when nobody uses it."""
    if _ports(bridge) == []:
        _delete(outside, bridge)


def _bridge(outside: Netlink, name: str) -> tuple[int, bytes]:
    """Index and address of the bridge, made if need be."""
    index = _index(name)
    taken = list(outside.addresses())
    for owner, address, _ in taken:
        if index and owner == index:
            return index, address
    address = _free_network([(address, prefix) for owner, address, prefix in taken], list(_routes()))
    if not index:
        outside.make_bridge(name, mac(address))  # its own, or it would be that of some port, and change with them
        index = socket.if_nametoindex(name)
    outside.give_address(index, address, PREFIX)
    outside.up(index)
    return index, address


def _free_network(addresses: list[tuple[bytes, int]], routes: list[tuple[bytes, int]]) -> bytes:
    """The first address of a network that nothing on this machine uses. A route to all of 169.254/16, which some
    systems have, is no use of it."""
    for third in _THIRDS:
        candidate = bytes((169, 254, third, 1))
        if not any(_overlap(candidate, *each) for each in (*addresses, *routes) if each[1] > 16):
            return candidate
    raise OSError(errno.EADDRNOTAVAIL, "every link-local network of this machine is in use")


def _overlap(candidate: bytes, address: bytes, prefix: int) -> bool:
    shift = 32 - min(prefix, PREFIX)
    return int.from_bytes(candidate, "big") >> shift == int.from_bytes(address, "big") >> shift


def _routes() -> Iterator[tuple[bytes, int]]:
    with open("/proc/net/route") as file:
        for line in file.readlines()[1:]:
            fields = line.split()
            yield struct.pack("=I", int(fields[1], 16)), int(fields[7], 16).bit_count()


def _claim(outside: Netlink, bridge: int, gateway: bytes, workload: str) -> bytes:
    """An address that nobody has. It begins to look where the workload's name says, so that addresses are used again
    late: whoever still knows an old one must not reach another's program."""
    network = int.from_bytes(gateway, "big") - 1
    most = (1 << (32 - PREFIX)) - 3  # without the network's, the bridge's and the broadcast address
    start = zlib.crc32(workload.encode())
    with open("/proc/self/ns/net", "rb") as namespace:
        for step in range(most):
            address = (network + 2 + (start + step) % most).to_bytes(4, "big")
            try:
                peer = (_INNER, mac(address), namespace.fileno())
                _make_port(outside, address, bridge, workload, peer)
            except FileExistsError:
                continue
            return address
    raise OSError(errno.EADDRNOTAVAIL, f"all {most} addresses of this installation's network are in use")


def _make_port(outside: Netlink, address: bytes, bridge: int, workload: str, peer: tuple[str, bytes, int]) -> None:
    outside.make_veth(_port_name(address), bridge, workload, peer)


def _port_name(address: bytes) -> str:
    return f"sw{address.hex()}"


def mac(address: bytes) -> bytes:
    """Locally administered, and the same for the same address: no neighbour remembers a wrong one."""
    return b"\x02\x53" + address


def _delete(outside: Netlink, name: str) -> None:
    """Success also when it is gone: the kernel removes it with the namespace of its other end."""
    try:
        if index := _index(name):
            outside.delete(index)
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.ENXIO):
            raise


def _index(name: str) -> int:
    """0 when there is no such interface."""
    try:
        return socket.if_nametoindex(name)
    except OSError:  # it has no number to tell by
        return 0


def _ports(bridge: str) -> list[str] | None:
    try:
        return os.listdir(f"/sys/class/net/{bridge}/brif")
    except FileNotFoundError:
        return None


def _alias(interface: str) -> str:
    try:
        with open(f"/sys/class/net/{interface}/ifalias") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _may_administer() -> bool:
    with open("/proc/self/status") as file:
        effective = next(line.split()[1] for line in file if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 12 & 1)


@contextmanager
def alone() -> Iterator[None]:
    """One at a time on this machine: choosing a network, making and removing bridges, getting to know one's peers. The
    kernel frees it."""
    lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
