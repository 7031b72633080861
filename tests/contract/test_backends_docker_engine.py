"""What is promised of the Docker backend beyond the common contract, on a real engine."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote

import pytest

from sagewright.backends.docker.backend import DockerBackend
from sagewright.backends.docker.engine import Engine
from sagewright.backends.docker.ownership import give_to
from sagewright.core.errors import WorkloadRejected
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.workload import ImageRef, Mount, Resources, Workload
from suites.backend_bench import (
    SHARED,
    Exit,
    Mark,
    OnTerm,
    WaitFor,
    exited,
    look,
    marked,
    reached,
    until,
)
from suites.backend_layer_suite import layered
from suites.backend_log_suite import lines_of, next_of
from support.docker_bench import DockerBench
from support.images import BUSYBOX, engine, need

pytestmark = pytest.mark.docker


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DockerBench]:
    need()
    bench = DockerBench(tmp_path)
    yield bench
    await bench.aclose()


@pytest.fixture
async def backend(bench: DockerBench) -> DockerBackend:
    return await bench.connect()


async def run(backend: DockerBackend, work: Workload) -> tuple[Observation, list[str]]:
    await backend.submit(work)
    seen = await exited(backend, work.id)
    return seen, [line.decode() for line in await lines_of(backend, work.id)]


async def bench_is_up(bench: DockerBench) -> None:
    async def there() -> bool:
        return (bench.shared / "up").exists()

    await until(there, "the program to begin")


class TestCommand:
    """Contract A.1."""

    @pytest.mark.parametrize(
        ("entrypoint", "arguments", "printed"),
        [
            (None, ("train",), "own train"),
            (None, None, "own command"),
            (None, (), "own"),
            (("/bin/echo", "given"), None, "given"),
            (("/bin/echo", "given"), ("a", "b"), "given a b"),
        ],
    )
    async def test_entrypoint_and_arguments_replace_what_the_image_has_as_on_aws(
        self,
        bench: DockerBench,
        backend: DockerBackend,
        entrypoint: tuple[str, ...] | None,
        arguments: tuple[str, ...] | None,
        printed: str,
    ) -> None:
        image = bench.make_image({"Entrypoint": ["/bin/echo", "own"], "Cmd": ["command"]})
        work = bench.workload(image=image, entrypoint=entrypoint, arguments=arguments)
        assert (await run(backend, work))[1] == [printed]

    async def test_an_image_without_a_train_program_says_what_to_change(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(image=ImageRef(BUSYBOX), entrypoint=None, arguments=("train",))
        seen, _ = await run(backend, work)
        assert seen.cause is ExitCause.START
        assert "the image has no entrypoint that takes `train`" in seen.message.lower()
        assert "executable file not found" in seen.message

    async def test_a_shell_form_entrypoint_that_fails_is_explained(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        image = bench.make_image({"Entrypoint": ["/bin/sh", "-c", 'test "$1" = train']})
        seen, _ = await run(backend, bench.workload(image=image, entrypoint=None, arguments=("train",)))
        assert seen.exit_code == 1
        assert "shell form" in seen.message


class TestSurroundings:
    async def test_the_program_is_pid_1_and_root_on_a_writable_file_system(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        script = "echo $$ $(id -u); touch /written /tmp/written && echo ok; df -k /dev/shm | tail -1 | awk '{print $2}'"
        resources = Resources(memory=256 << 20, shared_memory=128 << 20)
        work = bench.workload(entrypoint=("/bin/sh", "-c", script), resources=resources)
        assert (await run(backend, work))[1] == ["1 0", "ok", str(128 * 1024)]

    @pytest.mark.parametrize("isolated", [False, True])
    async def test_its_own_name_resolves_and_isolation_leaves_only_loopback(
        self, bench: DockerBench, backend: DockerBackend, isolated: bool
    ) -> None:
        script = "hostname; grep -c algo-1 /etc/hosts; grep -c host.docker.internal /etc/hosts; ls /sys/class/net"
        work = bench.workload(entrypoint=("/bin/sh", "-c", script), network_isolation=isolated)
        _, lines = await run(backend, work)
        assert lines == (["algo-1", "1", "0", "lo"] if isolated else ["algo-1", "1", "1", "eth0", "lo"])

    async def test_what_is_written_below_a_volume_of_the_image_reaches_the_mount(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        image = bench.make_image({"Volumes": {f"{SHARED}/model": {}, "/elsewhere": {}}})
        script = f"echo weights > {SHARED}/model/weights"
        await run(backend, bench.workload(image=image, entrypoint=("/bin/sh", "-c", script)))
        assert (bench.shared / "model" / "weights").read_text() == "weights\n"

    async def test_a_mount_of_a_folder_that_is_not_there_is_a_failed_start_that_names_it(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        gone = bench.folder / "gone"
        work = bench.workload(Exit(0), mounts=(Mount(gone, SHARED),))
        await backend.submit(work)
        seen = await exited(backend, work.id)
        assert (seen.cause, seen.exit_code) == (ExitCause.START, None)
        assert str(gone) in seen.message
        assert not gone.exists()

    async def test_stop_sends_sigterm_whatever_the_image_asks_for(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        image = bench.make_image({"StopSignal": "SIGUSR1"})
        work = bench.workload(OnTerm("terminated", 5), Mark("up"), WaitFor("never"), image=image)
        await backend.submit(work)
        await marked(bench, "up")
        await backend.stop(work.id)
        assert (await exited(backend, work.id)).exit_code == 5

    async def test_a_repeated_stop_does_not_send_sigterm_again(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        script = f"trap 'echo asked' TERM; touch {SHARED}/up; while [ ! -e {SHARED}/gate ]; do sleep 0.02; done"
        work = bench.workload(entrypoint=("/bin/sh", "-c", script))
        await backend.submit(work)
        await bench_is_up(bench)
        reading = backend.logs(work.id)
        await backend.stop(work.id)
        assert (await next_of(reading)).message == b"asked"  # many programs end at once at a second one
        await backend.stop(work.id)
        bench.open_gate("gate")
        assert [record.message async for record in reading] == []

    async def test_a_failure_after_a_child_ran_out_of_memory_is_out_of_memory(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        script = "sh -c 'x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done'; exit 1"
        work = bench.workload(entrypoint=("/bin/sh", "-c", script), resources=Resources(memory=32 << 20))
        seen, _ = await run(backend, work)
        assert (seen.exit_code, seen.cause) == (1, ExitCause.OUT_OF_MEMORY)

    async def test_a_gpu_that_is_not_there_is_refused_in_plain_words(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        if (await backend.describe()).gpus:
            pytest.skip("this machine has GPUs")
        work = bench.workload(Exit(0), resources=Resources(gpus=1))
        with pytest.raises(WorkloadRejected, match="choose a CPU instance type"):
            await backend.submit(work)
        assert await backend.observe() == {}

    async def test_the_image_s_digest_is_observed(self, bench: DockerBench, backend: DockerBackend) -> None:
        seen, _ = await run(backend, bench.workload(Exit(0)))
        assert seen.image_digest
        assert seen.image_digest.startswith("sha256:")

    async def test_an_image_for_another_processor_is_refused_before_it_starts(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        facts = await backend._engine.facts()
        if facts.runs("s390x"):
            pytest.skip("this engine runs every architecture")
        image = bench.load_image({"architecture": "s390x", "os": "linux", "config": {}})
        seen, _ = await run(backend, bench.workload(Exit(0), image=image))
        assert (seen.cause, seen.exit_code) == (ExitCause.IMAGE, None)
        assert "s390x" in seen.message
        assert facts.architecture in seen.message


class TestNeighbours:
    async def test_a_strangers_container_of_that_name_is_not_touched(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(Exit(0))
        status, _ = engine("POST", f"/containers/create?name={work.id}", {"Image": BUSYBOX, "Cmd": ["true"]})
        assert status == 201
        try:
            with pytest.raises(WorkloadRejected, match="not of this installation"):
                await backend.submit(work)
            await backend.stop(work.id)
            await backend.remove(work.id)
            assert await backend.observe() == {}
            assert engine("GET", f"/containers/{work.id}/json")[0] == 200
        finally:
            engine("DELETE", f"/containers/{work.id}?force=1")

    async def test_what_somebody_else_removed_is_absent(self, bench: DockerBench, backend: DockerBackend) -> None:
        work = bench.workload(Mark("up"), WaitFor("never"))
        await backend.submit(work)
        await marked(bench, "up")
        engine("DELETE", f"/containers/{work.id}?force=1")
        assert await backend.observe([work.id]) == {}
        assert await backend.observe() == {}

    async def test_a_kill_that_is_due_does_not_hit_a_later_workload_of_the_same_id(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(Mark("runs"), WaitFor("gate"), stop_grace=timedelta(seconds=1))
        await backend.submit(work)
        await marked(bench, "runs")
        await backend.stop(work.id)
        await backend.remove(work.id)
        await backend.submit(work)

        async def twice() -> bool:
            return bench.marks("runs") == 2

        await until(twice, "the second run")
        await asyncio.sleep(1.2)  # the first one's grace is over
        assert (await look(backend, work.id)).phase is Phase.RUNNING

    async def test_a_container_of_an_image_made_of_a_workload_is_not_taken_for_it(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(Mark("up"), WaitFor("gate"))
        await backend.submit(work)
        await marked(bench, "up")
        _, body = engine("GET", f"/containers/{work.id}/json")
        image = bench.make_image({"Labels": json.loads(body)["Config"]["Labels"], "Cmd": ["true"]})
        status, _ = engine("POST", "/containers/create", {"Image": image.name})
        assert status == 201
        assert {look.phase for look in (await backend.observe()).values()} == {Phase.RUNNING}

    async def test_an_exited_workload_whose_image_was_deleted_does_not_run_again(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(Mark("runs"), image=bench.make_image({}))
        await backend.submit(work)
        first = await exited(backend, work.id)
        engine("DELETE", f"/images/{work.image.name}?force=1")
        await backend.submit(work)
        await asyncio.sleep(0.3)
        assert await look(backend, work.id) == first
        assert bench.marks("runs") == 1


class TestHints:
    async def test_start_and_end_are_hinted_also_after_a_cut(self, bench: DockerBench, backend: DockerBackend) -> None:
        hints = backend.hints()
        for number in range(2):
            work = bench.workload(WaitFor(f"gate{number}"))
            first = asyncio.ensure_future(anext(hints))
            await asyncio.sleep(0.5)  # hints are only those of events after the listening began
            await backend.submit(work)
            assert await asyncio.wait_for(first, 30) == work.id
            await reached(backend, work.id, Phase.RUNNING)
            bench.open_gate(f"gate{number}")
            assert await asyncio.wait_for(anext(hints), 30) == work.id
            await exited(backend, work.id)
            bench.tunnel.cut_connections()
        await hints.aclose()  # an async generator


class TestHandingOver:
    async def test_files_of_a_container_s_root_are_given_away(self, bench: DockerBench, backend: DockerBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to see files of others")
        script = f"mkdir -p {SHARED}/model/deep && touch {SHARED}/model/deep/file && ln -s /etc/passwd {SHARED}/link"
        await run(backend, bench.workload(entrypoint=("/bin/sh", "-c", script)))
        own = Engine(f"unix://{bench.tunnel.path}")
        assert await give_to(own, bench.installation, ImageRef(BUSYBOX), [bench.shared], (1234, 5678)) == ""
        await own.aclose()
        for path in (bench.shared, bench.shared / "model/deep/file", bench.shared / "link"):
            status = path.lstat()
            assert (status.st_uid, status.st_gid) == (1234, 5678)
        assert Path("/etc/passwd").stat().st_uid == 0

    async def test_it_says_why_it_could_not_be_done(self, bench: DockerBench, backend: DockerBackend) -> None:
        own = Engine(f"unix://{bench.tunnel.path}")
        problem = await give_to(own, bench.installation, bench.missing_image(), [bench.shared], (1234, 5678))
        await own.aclose()
        assert "could not run chown" in problem


class TestVolumes:
    async def test_one_whose_container_was_removed_by_hand_is_swept(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        mount = layered(bench)
        work = bench.workload(entrypoint=("true",))
        await run(backend, replace(work, mounts=(*work.mounts, mount)))
        engine("DELETE", f"/containers/{work.id}?force=1")
        assert len(volumes(bench.installation)) == 1
        await backend.sweep()
        assert volumes(bench.installation) == []

    async def test_one_goes_with_its_container(self, bench: DockerBench, backend: DockerBackend) -> None:
        mount = layered(bench)
        work = bench.workload(entrypoint=("true",))
        await run(backend, replace(work, mounts=(*work.mounts, mount)))
        await backend.sweep()
        assert len(volumes(bench.installation)) == 1, "a sweep spares what a container has"
        await backend.remove(work.id)
        assert volumes(bench.installation) == []


def volumes(installation: str) -> list[str]:
    filters = quote(json.dumps({"label": [f"sagewright.installation={installation}"]}))
    _, body = engine("GET", f"/volumes?filters={filters}")
    return [volume["Name"] for volume in json.loads(body)["Volumes"] or ()]
