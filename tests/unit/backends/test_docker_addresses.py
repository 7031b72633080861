"""Containers that serve ports are reached at their own addresses, isolated ones too, and those reach nobody."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sagewright.backends.docker import spec
from sagewright.backends.docker.backend import DockerBackend
from sagewright.backends.docker.facts import Facts, Image
from sagewright.core.errors import WorkloadRejected
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import Observation, Phase
from sagewright.workloads.workload import ImageRef, Workload
from suites.backend_bench import reached, until
from support.docker_bench import DockerBench
from support.images import engine, need

FACTS = Facts(
    version="28",
    architecture="amd64",
    cpus=2,
    memory=1 << 30,
    gpus=0,
    gpu_runtime="",
    log_driver="local",
    podman=False,
    native=True,
    direct=True,
    selinux=False,
    emulated=None,
    system="Linux",
)
SERVE = 'while true; do printf "HTTP/1.0 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi" | nc -l -p 8080; done'


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DockerBench]:
    need()
    bench = DockerBench(tmp_path)
    yield bench
    await bench.aclose()  # removes containers behind the backend's back, so their network stays
    engine("DELETE", f"/networks/{spec.inner_network(bench.installation)['Name']}")


@pytest.fixture
async def backend(bench: DockerBench) -> DockerBackend:
    return await bench.connect()


def serving(bench: DockerBench, *, isolated: bool, script: str = SERVE) -> Workload:
    work = bench.workload(entrypoint=("/bin/sh", "-c", script), network_isolation=isolated)
    return replace(work, ports=(8080,))


async def started(backend: DockerBackend, work: Workload) -> Observation:
    await backend.submit(work)
    seen = await reached(backend, work.id, Phase.RUNNING)

    async def answers() -> bool:
        return await ask(seen.address) == b"hi"

    await until(answers, f"{work.id} to answer at {seen.address}")
    return seen


async def ask(address: str | None) -> bytes:
    assert address is not None
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError:
        return b""
    try:
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        return (await reader.read()).partition(b"\r\n\r\n")[2]
    except OSError:
        return b""
    finally:
        writer.close()


def networks(backend: DockerBackend) -> list[str]:
    _, body = engine("GET", "/networks")
    name = spec.inner_network(backend._installation)["Name"]
    return [each["Name"] for each in json.loads(body) if each["Name"] == name]


@pytest.mark.docker
@pytest.mark.parametrize("isolated", [False, True])
async def test_each_container_answers_at_its_own_address(
    bench: DockerBench, backend: DockerBackend, isolated: bool
) -> None:
    works = [serving(bench, isolated=isolated) for _ in range(2)]
    seen = [await started(backend, work) for work in works]
    assert len({each.address for each in seen}) == 2
    assert all(each.address and each.address.endswith(":8080") for each in seen)


@pytest.mark.docker
async def test_an_isolated_container_reaches_neither_the_world_nor_its_neighbours(
    bench: DockerBench, backend: DockerBackend
) -> None:
    """One that is not isolated reaches the neighbour of its own kind, so the question is a fair one."""

    async def reaches(isolated: bool) -> bool:
        neighbour = await started(backend, serving(bench, isolated=isolated))
        host = (neighbour.address or "").partition(":")[0]
        script = f"nc -w 2 {host} 8080 </dev/null >/out 2>&1; grep -c hi /out >/verdict; {SERVE}"
        asking = replace(serving(bench, isolated=isolated, script=script))
        await started(backend, asking)
        return "1" in run_in(asking.id, "cat", "/verdict")

    assert await reaches(isolated=False)
    assert not await reaches(isolated=True)


@pytest.mark.docker
async def test_the_inner_network_goes_with_the_last_container_and_comes_again(
    bench: DockerBench, backend: DockerBackend
) -> None:
    first, second = serving(bench, isolated=True), serving(bench, isolated=True)
    await started(backend, first)
    await started(backend, second)
    await backend.remove(first.id)
    assert networks(backend)
    await backend.remove(second.id)
    assert not networks(backend)
    await started(backend, serving(bench, isolated=True))
    assert len(networks(backend)) == 1


@pytest.mark.docker
async def test_many_that_start_at_once_share_one_network(bench: DockerBench, backend: DockerBackend) -> None:
    works = [serving(bench, isolated=True) for _ in range(4)]
    await asyncio.gather(*(started(backend, work) for work in works))
    assert len(networks(backend)) == 1
    await asyncio.gather(*(backend.remove(work.id) for work in works))
    assert not networks(backend)


def test_where_containers_have_no_reachable_address_an_isolated_server_is_rejected() -> None:
    work = Workload(
        WorkloadId("w1"), ImageRef("image"), entrypoint=None, arguments=None, ports=(8080,), network_isolation=True
    )
    spec.reject(work, FACTS)
    with pytest.raises(WorkloadRejected, match="EnableNetworkIsolation"):
        spec.reject(work, replace(FACTS, direct=False))
    spec.reject(replace(work, ports=()), replace(FACTS, direct=False))


def test_an_isolated_server_asks_nobody_on_this_machine_for_names() -> None:
    """The engine's resolver would carry them out of an inner network when this machine's own is on its loopback."""
    work = Workload(
        WorkloadId("w1"), ImageRef("image"), entrypoint=None, arguments=None, ports=(8080,), network_isolation=True
    )
    image = Image(id="i", digest="d", architecture="amd64", system="linux", entrypoint=(), volumes=())
    host = spec.container_config(work, "here", image, FACTS)["HostConfig"]
    assert (host["NetworkMode"], host["Dns"]) == ("sagewright-here", ["127.0.0.1"])
    assert "ExtraHosts" not in host


def run_in(container: str, *command: str) -> str:
    """What a command prints in a running container."""
    _, body = engine(
        "POST", f"/containers/{container}/exec", {"AttachStdout": True, "AttachStderr": True, "Cmd": command}
    )
    _, said = engine("POST", f"/exec/{json.loads(body)['Id']}/start", {"Detach": False})
    return said.decode(errors="replace")


@pytest.mark.docker
async def test_usage_is_what_the_engine_counts_of_those_that_run(bench: DockerBench, backend: DockerBackend) -> None:
    busy = bench.workload(entrypoint=("/bin/sh", "-c", "while true; do :; done"))
    await backend.submit(busy)
    await reached(backend, busy.id, Phase.RUNNING)
    ended = bench.workload(entrypoint=("/bin/true",))
    await backend.submit(ended)
    await reached(backend, ended.id, Phase.EXITED)
    used = await backend.usage([busy.id, ended.id, WorkloadId("unknown")])
    assert set(used) == {busy.id}
    assert used[busy.id].cpu_percent > 5
    assert 0 < used[busy.id].memory_percent < 100
