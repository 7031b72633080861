"""Images that must be pulled first, from a real registry protocol by a real engine."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sagewright.backends.docker.backend import DockerBackend
from sagewright.workloads.observation import ExitCause, Phase
from sagewright.workloads.workload import ImageRef
from suites.backend_bench import Mark, Print, exited, look
from suites.backend_log_suite import lines_of, next_of
from support.docker_bench import DockerBench
from support.images import need
from support.small_registry import SmallRegistry

pytestmark = pytest.mark.docker
LOGIN = ("someone", "pass:word")


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DockerBench]:
    need()
    bench = DockerBench(tmp_path)
    yield bench
    await bench.aclose()


@pytest.fixture
async def backend(bench: DockerBench) -> DockerBackend:
    return await bench.connect()


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    need()
    made = SmallRegistry()
    yield made
    made.close()


@pytest.fixture
def closed_registry() -> Iterator[SmallRegistry]:
    need()
    made = SmallRegistry(LOGIN)
    yield made
    made.close()


async def happened(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, 30)


async def test_an_image_is_pulled_while_its_workload_is_preparing(
    bench: DockerBench, backend: DockerBackend, registry: SmallRegistry
) -> None:
    registry.gate.clear()
    work = bench.workload(Mark("runs"), Print(b"pulled\n"), image=ImageRef(registry.name))
    await backend.submit(work)
    await backend.submit(work)
    await happened(registry.asked)
    seen = await look(backend, work.id)
    assert seen.phase is Phase.PREPARING
    assert registry.name in seen.message
    assert set(await backend.observe()) == {work.id}
    reading = backend.logs(work.id)
    first = asyncio.ensure_future(next_of(reading))
    registry.gate.set()
    assert (await first).message == b"pulled"
    seen = await exited(backend, work.id)
    assert (seen.exit_code, seen.image_digest) == (0, registry.digest)
    assert [record async for record in reading] == []
    assert bench.marks("runs") == 1


async def test_stopping_during_the_pull_ends_it_without_a_run(
    bench: DockerBench, backend: DockerBackend, registry: SmallRegistry
) -> None:
    registry.gate.clear()
    work = bench.workload(Mark("runs"), image=ImageRef(registry.name))
    await backend.submit(work)
    await happened(registry.asked)
    await backend.stop(work.id)
    seen = await exited(backend, work.id)
    assert (seen.exit_code, seen.cause) == (None, ExitCause.START)
    assert "stopped" in seen.message
    await backend.submit(work)
    assert (await look(backend, work.id)) == seen
    assert await lines_of(backend, work.id) == []
    await backend.remove(work.id)
    assert await backend.observe() == {}
    assert bench.marks("runs") == 0


async def test_removing_during_the_pull_forgets_it(
    bench: DockerBench, backend: DockerBackend, registry: SmallRegistry
) -> None:
    registry.gate.clear()
    work = bench.workload(Mark("runs"), image=ImageRef(registry.name))
    await backend.submit(work)
    await happened(registry.asked)
    await backend.remove(work.id)
    assert await backend.observe() == {}
    registry.gate.set()
    await backend.submit(work)
    assert (await exited(backend, work.id)).exit_code == 0
    assert bench.marks("runs") == 1


async def test_a_pull_that_was_lost_with_us_is_absent_and_done_again(
    bench: DockerBench, backend: DockerBackend, registry: SmallRegistry
) -> None:
    registry.gate.clear()
    work = bench.workload(Mark("runs"), image=ImageRef(registry.name))
    await backend.submit(work)
    await happened(registry.asked)
    await bench.crash(backend)
    reborn = await bench.connect()
    assert await reborn.observe() == {}
    registry.gate.set()
    await reborn.submit(work)
    assert (await exited(reborn, work.id)).exit_code == 0
    assert bench.marks("runs") == 1


async def test_a_pull_goes_on_after_an_outage_of_the_engine(
    bench: DockerBench, backend: DockerBackend, registry: SmallRegistry
) -> None:
    registry.gate.clear()
    work = bench.workload(Mark("runs"), image=ImageRef(registry.name))
    await backend.submit(work)
    await happened(registry.asked)
    async with bench.outage():
        registry.gate.set()
    assert (await exited(backend, work.id)).exit_code == 0
    assert bench.marks("runs") == 1


@pytest.mark.parametrize("image", ["team/other:1", "team/image:2", "team/image@sha256:" + "0" * 64])
async def test_what_the_registry_does_not_have_is_said_in_its_words(
    bench: DockerBench, backend: DockerBackend, registry: SmallRegistry, image: str
) -> None:
    name = f"{registry.host}/{image}"
    work = bench.workload(image=ImageRef(name))
    await backend.submit(work)
    seen = await exited(backend, work.id)
    assert seen.cause is ExitCause.IMAGE
    assert f"The image {name} is not in the local engine" in seen.message
    assert "manifest unknown" in seen.message
    assert "docker build" in seen.message


@pytest.mark.parametrize("image", ["", "Not A Name", "../containers/json", "UPPER/case", "x" * 300, "a//b", "-x"])
async def test_what_is_no_image_name_is_a_failed_image(bench: DockerBench, backend: DockerBackend, image: str) -> None:
    work = bench.workload(image=ImageRef(image))
    await backend.submit(work)
    seen = await exited(backend, work.id)
    assert seen.cause is ExitCause.IMAGE
    assert image in seen.message


async def test_the_users_own_login_is_used(bench: DockerBench, closed_registry: SmallRegistry, tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    auth = base64.b64encode(":".join(LOGIN).encode()).decode()
    config.write_text(json.dumps({"auths": {closed_registry.host: {"auth": auth}}}))
    backend = await bench.connect(credentials=config)
    work = bench.workload(image=ImageRef(closed_registry.name), entrypoint=("/bin/true",))
    await backend.submit(work)
    assert (await exited(backend, work.id)).exit_code == 0


@pytest.mark.parametrize("content", ["", "{}", "not json", "[]", '{"auths": {"HOST": {"auth": "!"}}}'])
async def test_without_a_login_the_failure_says_to_log_in(
    bench: DockerBench, closed_registry: SmallRegistry, tmp_path: Path, content: str
) -> None:
    config = tmp_path / "config.json"
    config.write_text(content.replace("HOST", closed_registry.host))
    backend = await bench.connect(credentials=config)
    work = bench.workload(image=ImageRef(closed_registry.name))
    await backend.submit(work)
    seen = await exited(backend, work.id)
    assert seen.cause is ExitCause.IMAGE
    assert f"docker login {closed_registry.host}" in seen.message
