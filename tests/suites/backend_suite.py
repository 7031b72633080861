"""The backend contract as tests (see `sagewright.workloads.backend`). Every backend, the fake too, passes all of it.

A binding is a class of ten lines:

    class TestMyBackend(BackendSuite):
        @pytest.fixture
        async def bench(self, tmp_path): ...yield MyBench(tmp_path)..., then await its aclose()
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.observation import ExitCause, Phase
from sagewright.workloads.workload import Mount, Resources
from suites.backend_bench import (
    Allocate,
    Bench,
    Exit,
    IgnoreTerm,
    Mark,
    OnTerm,
    Print,
    PrintArguments,
    PrintEnvironment,
    WaitFor,
    exited,
    look,
    marked,
    reached,
)
from suites.backend_log_suite import BackendLogSuite, lines_of

__all__ = ["BackendSuite", "Bench"]

UNKNOWN = WorkloadId("sagewright-test-never-submitted")


class _Lifecycle:
    async def test_a_program_runs_and_its_exit_code_and_times_are_observed(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        before = datetime.now(UTC) - timedelta(seconds=2)  # the substrate's clock may be coarse
        work = bench.workload(Exit(7))
        await backend.submit(work)
        seen = await exited(backend, work.id)
        assert (seen.exit_code, seen.cause) == (7, ExitCause.EXIT)
        assert seen.started_at is not None
        assert seen.ended_at is not None
        assert before <= seen.started_at <= seen.ended_at <= datetime.now(UTC) + timedelta(seconds=2)

    @pytest.mark.parametrize("code", [0, 1, 126, 127, 137, 143, 255])
    async def test_every_exit_code_of_a_program_that_ran_is_its_own(
        self, bench: Bench, backend: ComputeBackend, code: int
    ) -> None:
        work = bench.workload(Exit(code))
        await backend.submit(work)
        seen = await exited(backend, work.id)
        assert (seen.exit_code, seen.cause) == (code, ExitCause.EXIT)

    async def test_a_running_program_is_seen_running_without_an_end(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("up"), WaitFor("gate"))
        await backend.submit(work)
        await marked(bench, "up")
        seen = await reached(backend, work.id, Phase.RUNNING)
        assert seen.started_at is not None
        assert (seen.ended_at, seen.exit_code) == (None, None)
        bench.open_gate("gate")
        assert (await exited(backend, work.id)).exit_code == 0

    async def test_submitting_twice_runs_once(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(Mark("runs"), WaitFor("gate"))
        await backend.submit(work)
        await backend.submit(work)
        await marked(bench, "runs")
        await backend.submit(work)
        bench.open_gate("gate")
        await exited(backend, work.id)
        assert bench.marks("runs") == 1

    async def test_submitting_at_the_same_time_runs_once(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(Mark("runs"))
        other = await bench.connect()
        await asyncio.gather(*(each.submit(work) for each in (backend, other, backend, other)))
        await exited(backend, work.id)
        assert bench.marks("runs") == 1

    async def test_submitting_an_exited_workload_does_not_run_it_again(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("runs"), Exit(3))
        await backend.submit(work)
        first = await exited(backend, work.id)
        await backend.submit(work)
        assert await look(backend, work.id) == first
        assert bench.marks("runs") == 1

    async def test_submitting_again_after_a_restart_of_ours_runs_once(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("runs"), WaitFor("gate"))
        await backend.submit(work)
        await bench.crash(backend)
        reborn = await bench.connect()
        await reborn.submit(work)
        await marked(bench, "runs")
        bench.open_gate("gate")
        await exited(reborn, work.id)
        assert bench.marks("runs") == 1

    async def test_a_program_goes_on_through_a_restart_of_ours_and_its_end_is_seen(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("up"), WaitFor("gate"), Exit(5))
        await backend.submit(work)
        await marked(bench, "up")
        await bench.crash(backend)
        reborn = await bench.connect()
        assert (await look(reborn, work.id)).phase is Phase.RUNNING
        bench.open_gate("gate")
        assert (await exited(reborn, work.id)).exit_code == 5

    async def test_an_end_that_nobody_watched_is_observed_later(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(Mark("up"), WaitFor("gate"), Print(b"bye\n"), Mark("ending"), Exit(9))
        await backend.submit(work)
        await marked(bench, "up")
        await bench.crash(backend)
        bench.open_gate("gate")
        await marked(bench, "ending")
        reborn = await bench.connect()
        assert (await exited(reborn, work.id)).exit_code == 9
        assert await lines_of(reborn, work.id) == [b"bye"]

    async def test_closing_leaves_programs_alone_and_may_be_repeated(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("up"), WaitFor("gate"))
        await backend.submit(work)
        await marked(bench, "up")
        await backend.aclose()
        await backend.aclose()
        assert (await look(await bench.connect(), work.id)).phase is Phase.RUNNING

    async def test_many_workloads_each_have_their_own_outcome(self, bench: Bench, backend: ComputeBackend) -> None:
        works = {code: bench.workload(Print(b"%d\n" % code), Exit(code)) for code in range(8)}
        await asyncio.gather(*(backend.submit(work) for work in works.values()))
        for code, work in works.items():
            assert (await exited(backend, work.id)).exit_code == code
            assert await lines_of(backend, work.id) == [b"%d" % code]


class _Failures:
    async def test_an_image_that_is_not_there_is_an_observation_that_names_it(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        image = bench.missing_image()
        work = bench.workload(image=image)
        await backend.submit(work)
        seen = await exited(backend, work.id)
        assert (seen.exit_code, seen.cause) == (None, ExitCause.IMAGE)
        assert image.name in seen.message
        assert await lines_of(backend, work.id) == []

    @pytest.mark.parametrize("program", ["/no/such/program", "no-such-program", "/etc/passwd"])
    async def test_a_program_that_cannot_be_started_is_an_observation_that_names_it(
        self, bench: Bench, backend: ComputeBackend, program: str
    ) -> None:
        work = bench.workload(entrypoint=(program,), arguments=("train",))
        await backend.submit(work)
        seen = await exited(backend, work.id)
        assert (seen.exit_code, seen.cause) == (None, ExitCause.START)
        assert program in seen.message
        assert await lines_of(backend, work.id) == []

    async def test_a_failed_start_is_still_known_after_a_restart_of_ours(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        if not bench.keeps_start_failures:
            pytest.skip("this backend has a failed start in memory only, and submits again with the same outcome")
        work = bench.workload(entrypoint=("/no/such/program",))
        await backend.submit(work)
        first = await exited(backend, work.id)
        await bench.crash(backend)
        reborn = await bench.connect()
        assert await look(reborn, work.id) == first
        await reborn.submit(work)
        assert await look(reborn, work.id) == first

    async def test_failed_workloads_can_be_stopped_and_removed(self, bench: Bench, backend: ComputeBackend) -> None:
        works = [bench.workload(image=bench.missing_image()), bench.workload(entrypoint=("/no/such/program",))]
        for work in works:
            await backend.submit(work)
            await exited(backend, work.id)
            await backend.stop(work.id)
            assert (await look(backend, work.id)).phase is Phase.EXITED
            await backend.remove(work.id)
        assert await backend.observe([work.id for work in works]) == {}

    async def test_a_program_over_its_memory_limit_is_out_of_memory(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        if not bench.limits_memory:
            pytest.skip("memory cannot be limited here")
        work = bench.workload(Print(b"before\n"), Allocate(), resources=Resources(memory=32 * 1024 * 1024))
        await backend.submit(work)
        seen = await exited(backend, work.id)
        assert (seen.exit_code, seen.cause) == (137, ExitCause.OUT_OF_MEMORY)
        assert await lines_of(backend, work.id) == [b"before"]

    async def test_an_outage_is_unavailable_for_every_verb_and_then_over(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("up"), WaitFor("gate"))
        await backend.submit(work)
        await marked(bench, "up")
        outage = bench.outage()
        if outage is None:
            pytest.skip("this substrate is always there")
        async with outage:
            for call in (backend.submit(work), backend.observe(), backend.observe([work.id])):
                with pytest.raises(BackendUnavailable):
                    await call
            for call in (backend.stop(work.id), backend.remove(work.id)):
                with pytest.raises(BackendUnavailable):
                    await call
            described = await backend.describe()
            assert not described.available
            assert described.problem
        assert (await backend.describe()).available
        assert (await look(backend, work.id)).phase is Phase.RUNNING
        bench.open_gate("gate")
        assert (await exited(backend, work.id)).exit_code == 0


class _Observing:
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


class _StopAndRemove:
    async def test_stop_lets_a_program_end_by_itself(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(OnTerm("cleaning up", 3), Mark("up"), WaitFor("never"))
        await backend.submit(work)
        await marked(bench, "up")
        await backend.stop(work.id)
        assert (await exited(backend, work.id)).exit_code == 3
        assert await lines_of(backend, work.id) == [b"cleaning up"]

    async def test_stop_kills_after_the_grace_and_not_before_however_often_repeated(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        grace = timedelta(seconds=2)
        work = bench.workload(IgnoreTerm(), Mark("up"), WaitFor("never"), stop_grace=grace)
        await backend.submit(work)
        await marked(bench, "up")
        asked = datetime.now(UTC)
        for _ in range(3):
            await backend.stop(work.id)
        assert (await look(backend, work.id)).phase is Phase.RUNNING
        seen = await exited(backend, work.id)
        assert (seen.exit_code, seen.cause) == (137, ExitCause.EXIT)
        assert seen.ended_at is not None
        assert seen.ended_at - asked >= grace - timedelta(milliseconds=20)  # clocks of two processes

    async def test_stop_after_a_restart_of_ours_still_ends_in_a_kill(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(IgnoreTerm(), Mark("up"), WaitFor("never"), stop_grace=timedelta(seconds=1))
        await backend.submit(work)
        await marked(bench, "up")
        await backend.stop(work.id)
        await bench.crash(backend)
        reborn = await bench.connect()
        await reborn.stop(work.id)
        assert (await exited(reborn, work.id)).exit_code == 137

    async def test_stop_does_not_change_or_revive_what_has_exited(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(Mark("runs"), Exit(4))
        await backend.submit(work)
        first = await exited(backend, work.id)
        await backend.stop(work.id)
        await backend.stop(work.id)
        assert await look(backend, work.id) == first
        assert bench.marks("runs") == 1

    async def test_stopping_and_removing_the_unknown_is_success(self, backend: ComputeBackend) -> None:
        await backend.stop(UNKNOWN)
        await backend.remove(UNKNOWN)

    async def test_remove_kills_and_forgets(self, bench: Bench, backend: ComputeBackend) -> None:
        work = bench.workload(IgnoreTerm(), Print(b"up\n"), Mark("up"), WaitFor("never"))
        await backend.submit(work)
        await marked(bench, "up")
        await asyncio.gather(backend.remove(work.id), backend.remove(work.id))
        assert await backend.observe([work.id]) == {}
        assert await backend.observe() == {}
        assert await lines_of(backend, work.id) == []
        await backend.remove(work.id)

    async def test_an_exited_workload_stays_observable_until_it_is_removed_and_may_then_run_anew(
        self, bench: Bench, backend: ComputeBackend
    ) -> None:
        work = bench.workload(Mark("runs"), Print(b"once\n"))
        await backend.submit(work)
        await exited(backend, work.id)
        await backend.remove(work.id)
        assert await backend.observe() == {}
        await backend.submit(work)
        await exited(backend, work.id)
        assert bench.marks("runs") == 2
        assert await lines_of(backend, work.id) == [b"once"]


class _Surroundings:
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


class BackendSuite(_Lifecycle, _Failures, _Observing, _StopAndRemove, _Surroundings, BackendLogSuite):
    """Derive, and give a `bench` fixture."""

    @pytest.fixture
    async def backend(self, bench: Bench) -> ComputeBackend:
        return await bench.connect()
