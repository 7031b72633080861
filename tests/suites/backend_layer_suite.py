"""Layered mounts: whatever a program does to a folder, the folder stays as it is."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.workload import Mount
from suites.backend_bench import SHARED, Bench, Step, exited
from suites.backend_log_suite import lines_of

CHANNEL = f"{SHARED}/input/data/train"


@dataclass(frozen=True)
class Run(Step):
    """Any line of shell."""

    line: str

    def shell(self) -> str:
        return self.line


def layered(bench: Bench, name: str = "train") -> Mount:
    """A folder of hard links, as inputs are staged, and a place for changes."""
    stored, links, changes = bench.folder / f"{name}.stored", bench.folder / name, bench.folder / f"{name}.changes"
    for folder in (stored, links / "deep" / "er", changes / "upper", changes / "work"):
        folder.mkdir(parents=True)
    links.chmod(0o777)
    for path in ("grown", "cut", "closed", "gone", "deep/moved", "deep/er/kept"):
        file = stored / path.replace("/", "-")
        file.write_text(f"{path}\n")
        os.link(file, links / path)
    (bench.shared / "input" / "data" / name).mkdir(parents=True)
    return Mount(links, f"{SHARED}/input/data/{name}", changes=changes)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        str(path.relative_to(folder)): (path.read_text(), path.stat().st_mode)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class BackendLayerSuite:
    @pytest.fixture
    async def layering(self, backend: ComputeBackend) -> None:
        described = await backend.describe()
        if not described.layers:
            pytest.skip(f"mounts cannot be layered here: {(described.details or {}).get('inputs')}")

    async def test_a_layered_mount_can_be_changed_in_every_way_and_stays_as_it_is(
        self, bench: Bench, backend: ComputeBackend, layering: None
    ) -> None:
        mount = layered(bench)
        before = content(bench.folder / "train.stored"), content(mount.source)
        changes = (
            f"cd {CHANNEL}",
            "echo more >> grown",
            ": > cut",
            "chmod 4777 closed",
            "rm gone",
            "mv deep/moved moved",
            "rm -r deep && mkdir deep && echo new > deep/new",
            "echo mine > own",
            "cat grown cut closed moved deep/new own; find . -type f | sort",
        )
        work = bench.workload(*map(Run, changes))
        await backend.submit(replace(work, mounts=(*work.mounts, mount)))
        assert (await exited(backend, work.id)).exit_code == 0
        told = "grown|more|closed|deep/moved|new|mine|./closed|./cut|./deep/new|./grown|./moved|./own"
        assert [line.decode() for line in await lines_of(backend, work.id)] == told.split("|")
        assert (content(bench.folder / "train.stored"), content(mount.source)) == before
        assert names(bench.shared / "input" / "data" / "train") == []

    async def test_a_stored_file_that_is_removed_meanwhile_can_still_be_read(
        self, bench: Bench, backend: ComputeBackend, layering: None
    ) -> None:
        mount = layered(bench)
        gate = Run(f"while ! test -e {SHARED}/gate; do sleep 0.05; done; cat {CHANNEL}/deep/er/kept")
        work = bench.workload(gate)
        await backend.submit(replace(work, mounts=(*work.mounts, mount)))
        (bench.folder / "train.stored" / "deep-er-kept").unlink()
        bench.open_gate("gate")
        await exited(backend, work.id)
        assert await lines_of(backend, work.id) == [b"deep/er/kept"]

    async def test_several_layered_mounts_keep_to_themselves_and_leave_nothing(
        self, bench: Bench, backend: ComputeBackend, layering: None
    ) -> None:
        mounts = layered(bench), layered(bench, "a,b:c\\d e")
        lines = [f"cd '{mount.target}' && cat grown && echo {number} > own" for number, mount in enumerate(mounts)]
        work = bench.workload(*map(Run, lines))
        await backend.submit(replace(work, mounts=(*work.mounts, *mounts)))
        assert (await exited(backend, work.id)).exit_code == 0
        assert await lines_of(backend, work.id) == [b"grown", b"grown"]
        await backend.remove(work.id)
        assert [((mount.changes or Path()) / "upper" / "own").read_text() for mount in mounts] == ["0\n", "1\n"]
        table = Path("/proc/mounts").read_text()
        assert str(bench.folder) not in table
