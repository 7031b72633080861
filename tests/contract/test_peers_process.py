"""Hosts of one job as processes: an address each, in networks of their own as root, on the loopback otherwise."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sagewright.backends.process import spec
from sagewright.backends.process.backend import ProcessBackend
from sagewright.backends.process.runner import network
from sagewright.backends.process.spec import Machine
from sagewright.core.errors import WorkloadRejected
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.workload import ImageRef, Resources, Workload
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
    there = socket.create_connection((sys.argv[1], int(os.environ.get("KNOCK", {PORT}))), 2)
    print(there.recv(99).decode())
except OSError:
    pass
"""


class OwnBench(ProcessBench):
    """Of an installation of its own: nobody else's workloads keep its bridge."""

    installation = f"peers{secrets.token_hex(3)}"

    async def connect(self, installation: str = "") -> ProcessBackend:
        return await super().connect(installation or self.installation)


class _SharingBackend(ProcessBackend):
    """As where Sagewright is not root: no networks of their own."""

    def _examine(self):  # three values of the base class
        launcher, machine, granted = super()._examine()
        return launcher, replace(machine, network="CAP_NET_ADMIN is missing"), granted


class SharingBench(OwnBench):
    async def connect(self, installation: str = "") -> ProcessBackend:
        backend = _SharingBackend(self.root, self.environments, self.installation, environ=self.environ)
        self._backends.append(backend)
        return backend


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


class TestPeersOnOneNetwork(PeersSuite):
    listen, ask = TestProcessPeers.listen, TestProcessPeers.ask
    test_isolated_hosts_do_not_reach_this_machine = None  # type: ignore[assignment]  # refused: see below

    @pytest.fixture
    async def bench(self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
        bench = SharingBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
        yield bench
        await bench.aclose()

    async def networks(self, bench: Bench) -> int:
        return 0

    async def test_isolated_hosts_reach_each_other_and_have_no_way_out(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        """Not to be had here, and so refused."""
        with pytest.raises(WorkloadRejected, match="CAP_NET_ADMIN is missing"):
            await backend.submit(self.hosts(bench, 2, network_isolation=True)[0])


def test_gpus_of_one_host_are_not_those_of_another(tmp_path: Path) -> None:
    machine = Machine("/usr/bin/python3", (), "uv", tmp_path, gpus=4, user_namespace=False)
    work = Workload(WorkloadId("job"), ImageRef("image"), ("true",), None, resources=Resources(gpus=2, first_gpu=2))
    spec.check(work, machine)
    assert spec.to_record(work, "it", machine)["env"] == {"CUDA_VISIBLE_DEVICES": "2,3"}
    with pytest.raises(WorkloadRejected, match="4 GPUs were asked for and this machine has 3:"):
        spec.check(work, replace(machine, gpus=3))


def test_hosts_need_namespaces(tmp_path: Path) -> None:
    machine = Machine("/usr/bin/python3", (), "uv", tmp_path, gpus=0, user_namespace=True, refused="unshare: no")
    one, two = WorkloadId("one"), WorkloadId("two")
    work = Workload(one, ImageRef("image"), ("true",), None, hostname="algo-1", peers={"algo-1": one, "algo-2": two})
    with pytest.raises(WorkloadRejected, match="several hosts needs namespaces"):
        spec.check(work, machine)
