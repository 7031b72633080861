"""Hosts of one job as processes: an address each, in networks of their own as root, on the loopback otherwise."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sagewright.backends.process.backend import ProcessBackend
from sagewright.backends.process.runner import network
from suites.backend_bench import Bench
from suites.backend_peers_suite import PORT, PeersSuite
from support.process_bench import ProcessBench

pytestmark = pytest.mark.process

_SERVE = f"""
import os, socket
name = os.environ["HOSTNAME"]
here = socket.create_server((name, {PORT}))
while True:
    there, _ = here.accept()
    there.sendall((name + (" of " + os.environ["OF"] if "OF" in os.environ else "")).encode())
    there.close()
"""
_ASK = f"""
import os, socket, sys
try:
    there = socket.create_connection((sys.argv[1], {PORT}), 2)
    print(there.recv(99).decode())
except OSError:
    pass
"""


class OwnBench(ProcessBench):
    """Of an installation of its own: nobody else's workloads keep its bridge."""

    installation = f"peers{secrets.token_hex(3)}"

    async def connect(self, installation: str = "") -> ProcessBackend:
        return await super().connect(installation or self.installation)


class TestProcessPeers(PeersSuite):
    listen = f"python -c '{_SERVE}'"
    ask = f"python -c '{_ASK}' $peer"

    @pytest.fixture
    async def bench(self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
        bench = OwnBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
        yield bench
        await bench.aclose()

    async def networks(self, bench: Bench) -> int:
        return int(Path(f"/sys/class/net/{network.bridge_name(OwnBench.installation)}").exists())
