"""What is promised of the Docker backend beyond the common contract, on a real engine."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from sagewright.backends.docker import engine as engine_module
from sagewright.backends.docker.backend import DockerBackend
from sagewright.core.errors import BackendUnavailable, WorkloadRejected
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.workload import ImageRef, Mount, Resources, Workload
from suites.backend_bench import (
    SHARED,
    Exit,
    Mark,
    OnTerm,
    Print,
    PrintLines,
    WaitFor,
    exited,
    look,
    marked,
    reached,
    until,
)
from suites.backend_log_suite import lines_of, next_of, records_of
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
        name = "sagewright-test/foreign:1"
        status, body = engine(
            "POST",
            "/images/create?fromSrc=-&repo=sagewright-test/foreign&tag=1&platform=linux/s390x",
            bytes(10240),
            {"Content-Type": "application/x-tar"},
        )
        assert status == 200, body
        bench.made_images.append(name)
        seen, _ = await run(backend, bench.workload(Exit(0), image=ImageRef(name)))
        assert (seen.cause, seen.exit_code) == (ExitCause.IMAGE, None)
        assert "s390x" in seen.message
        assert facts.architecture in seen.message


class TestInterruptions:
    async def test_a_submit_that_was_cut_before_the_start_is_absent_and_runs_once_when_repeated(
        self, bench: DockerBench, backend: DockerBackend
    ) -> None:
        work = bench.workload(Mark("runs"))
        bench.tunnel.refuse = b"/start"
        with pytest.raises(BackendUnavailable):
            await backend.submit(work)
        reborn = await bench.connect()
        assert await reborn.observe() == {}
        await reborn.submit(work)
        await exited(reborn, work.id)
        assert bench.marks("runs") == 1

    @pytest.mark.parametrize("request_part", [b"/containers/create", b"/start"])
    async def test_a_submit_whose_reply_was_lost_runs_once_when_repeated(
        self, bench: DockerBench, backend: DockerBackend, request_part: bytes
    ) -> None:
        work = bench.workload(Mark("runs"), WaitFor("gate"))
        bench.tunnel.lose_reply = request_part
        with pytest.raises(BackendUnavailable):
            await backend.submit(work)
        await backend.submit(work)
        await marked(bench, "runs")
        bench.open_gate("gate")
        await exited(backend, work.id)
        assert bench.marks("runs") == 1

    async def test_a_log_reader_lives_through_cut_connections(self, bench: DockerBench, backend: DockerBackend) -> None:
        work = bench.workload(PrintLines(3000), WaitFor("gate"), PrintLines(3000, "more "))
        await backend.submit(work)
        seen = []
        async for record in backend.logs(work.id):
            seen.append(record)
            if len(seen) in (1, 700, 2999, 3500):
                bench.tunnel.cut_connections()
            if len(seen) == 3000:
                bench.open_gate("gate")
        expected = [b"line %d" % each for each in range(3000)] + [b"more %d" % each for each in range(3000)]
        assert [record.message for record in seen] == expected
        assert await records_of(backend, work.id) == seen

    async def test_a_log_reader_in_an_outage_is_told_and_resumes(
        self, bench: DockerBench, backend: DockerBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sagewright.backends.docker.follow.PAUSES", (0.01,))
        work = bench.workload(Print(b"one\n"), WaitFor("gate"), Print(b"two\n"))
        await backend.submit(work)
        reading = backend.logs(work.id)
        first = await next_of(reading)
        async with bench.outage():
            with pytest.raises(BackendUnavailable):
                await next_of(reading)
        bench.open_gate("gate")
        assert await lines_of(backend, work.id, first.cursor) == [b"two"]

    async def test_a_silent_engine_is_unavailable(
        self, bench: DockerBench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(engine_module, "ANSWER", 0.3)
        await self._all_verbs_are_unavailable(bench, tmp_path / "silent.sock", None)

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\noops",
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]",
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{}",
            b"not HTTP at all\r\n\r\n",
            b"",
        ],
        ids=["502", "html", "json", "cut", "garbage", "nothing"],
    )
    async def test_what_is_no_engine_is_unavailable(self, bench: DockerBench, tmp_path: Path, answer: bytes) -> None:
        await self._all_verbs_are_unavailable(bench, tmp_path / "odd.sock", answer)

    @staticmethod
    async def _all_verbs_are_unavailable(bench: DockerBench, path: Path, answer: bytes | None) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1000)
            if answer is None:
                await reader.read(1000)
            writer.write(answer or b"")
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        backend = DockerBackend("test", host=f"unix://{path}")
        work = bench.workload(Exit(0))
        calls = (backend.submit(work), backend.observe(), backend.stop(work.id), backend.remove(work.id))
        for call in calls:
            with pytest.raises(BackendUnavailable):
                await call
        with pytest.raises(BackendUnavailable):
            await next_of(backend.logs(work.id))
        described = await backend.describe()
        assert not described.available
        assert str(path) in described.problem
        await backend.aclose()
        server.close()


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
        await hints.aclose()  # type: ignore[attr-defined]  # an async generator


class TestReclaim:
    async def test_files_of_a_container_s_root_are_given_away(self, bench: DockerBench, backend: DockerBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to see files of others")
        script = f"mkdir -p {SHARED}/model/deep && touch {SHARED}/model/deep/file && ln -s /etc/passwd {SHARED}/link"
        await run(backend, bench.workload(entrypoint=("/bin/sh", "-c", script)))
        assert await backend.reclaim(ImageRef(BUSYBOX), [bench.shared], owner=(1234, 5678)) == ""
        for path in (bench.shared, bench.shared / "model/deep/file", bench.shared / "link"):
            status = path.lstat()
            assert (status.st_uid, status.st_gid) == (1234, 5678)
        assert Path("/etc/passwd").stat().st_uid == 0

    async def test_it_says_why_it_could_not_be_done(self, bench: DockerBench, backend: DockerBackend) -> None:
        problem = await backend.reclaim(bench.missing_image(), [bench.shared], owner=(1234, 5678))
        assert "could not run chown" in problem

    async def test_it_is_nothing_to_do_for_root(self, bench: DockerBench, backend: DockerBackend) -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root")
        assert await backend.reclaim(bench.missing_image(), [bench.shared]) == ""
