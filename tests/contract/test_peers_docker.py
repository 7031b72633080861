"""Hosts of one job as Docker containers: one network for each job, made and removed with it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import pytest

from sagewright.backends.docker.backend import DockerBackend
from sagewright.workloads.observation import Phase
from suites.backend_bench import Bench, Mark, WaitFor, reached
from suites.backend_peers_suite import PORT, PeersSuite
from support.docker_bench import DockerBench
from support.images import engine, need

pytestmark = pytest.mark.docker


def networks_of(bench: Bench) -> list[str]:
    assert isinstance(bench, DockerBench)
    filters = quote(json.dumps({"label": [f"sagewright.installation={bench.installation}"]}))
    return [each["Name"] for each in json.loads(engine("GET", f"/networks?filters={filters}")[1])]


class TestDockerPeers(PeersSuite):
    listen = f"(while true; do echo $HOSTNAME${{OF:+ of $OF}} | nc -l -p {PORT}; done)"
    ask = f"nc -w 2 $peer ${{KNOCK:-{PORT}}} < /dev/null 2> /dev/null"
    escape = ""  # there is a default route, to a firewall: see below

    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[DockerBench]:
        need()
        bench = DockerBench(tmp_path)
        yield bench
        await bench.aclose()
        for name in networks_of(bench):
            engine("DELETE", f"/networks/{name}")

    async def networks(self, bench: Bench) -> int:
        return len(networks_of(bench))

    async def test_a_network_that_a_crash_left_behind_goes_when_its_job_is_removed(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        works = self.hosts(bench, 2)
        made = {"Name": f"{works[0].id}-hosts", "Labels": {"sagewright.installation": bench.installation}}
        engine("POST", "/networks/create", made)
        foreign = {"Name": f"{works[1].id}-foreign", "Labels": {"sagewright.installation": "another"}}
        engine("POST", "/networks/create", foreign)
        try:
            assert networks_of(bench) == [made["Name"]]
            await backend.remove(works[0].id)
            assert networks_of(bench) == []
            assert engine("GET", f"/networks/{foreign['Name']}")[0] == 200
        finally:
            engine("DELETE", f"/networks/{foreign['Name']}")

    @pytest.mark.parametrize("isolated", [True, False])
    async def test_only_the_network_of_isolated_hosts_is_closed(
        self, bench: DockerBench, backend: DockerBackend, isolated: bool
    ) -> None:
        work = self.hosts(bench, 2, network_isolation=isolated)[0]
        await backend.submit(work)
        (name,) = networks_of(bench)
        assert json.loads(engine("GET", f"/networks/{name}")[1])["Internal"] is isolated
        host = json.loads(engine("GET", f"/containers/{work.id}/json")[1])["HostConfig"]
        assert (host["Dns"], host["ExtraHosts"]) == (
            (["127.0.0.1"], None) if isolated else (None, ["host.docker.internal:host-gateway"])
        )

    async def test_the_network_of_a_running_job_is_left_alone(self, bench: DockerBench, backend: DockerBackend) -> None:
        works = self.hosts(bench, 2)
        running = [
            await self._run(backend, bench.workload(Mark("up"), WaitFor("done"), id=work.id, peers=work.peers))
            for work in works
        ]
        await backend.remove(running[1])
        await backend.remove(running[1])
        assert networks_of(bench) == [f"{works[0].id}-hosts"]
        await backend.remove(running[0])
        assert networks_of(bench) == []

    async def _run(self, backend: DockerBackend, work: object) -> object:
        await backend.submit(work)
        await reached(backend, work.id, Phase.RUNNING)
        return work.id
