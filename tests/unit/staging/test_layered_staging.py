"""Channels staged as links beside the root, to be mounted over it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.staging import disk
from sagewright.workloads import layers
from sagewright.workloads.transfer import StageInputs, TransferPhase

if TYPE_CHECKING:
    from conftest import Bench


def layered(bench: Bench, *channels: tuple[str, str]) -> StageInputs:
    return replace(bench.inputs(*channels), layered=True)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def used(folder: Path) -> int:
    """Bytes of files that have no other name."""
    found = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return sum(each.st_size for each in found if each.st_nlink == 1)


async def test_files_are_names_of_the_stored_objects_and_cost_nothing(bench: Bench) -> None:
    for number in range(200):
        bench.objects.put("b", f"data/{number % 3}/{number}", str(number).encode() * 1000)
    transfer = layered(bench, ("train", "s3://b/data"), ("other", "s3://b/data/1/"))
    staged = await bench.ended(transfer)
    assert staged.phase is TransferPhase.DONE
    links = layers.links(bench.root, "train")
    stored = {each.stat().st_ino for each in (bench.objects._folder).iterdir()}
    assert {path.stat().st_ino for path in links.rglob("*") if path.is_file()} == stored
    assert (links / "2/5").read_bytes() == b"5" * 1000
    assert names(layers.links(bench.root, "other")) == names(links / "1")
    assert names(bench.root / "input/data/train") == []
    assert [(names(layers.changes(bench.root, "train"))), used(links)] == [["upper", "work"], 0]


async def test_an_object_that_is_deleted_stays_readable_and_a_forgotten_job_frees_it(bench: Bench) -> None:
    bench.objects.put("b", "k", b"kept")
    transfer = layered(bench, ("train", "s3://b/k"))
    await bench.ended(transfer)
    bench.objects.delete("b", "k")
    assert (layers.links(bench.root, "train") / "k").read_bytes() == b"kept"
    bench.transfers.forget([transfer.id], bench.own)
    await bench.trash_is_empty()
    assert not bench.own.exists()


@pytest.mark.parametrize("reason", [errno.EXDEV, errno.EMLINK, errno.EPERM])
async def test_where_there_can_be_no_link_there_is_a_copy(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(reason, os.strerror(reason))

    bench.objects.put("b", "k", b"kept")
    monkeypatch.setattr(os, "link", refuse)
    staged = await bench.ended(layered(bench, ("train", "s3://b/k")))
    assert (staged.bytes_moved, used(layers.links(bench.root, "train"))) == (4, 4)


async def test_an_attempt_that_was_cut_off_leaves_nothing_to_the_next(bench: Bench) -> None:
    bench.objects.put("b", "data/a", b"1")
    for folder in (layers.links(bench.root, "train"), layers.changes(bench.root, "train") / "upper"):
        folder.mkdir(parents=True)
        (folder / "old").write_bytes(b"of a cut off attempt")
    await bench.ended(layered(bench, ("train", "s3://b/data/")))
    assert names(layers.links(bench.root, "train")) == ["a"]
    assert names(layers.changes(bench.root, "train") / "upper") == []


def test_the_folder_that_an_overlay_leaves_can_be_removed(tmp_path: Path) -> None:
    """Mode 0000, of another user, and empty: nobody may open it, but the owner of what it is in may remove it."""

    def as_somebody(work: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)

    if os.geteuid() != 0:
        pytest.skip("needs root, to make a folder of another user")
    place = Path("/tmp") / f"sagewright-test-{os.getpid()}"
    (place / "work" / "work").mkdir(parents=True)
    for folder in (place, place / "work"):
        os.chown(folder, 65534, 65534)
    (place / "work" / "work").chmod(0)
    try:
        assert as_somebody(lambda: disk.remove_tree(place / "work")) == 0
        assert names(place) == []
    finally:
        disk.remove_tree(place)
