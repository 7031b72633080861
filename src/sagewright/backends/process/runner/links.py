"""Links between the hosts of one job: a veth pair for each two of them, from one network namespace into the other.

    algo-1  169.254.N.5 (eth0)  to-algo-2 ════════ to-algo-1  (eth0) 169.254.N.9  algo-2

The bridge will not do: what crosses it passes the firewall of this machine, and where Docker is installed that drops
whatever Docker does not know. Both ends are in namespaces of the hosts, so a pair is gone with the first of the two,
and there is nothing to remove.
"""

from __future__ import annotations

import socket
from contextlib import suppress

from . import network, syscalls
from .netlink import Netlink

_LONGEST = 15  # bytes of an interface's name


def join(own: tuple[str, str], peer: tuple[str, str], pid: int) -> None:
    """A link between this process's namespace and that of the process `pid`. Each is (host name, address). Success also
    when the peer has just ended."""
    (name, address), (other, far_address) = own, peer
    near, distant = f"to-{other}"[:_LONGEST], f"to-{name}"[:_LONGEST]
    mine, theirs = socket.inet_aton(address), socket.inet_aton(far_address)
    with (
        suppress(FileNotFoundError, ProcessLookupError),
        open(f"/proc/{pid}/ns/net", "rb") as far,
        Netlink() as here,
        _netlink_in(far.fileno()) as there,
    ):
        here.make_pair(near, network.mac(mine), (distant, network.mac(theirs), far.fileno()))
        here.lead(near, theirs, mine)
        there.lead(distant, mine, theirs)


def _netlink_in(namespace: int) -> Netlink:
    """A socket speaks for the namespace that it was opened in."""
    with open("/proc/self/ns/net", "rb") as own:
        syscalls.setns(namespace)
        try:
            return Netlink()
        finally:
            syscalls.setns(own.fileno())
