"""Programs that cannot be started say why, in words that name the mend; those that can, start as in a container."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.workload import ImageRef, Mount, Workload
from suites.backend_bench import Exit, Mark, OnTerm, WaitFor, exited, marked
from suites.backend_log_suite import lines_of
from support.process_bench import ProcessBench

pytestmark = pytest.mark.process


@pytest.fixture
async def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
    bench = ProcessBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
    yield bench
    await bench.aclose()


def write(bench: ProcessBench, name: str, content: bytes, mode: int = 0o755) -> None:
    path = bench.folder / "image" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    path.chmod(mode)


def started_by(bench: ProcessBench, *entrypoint: str) -> Workload:
    image = bench.folder_image(bench.folder / "image", *entrypoint)
    return replace(bench.workload(), image=image, entrypoint=None, arguments=("train",))


async def outcome(bench: ProcessBench, work: Workload) -> Observation:
    backend = await bench.connect()
    await backend.submit(work)
    return await exited(backend, work.id)


SCRIPT = b'#!/bin/sh\necho "$0" "$@"\n'


@pytest.mark.parametrize(
    ("entrypoint", "printed"),
    [
        (("./run.sh",), b"./run.sh train"),
        (("run.sh",), b"./run.sh train"),
        (("bin/deep.sh",), b"bin/deep.sh train"),
        (("/opt/program/run.sh", "--fast"), b"/opt/program/run.sh --fast train"),
        (("/bin/sh", "run.sh"), b"run.sh train"),
        (("sh", "run.sh"), b"run.sh train"),
        (("python", "run.py"), b"run.py train"),
        (("python3", "-m", "run"), b"/opt/program/run.py train"),
    ],
)
async def test_a_program_is_found_in_the_folder_then_along_the_path(
    bench: ProcessBench, entrypoint: tuple[str, ...], printed: bytes
) -> None:
    write(bench, "run.sh", SCRIPT)
    write(bench, "bin/deep.sh", SCRIPT)
    write(bench, "run.py", b"import sys\nprint(*sys.argv)\n")
    write(bench, "python", SCRIPT)  # a file of this name does not stand in for the interpreter
    backend = await bench.connect()
    work = started_by(bench, *entrypoint)
    await backend.submit(work)
    assert (await exited(backend, work.id)).exit_code == 0
    assert await lines_of(backend, work.id) == [printed]


@pytest.mark.parametrize(
    ("name", "content", "mode", "words"),
    [
        ("run.sh", b"#!/bin/sh\r\necho hello\r\n", 0o755, ("CRLF", "sed", "126")),
        ("run.sh", b"#!/usr/bin/env python3\r\nprint(1)\r\n", 0o755, ("CRLF", "126")),
        ("run.sh", SCRIPT, 0o644, ("not executable", "chmod +x ./run.sh", "126")),
        ("run.sh", b"#!/no/such/interpreter\n", 0o755, ("/no/such/interpreter", "126")),
        ("run.sh", b"echo no first line\n", 0o755, ("#!", "126")),
        ("run.sh", b"\x7fELF\x02\x01\x01" + b"\0" * 57, 0o755, ("processor", "126")),
        ("run.sh", b"", 0o755, ("#!", "126")),
        ("run.sh/inside", b"", 0o755, ("folder", "126")),
        ("other", b"", 0o755, ("was not found", "/opt/program/run.sh", "127")),
    ],
)
async def test_what_cannot_be_started_says_why(
    bench: ProcessBench, name: str, content: bytes, mode: int, words: tuple[str, ...]
) -> None:
    write(bench, name, content, mode)
    seen = await outcome(bench, started_by(bench, "./run.sh"))
    assert (seen.phase, seen.cause, seen.exit_code) == (Phase.EXITED, ExitCause.START, None)
    assert seen.started_at is None
    for word in (*words, "run.sh"):
        assert word in seen.message


async def test_a_word_that_is_nowhere_names_every_place_looked_at(bench: ProcessBench) -> None:
    seen = await outcome(bench, started_by(bench, "no-such-word"))
    for place in ("/opt/program/no-such-word", "/opt/environment/bin", "/usr/bin"):
        assert place in seen.message


@pytest.mark.parametrize("entrypoint", [(), ("",)])
async def test_an_image_without_a_program_says_so(bench: ProcessBench, entrypoint: tuple[str, ...]) -> None:
    seen = await outcome(bench, replace(started_by(bench, *entrypoint), arguments=None))
    assert seen.cause is ExitCause.START
    assert "entrypoint" in seen.message


async def test_arguments_with_a_null_byte_are_an_observation(bench: ProcessBench) -> None:
    seen = await outcome(bench, replace(bench.workload(), arguments=("a\0b",)))
    assert (seen.cause, "null byte" in seen.message) == (ExitCause.START, True)


async def test_arguments_too_long_for_the_kernel_are_an_observation(bench: ProcessBench) -> None:
    seen = await outcome(bench, replace(bench.workload(), arguments=("x" * (4 << 20),)))
    assert (seen.cause, "too long" in seen.message) == (ExitCause.START, True)


async def test_a_mount_that_is_not_there_is_named(bench: ProcessBench) -> None:
    missing = bench.folder / "missing-channel"
    seen = await outcome(bench, bench.workload(Exit(0), mounts=(Mount(missing, "/opt/ml/input/data/x"),)))
    assert seen.cause is ExitCause.START
    assert str(missing) in seen.message
    assert "/opt/ml/input/data/x" in seen.message


@pytest.mark.parametrize("target", ["/", "relative", "/opt/../etc"])
async def test_a_mount_target_that_makes_no_sense_is_refused(bench: ProcessBench, target: str) -> None:
    seen = await outcome(bench, bench.workload(Exit(0), mounts=(Mount(bench.shared, target),)))
    assert seen.cause is ExitCause.START
    assert target in seen.message


async def test_an_ordinary_image_cannot_run_here_and_the_message_says_what_can(bench: ProcessBench) -> None:
    seen = await outcome(bench, bench.workload(image=ImageRef("my/image:1")))
    assert (seen.cause, seen.exit_code) == (ExitCause.IMAGE, None)
    for word in ("my/image:1", "folder image", "Docker"):
        assert word in seen.message


async def test_a_stop_before_the_start_means_that_it_never_starts(bench: ProcessBench) -> None:
    """The runner is held at the lock of its environment, then asked to stop."""
    backend = await bench.connect()
    work = bench.workload(Mark("ran"), image=bench.folder_image(bench.folder / "image", requirements="never-built"))
    from sagewright.backends.process import environments

    key = environments.key("never-built", environments.base_python())
    held = bench.environments / f"{key}.lock"
    bench.environments.mkdir(exist_ok=True)
    import fcntl

    with held.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        await backend.submit(work)
        seen = (await backend.observe([work.id]))[work.id]
        assert seen.phase is Phase.PREPARING
        await backend.stop(work.id)
        seen = await exited(backend, work.id)
    assert (seen.exit_code, seen.cause, seen.started_at) == (None, ExitCause.EXIT, None)
    assert "Stopped before" in seen.message
    assert bench.marks("ran") == 0


async def test_an_image_removed_between_submit_and_start_is_an_observation(bench: ProcessBench) -> None:
    backend = await bench.connect()
    shutil.rmtree(bench.folder / "image")
    work = started_by(bench, "./run.sh")
    await backend.submit(work)
    assert (await exited(backend, work.id)).cause is ExitCause.IMAGE


async def test_a_root_that_is_a_file_is_a_problem_told_not_raised(tmp_path: Path) -> None:
    (tmp_path / "shared-parent").mkdir()
    bench = ProcessBench(tmp_path / "shared-parent", tmp_path / "environments")
    bench.root.write_text("in the way")
    backend = await bench.connect()
    described = await backend.describe()
    assert not described.available
    assert str(bench.root) in described.problem
    with pytest.raises(BackendUnavailable):
        await backend.submit(bench.workload(Exit(0)))
    with pytest.raises(BackendUnavailable):
        await backend.observe()


async def test_a_name_with_odd_characters_in_the_data_path_changes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "with space, comma:colon\\ and ünïcode"
    folder.mkdir()
    bench = ProcessBench(folder, folder / "environments")
    try:
        backend = await bench.connect()
        work = bench.workload(OnTerm("stopped", 4), Mark("up"), WaitFor("never"))
        await backend.submit(work)
        await marked(bench, "up")
        await backend.stop(work.id)
        assert (await exited(backend, work.id)).exit_code == 4
    finally:
        await bench.aclose()
    assert [path for path in bench.root.iterdir() if not path.name.startswith(".")] == []
