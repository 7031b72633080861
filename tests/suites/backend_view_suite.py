"""What is seen from outside, and what a program sees around it: the parts of the backend contract that only look."""

from __future__ import annotations

import asyncio

import pytest

from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.observation import Phase
from sagewright.workloads.workload import Mount
from suites.backend_bench import (
    Bench,
    Exit,
    Mark,
    OnTerm,
    PrintArguments,
    PrintEnvironment,
    WaitFor,
    exited,
    look,
    marked,
)
from suites.backend_log_suite import lines_of

UNKNOWN = WorkloadId("sagewright-test-never-submitted")


class BackendViewSuite:
    async def test_observing_all_gives_what_other_objects_of_this_installation_started(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        running, ended = bench.workload(WaitFor("gate")), bench.workload(Exit(1))
        await backend.submit(running)
        await backend.submit(ended)
        other = await bench.connect()
        await exited(other, ended.id)
        assert set(await other.observe()) == {running.id, ended.id}
        assert await other.observe() == await other.observe([running.id, ended.id])

    async def test_another_installation_neither_sees_nor_touches_ours(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(OnTerm("stopped"), Mark("up"), WaitFor("gate"))
        await backend.submit(work)
        await marked(bench, "up")
        stranger = await bench.connect(installation="another")
        assert await stranger.observe() == {}
        assert await stranger.observe([work.id]) == {}
        await stranger.stop(work.id)
        await stranger.remove(work.id)
        assert await lines_of(stranger, work.id) == []
        assert (await look(backend, work.id)).phase is Phase.RUNNING
        bench.open_gate("gate")
        assert (await exited(backend, work.id)).exit_code == 0
        assert await lines_of(backend, work.id) == []

    async def test_an_unknown_id_is_absent(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(WaitFor("gate"))
        await backend.submit(work)
        assert set(await backend.observe([UNKNOWN, work.id])) == {work.id}
        assert await backend.observe([]) == {}

    async def test_the_backend_describes_itself(self, backend: ComputeBackend) -> None:
        described = await backend.describe()
        assert (described.available, described.problem) == (True, "")
        assert described.cpus >= 1
        assert described.memory > 0

    async def test_hints_are_ids_of_ours_and_may_be_left_at_any_time(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        given: list[WorkloadId] = []

        async def collect() -> None:
            async for hint in backend.hints():
                given.append(hint)

        collecting = asyncio.create_task(collect())
        work = bench.workload(Exit(0))
        await backend.submit(work)
        await exited(backend, work.id)
        collecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await collecting
        assert set(given) <= {work.id}

    async def test_the_environment_arrives_unchanged(self, bench: Bench, backend: ComputeBackend) -> None:
        values = {"PLAIN": "1", "SPACED": " a  b ", "QUOTED": '"it\'s" $HOME `x` \\', "EQUAL": "a=b=", "EMPTY": ""}
        values |= {"UNICODE": "grüße ☃", "MANY": "one\ntwo"}
        work = bench.workload(*(PrintEnvironment(name) for name in values), env=values)
        await backend.submit(work)
        await exited(backend, work.id)
        printed = b"\n".join(await lines_of(backend, work.id))
        assert printed.decode() == "\n".join(f"<{value}>" for value in values.values())

    async def test_arguments_follow_the_entrypoint_unchanged(self, bench: Bench, backend: ComputeBackend) -> None:
        given = ("train", "", "two words", "$HOME", '"quoted"', "-c")
        work = bench.workload(PrintArguments(), arguments=given)
        await backend.submit(work)
        await exited(backend, work.id)
        assert [line.decode() for line in await lines_of(backend, work.id)] == [f"<{argument}>" for argument in given]

    async def test_a_read_only_mount_refuses_writes(self, bench: Bench, backend: ComputeBackend) -> None:
        if not bench.mounts_read_only:
            pytest.skip("mounts cannot be read-only here")
        bench.open_gate("gate")
        mount = Mount(bench.shared, "/opt/ml", read_only=True)
        work = bench.workload(WaitFor("gate"), Mark("written"), mounts=(mount,))
        await backend.submit(work)
        await exited(backend, work.id)
        assert bench.marks("written") == 0
