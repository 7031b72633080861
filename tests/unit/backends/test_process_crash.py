"""The process backend when something dies that nobody asked to die: the controller, the runner, the machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from sagewright.backends.process.records import Records
from sagewright.backends.process.runner import processes
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Phase
from suites.backend_bench import Exit, IgnoreTerm, Mark, OnTerm, Print, WaitFor, exited, look, marked, until
from suites.backend_log_suite import lines_of
from support.process_bench import OURS, ProcessBench

pytestmark = pytest.mark.process


@pytest.fixture
async def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
    folder = tmp_path / "sagewright-data"  # the word is in every path: no command line may show it
    folder.mkdir()
    bench = ProcessBench(folder, tmp_path_factory.getbasetemp() / "sagewright-environments")
    yield bench
    await bench.aclose()


def record_of(bench: ProcessBench, workload: WorkloadId) -> Path:
    return bench.root / workload


def runner_of(bench: ProcessBench, workload: WorkloadId) -> processes.Identity:
    record = Records(bench.root, OURS).find(workload)
    assert record
    runner = record.runner()
    assert runner
    return runner


def program_of(bench: ProcessBench, workload: WorkloadId) -> processes.Identity:
    record = Records(bench.root, OURS).find(workload)
    assert record
    program = record.program()
    assert program
    return program


async def gone(identity: processes.Identity) -> None:
    async def dead() -> bool:
        return not processes.alive(identity)

    await until(dead, f"process {identity.pid} to be gone")


async def kill(identity: processes.Identity) -> None:
    assert processes.send(identity, signal.SIGKILL)
    await gone(identity)


CONTROLLER = """
    import asyncio, os, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[4])
    from sagewright.backends.process.backend import ProcessBackend
    from sagewright.core.ids import WorkloadId
    from sagewright.workloads.workload import FolderImage, ImageRef, Mount, Workload

    async def main(root, environments, shared):
        backend = ProcessBackend(Path(root), Path(environments), "the-test", environ=os.environ)
        image = FolderImage("test", "sha256:0", Path(shared).parent / "image", ())
        script = 'echo up; echo here >> /opt/ml/up; while [ ! -e /opt/ml/gate ]; do sleep 0.02; done; echo bye; exit 7'
        entrypoint = ("/bin/sh", "-c", script)
        mounts = (Mount(Path(shared), "/opt/ml"),)
        await backend.submit(Workload(WorkloadId("survivor"), ImageRef("test", image), entrypoint, None, mounts=mounts))
        print("submitted", flush=True)
        async for line in backend.logs(WorkloadId("survivor")):
            print(line.message.decode(), flush=True)

    asyncio.run(main(*sys.argv[1:4]))
"""


async def test_killing_the_controller_at_once_loses_neither_the_program_nor_its_end(bench: ProcessBench) -> None:
    workload = WorkloadId("survivor")
    arguments = [str(bench.root), str(bench.environments), str(bench.shared), str(Path(__file__).parents[3] / "src")]
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CONTROLLER), *arguments], stdout=subprocess.PIPE, start_new_session=True
    ) as controller:
        assert controller.stdout
        assert controller.stdout.readline() == b"submitted\n"
        assert controller.stdout.readline() == b"up\n"
        os.killpg(controller.pid, signal.SIGKILL)
    backend = await bench.connect()
    assert (await look(backend, workload)).phase is Phase.RUNNING
    bench.open_gate("gate")
    assert (await exited(backend, workload)).exit_code == 7
    assert await lines_of(backend, workload) == [b"up", b"bye"]


async def test_no_command_line_names_us_or_our_folders(bench: ProcessBench) -> None:
    """So that `pkill -9 -f sagewright` ends Sagewright, and no job."""
    backend = await bench.connect()
    (bench.folder / "image" / "program").write_text(
        "#!/usr/bin/env python3\nimport time\nprint('up', flush=True)\ntime.sleep(600)\n"
    )
    (bench.folder / "image" / "program").chmod(0o755)
    works = [
        bench.workload(image=bench.folder_image(bench.folder / "image"), entrypoint=entrypoint)
        for entrypoint in (("./program",), ("program",), ("python", "program"))
    ]
    for work in works:
        await backend.submit(work)
        assert (await anext(aiter(backend.logs(work.id)))).message == b"up"
        for identity in (runner_of(bench, work.id), program_of(bench, work.id)):
            assert b"sagewright" not in Path(f"/proc/{identity.pid}/cmdline").read_bytes()


async def test_a_program_outlives_its_killed_runner_and_is_then_lost_with_a_reason(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(Mark("up"), WaitFor("gate"), Print(b"bye\n"), Exit(7))
    await backend.submit(work)
    await marked(bench, "up")
    await kill(runner_of(bench, work.id))
    seen = await look(backend, work.id)
    assert (seen.phase, seen.exit_code) == (Phase.RUNNING, None)
    assert seen.started_at is not None
    bench.open_gate("gate")
    seen = await exited(backend, work.id)
    assert (seen.exit_code, seen.cause) == (None, ExitCause.LOST)
    assert "killed" in seen.message
    assert seen.ended_at is not None
    assert await lines_of(backend, work.id) == [b"bye"]
    assert await look(backend, work.id) == seen, "the observation of what ended does not change"


@pytest.mark.parametrize("step", [IgnoreTerm(), OnTerm("stopped")])
async def test_stop_works_although_the_runner_was_killed(bench: ProcessBench, step: IgnoreTerm | OnTerm) -> None:
    backend = await bench.connect()
    work = bench.workload(step, Mark("up"), WaitFor("never"), stop_grace=timedelta(seconds=1))
    await backend.submit(work)
    await marked(bench, "up")
    await kill(runner_of(bench, work.id))
    asked = time.monotonic()
    await backend.stop(work.id)
    await backend.stop(work.id)
    assert (await exited(backend, work.id)).cause is ExitCause.LOST
    if isinstance(step, IgnoreTerm):
        assert time.monotonic() - asked > 0.9
    else:
        assert await lines_of(backend, work.id) == [b"stopped"]


async def test_stop_after_both_the_runner_and_we_were_killed_keeps_to_the_first_grace(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(IgnoreTerm(), Mark("up"), WaitFor("never"), stop_grace=timedelta(seconds=30))
    await backend.submit(work)
    await marked(bench, "up")
    await kill(runner_of(bench, work.id))
    await backend.stop(work.id)
    await backend.aclose()
    asked = time.time() - 60  # as if a minute ago
    os.utime(record_of(bench, work.id) / "stop", (asked, asked))
    reborn = await bench.connect()
    await reborn.stop(work.id)
    assert (await exited(reborn, work.id)).cause is ExitCause.LOST


async def test_remove_ends_a_program_whose_runner_was_killed(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(IgnoreTerm(), Mark("up"), WaitFor("never"))
    await backend.submit(work)
    await marked(bench, "up")
    program = program_of(bench, work.id)
    await kill(runner_of(bench, work.id))
    await backend.remove(work.id)
    assert not processes.alive(program)
    assert await backend.observe() == {}


async def test_a_request_is_carried_out_although_its_signal_was_never_sent(bench: ProcessBench) -> None:
    """Killed between writing `stop` and signalling: the runner looks from time to time."""
    backend = await bench.connect()
    work = bench.workload(OnTerm("stopped", 5), Mark("up"), WaitFor("never"))
    await backend.submit(work)
    await marked(bench, "up")
    (record_of(bench, work.id) / "stop").touch()
    assert (await exited(backend, work.id)).exit_code == 5


async def test_a_restart_of_the_machine_is_a_loss(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(Mark("up"), WaitFor("gate"))
    await backend.submit(work)
    await marked(bench, "up")
    record = record_of(bench, work.id)
    originals = {name: (record / name).read_text() for name in ("runner", "pid")}
    for name, text in originals.items():
        (record / name).write_text(text.replace(processes.boot_id(), "another-boot"))
    seen = await look(backend, work.id)
    assert (seen.phase, seen.cause, seen.exit_code) == (Phase.EXITED, ExitCause.LOST, None)
    assert "restarted" in seen.message
    for name, text in originals.items():
        (record / name).write_text(text)


async def test_a_process_that_got_the_same_id_is_neither_mistaken_for_ours_nor_touched(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = bench.workload(Mark("up"), WaitFor("gate"), stop_grace=timedelta(0))
    await backend.submit(work)
    await marked(bench, "up")
    record = record_of(bench, work.id)
    real = program_of(bench, work.id)
    await kill(runner_of(bench, work.id))
    with subprocess.Popen(["/bin/sleep", "600"]) as stranger:
        there = processes.identify(stranger.pid)
        assert there
        reused = [there.pid, there.start - 1, there.boot]
        (record / "pid").write_text(json.dumps({"identity": reused, "started_at": time.time()}))
        (record / "runner").write_text(json.dumps(reused))
        assert (await look(backend, work.id)).cause is ExitCause.LOST
        await backend.stop(work.id)
        await backend.remove(work.id)
        assert processes.alive(there)
        stranger.kill()
    assert processes.send(real, signal.SIGKILL)


async def test_a_record_cut_short_by_a_power_failure_is_lost_and_can_be_removed(bench: ProcessBench) -> None:
    backend = await bench.connect()
    folder = bench.root / "cut-short"
    folder.mkdir()
    (folder / "workload.json").write_bytes(b'{"installation": "the-')
    (folder / "exit.json").write_bytes(b"\0" * 4096)
    seen = await look(backend, WorkloadId("cut-short"))
    assert (seen.phase, seen.cause) == (Phase.EXITED, ExitCause.LOST)
    await backend.remove(WorkloadId("cut-short"))
    assert await backend.observe() == {}


async def test_what_a_killed_submit_left_unpublished_is_swept_later_and_never_seen(bench: ProcessBench) -> None:
    await bench.connect()
    old, young = bench.root / ".new" / "old-1", bench.root / ".new" / "young-1"
    for folder in (old, young):
        folder.mkdir()
        (folder / "workload.json").write_text("{}")
    hour_ago = time.time() - 3600
    os.utime(old, (hour_ago, hour_ago))
    backend = await bench.connect()
    assert await backend.observe() == {}
    assert (old.exists(), young.exists()) == (False, True)


async def test_a_killed_removal_is_finished_at_the_next_start(bench: ProcessBench) -> None:
    await bench.connect()
    half = bench.root / ".trash" / "half-removed"
    (half / "program").mkdir(parents=True)
    (half / "program").chmod(0o500)
    await bench.connect()
    assert not half.exists()


async def test_many_submits_at_once_survive_a_kill_of_the_controller_in_their_midst(bench: ProcessBench) -> None:
    """Whatever was accepted runs once; what was not is absent, and may be submitted."""
    backend = await bench.connect()
    works = [bench.workload(Mark(f"run-{number}"), WaitFor("gate"), Exit(number)) for number in range(6)]
    pushing = [asyncio.create_task(backend.submit(work)) for work in works]
    await asyncio.wait(pushing, return_when=asyncio.FIRST_COMPLETED)
    for task in pushing:
        task.cancel()
    await asyncio.gather(*pushing, return_exceptions=True)
    reborn = await bench.connect()
    for work in works:
        await reborn.submit(work)
    bench.open_gate("gate")
    for number, work in enumerate(works):
        assert (await exited(reborn, work.id)).exit_code == number
        assert bench.marks(f"run-{number}") == 1


async def test_a_runner_that_cannot_start_is_unavailable_not_a_failed_workload(bench: ProcessBench) -> None:
    backend = await bench.connect()
    for script in (bench.root / ".runner").glob("*/run.py"):
        script.write_text("raise SystemExit('no luck')\n")
    with pytest.raises(BackendUnavailable, match="no luck"):
        await backend.submit(bench.workload(Exit(0)))
    assert await backend.observe() == {}
    assert list((bench.root / ".new").iterdir()) == []
