"""Environments that nothing needs: found, removed, and never from under a workload."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sagewright.backends.process import environments, unused
from sagewright.backends.process.backend import ProcessBackend
from sagewright.workloads.workload import FolderImage, Workload
from suites.backend_bench import exited
from support.process_bench import ProcessBench

PLAIN = environments.key("", environments.base_python())
OTHER = "0123456789abcdef0123456789abcdef"
OLD = 7200.0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ProcessBench]:
    folder = tmp_path / "bench"
    folder.mkdir()
    bench = ProcessBench(folder, tmp_path / "environments")
    yield bench
    await bench.aclose()


def needing_python(bench: ProcessBench) -> Workload:
    image = bench.folder_image(bench.folder / "image", "python", "-c", "print('here')")
    return replace(bench.workload(), image=image, entrypoint=None)


def age(folder: Path) -> Path:
    long_ago = datetime.now(UTC).timestamp() - OLD
    os.utime(folder, (long_ago, long_ago))
    return folder


async def spare(backend: ProcessBackend, images: Collection[FolderImage] = ()) -> list[str]:
    return [each.name for each in await backend.spares(images, hour_ago())]


def hour_ago() -> datetime:
    return datetime.now(UTC) - timedelta(hours=1)


@pytest.mark.process
async def test_what_a_record_or_an_image_needs_is_kept_and_the_rest_goes(bench: ProcessBench) -> None:
    backend = await bench.connect()
    work = needing_python(bench)
    await backend.submit(work)
    assert (await exited(backend, work.id)).exit_code == 0
    for name in (OTHER, f".build-{OTHER}-77", ".cache"):
        (bench.environments / name / "lib").mkdir(parents=True)
        age(bench.environments / name)
    age(bench.environments / PLAIN)
    assert await spare(backend) == [f".build-{OTHER}-77", OTHER], "its record is there until it is removed"
    assert await spare(await bench.connect("another")) == [f".build-{OTHER}-77", OTHER], "whoever's record it is"
    await backend.remove(work.id)
    assert work.image.folder is not None
    assert await spare(backend, [work.image.folder]) == [f".build-{OTHER}-77", OTHER]
    found = await backend.spares((), hour_ago())
    assert {each.name for each in found} == {f".build-{OTHER}-77", OTHER, PLAIN}
    assert all(each.folder == bench.environments / each.name for each in found)
    await backend.discard(found, hour_ago())
    left = {each.name for each in bench.environments.iterdir() if not each.name.endswith(".lock")}
    assert left == {".cache"}


@pytest.mark.process
async def test_one_that_was_found_again_meanwhile_stays(bench: ProcessBench) -> None:
    backend = await bench.connect()
    first, second = needing_python(bench), needing_python(bench)
    await backend.submit(first)
    await exited(backend, first.id)
    await backend.remove(first.id)
    age(bench.environments / PLAIN)
    found = await backend.spares((), hour_ago())
    await backend.submit(second)
    assert (await exited(backend, second.id)).exit_code == 0
    await backend.remove(second.id)
    await backend.discard(found, hour_ago())
    assert (bench.environments / PLAIN).is_dir()


@pytest.mark.process
async def test_nothing_is_taken_from_under_workloads_that_begin(bench: ProcessBench) -> None:
    backend = await bench.connect()
    ended = asyncio.Event()
    removed = 0

    def take() -> None:
        nonlocal removed
        folder = bench.environments / PLAIN
        with suppress(OSError):  # not built yet
            before = folder.stat().st_ino
            unused.discard(age(folder), backend._records.environments, hour_ago().timestamp())
            removed += not folder.exists() or folder.stat().st_ino != before

    async def prune() -> None:
        while not ended.is_set():
            await asyncio.to_thread(take)
            await asyncio.sleep(0.001)

    pruning = asyncio.create_task(prune())
    for _ in range(8):
        works = [needing_python(bench) for _ in range(2)]
        for work in works:
            await backend.submit(work)
        for work in works:
            assert (seen := await exited(backend, work.id)).exit_code == 0, seen
        for work in works:
            await backend.remove(work.id)
    ended.set()
    await pruning
    assert removed >= 1
