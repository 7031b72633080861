"""Folders that are kept the same in S3: single passes, and mirrors that go on by themselves."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.core.errors import StoreUnavailable, TransferError
from sagewright.core.ids import Account, Region, TransferId
from sagewright.staging import mirror as passes
from sagewright.staging.meter import Meter
from sagewright.staging.mirror import FolderMirror
from sagewright.workloads.transfer import CollectOutputs, Mirror, MirrorFolders, StageInputs, TransferPhase

if TYPE_CHECKING:
    from conftest import Bench

CHECKPOINTS = Mirror("checkpoints", "s3://b/ckpt", restore=True)
ID = TransferId("job-1.mirror")


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that two passes on end see alike is still."""
    monkeypatch.setattr(passes, "STILL", 0.0)


def inputs(bench: Bench, *mirrors: Mirror) -> StageInputs:
    made = bench.inputs()
    return replace(made, mirrors=mirrors, folders=(*made.folders, *(each.folder for each in mirrors)))


async def staged(bench: Bench, *mirrors: Mirror) -> Path:
    state = await bench.ended(inputs(bench, *(mirrors or (CHECKPOINTS,))))
    assert state.phase is TransferPhase.DONE, state.message
    return bench.root / "checkpoints"


def folder(bench: Bench, mirror: Mirror = CHECKPOINTS) -> FolderMirror:
    """As a process sees it that has just come up."""
    return FolderMirror(bench.root, 0, mirror, bench.objects)


def objects(bench: Bench, prefix: str = "ckpt/") -> dict[str, bytes]:
    return {key.removeprefix(prefix): bench.objects.read("b", key) for key in bench.objects.keys("b")}


async def test_what_is_there_is_restored_for_anybody_to_change(bench: Bench) -> None:
    bench.objects.put("b", "ckpt/epoch/1.pt", b"one")
    bench.objects.put("b", "ckpt-other/2.pt", b"not of this prefix")
    home = await staged(bench)
    assert {str(path.relative_to(home)) for path in home.rglob("*")} == {"epoch", "epoch/1.pt"}
    assert [oct((home / name).stat().st_mode & 0o777) for name in ("epoch", "epoch/1.pt")] == ["0o777", "0o666"]
    (home / "epoch/1.pt").write_bytes(b"changed")
    assert bench.objects.read("b", "ckpt/epoch/1.pt") == b"one"


async def test_nothing_to_restore_is_an_empty_folder_and_no_bucket_fails(bench: Bench) -> None:
    assert list((await staged(bench)).iterdir()) == []
    state = await bench.ended(replace(inputs(bench, replace(CHECKPOINTS, s3_uri="s3://c/x")), id=TransferId("other")))
    assert (state.phase, "bucket c" in state.message) == (TransferPhase.FAILED, True)


async def test_only_what_has_changed_is_written_and_what_is_gone_is_deleted(bench: Bench) -> None:
    for name in ("kept", "changed", "gone"):
        bench.objects.put("b", f"ckpt/{name}", name.encode())
    home = await staged(bench)
    bench.objects.put("b", "ckpt/of-others", b"put there by somebody else")
    kept = bench.objects.buckets["b"]["ckpt/kept"]
    (home / "changed").write_bytes(b"changed, twice as long")
    (home / "gone").unlink()
    (home / "deep").mkdir()
    (home / "deep/new").write_bytes(b"new")
    seen = folder(bench)
    seen.look(Meter())
    seen.look(Meter())
    assert objects(bench) == {
        "kept": b"kept",
        "changed": b"changed, twice as long",
        "deep/new": b"new",
        "of-others": b"put there by somebody else",
    }
    assert bench.objects.buckets["b"]["ckpt/kept"] is kept


async def test_a_file_is_published_only_once_it_is_still(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    home = await staged(bench)
    seen = folder(bench)
    with open(home / "model", "wb", buffering=0) as file:
        for piece in (b"a", b"b", b"c"):
            file.write(piece)
            seen.look(Meter())
            assert objects(bench) == {}
    monkeypatch.setattr(passes, "STILL", 3600.0)
    seen.look(Meter())
    assert objects(bench) == {}, "two passes alike are not enough by themselves"
    monkeypatch.setattr(passes, "STILL", 0.0)
    seen.look(Meter())
    assert objects(bench) == {"model": b"abc"}


async def test_a_file_that_changes_while_it_is_read_is_not_published(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = await staged(bench)
    (home / "model").write_bytes(b"one" * 1000)
    seen = folder(bench)
    seen.look(Meter())
    original, written = bench.objects.put_stream, []

    def changing(bucket: str, key: str, content_type: str) -> object:
        written.append(key)
        os.utime(home / "model", ns=(0, len(written)))
        return original(bucket, key, content_type)

    monkeypatch.setattr(bench.objects, "put_stream", changing)
    seen.look(Meter())
    assert (written, objects(bench), bench.objects.leftovers()) == (["ckpt/model"], {}, 0)


async def test_a_growing_file_is_published_in_time_although_it_is_never_still(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = Mirror("checkpoints", "s3://b/board", growing=True)
    home = await staged(bench, board)
    monkeypatch.setattr(passes, "STILL", 3600.0)
    seen = folder(bench, board)
    (home / "events").write_bytes(b"1")
    seen.look(Meter())
    assert bench.objects.keys("b") == []
    monkeypatch.setattr(passes, "OVERDUE", 0.0)
    (home / "events").write_bytes(b"12")
    seen.look(Meter())
    assert objects(bench, "board/") == {"events": b"12"}


async def test_a_restart_publishes_what_has_changed_since_and_knows_what_is_gone(bench: Bench) -> None:
    home = await staged(bench)
    for name in ("a", "b", "c"):
        (home / name).write_bytes(name.encode())
    folder(bench).look(Meter(), last=True)
    before = bench.objects.buckets["b"]["ckpt/a"]
    (home / "b").write_bytes(b"changed while nobody looked")
    (home / "c").unlink()
    folder(bench).look(Meter(), last=True)
    assert objects(bench) == {"a": b"a", "b": b"changed while nobody looked"}
    assert bench.objects.buckets["b"]["ckpt/a"] is before


async def test_a_record_that_is_torn_deletes_nothing(bench: Bench) -> None:
    bench.objects.put("b", "ckpt/a", b"a")
    home = await staged(bench)
    (bench.own / "mirrors/0.json").write_text('{"a": [1')
    (home / "a").unlink()
    folder(bench).look(Meter(), last=True)
    assert objects(bench) == {"a": b"a"}


async def test_a_root_that_is_not_there_says_nothing_about_its_files(bench: Bench) -> None:
    bench.objects.put("b", "ckpt/a", b"a")
    await staged(bench)
    seen = folder(bench)
    bench.root.rename(bench.own / "away")
    with pytest.raises(FileNotFoundError):
        seen.look(Meter())
    assert objects(bench) == {"a": b"a"}


async def test_a_folder_that_the_program_removed_is_empty(bench: Bench) -> None:
    bench.objects.put("b", "ckpt/a", b"a")
    shutil.rmtree(await staged(bench))
    folder(bench).look(Meter(), last=True)
    assert objects(bench) == {}


async def test_a_file_that_is_removed_to_be_written_again_is_never_gone(bench: Bench) -> None:
    bench.objects.put("b", "ckpt/last", b"one")
    home = await staged(bench)
    seen = folder(bench)
    for content in (b"two", b"three"):
        (home / "last").unlink()
        seen.look(Meter())
        assert set(objects(bench)) == {"last"}
        (home / "last").write_bytes(content)
        seen.look(Meter())
        seen.look(Meter())
        assert objects(bench) == {"last": content}


@pytest.mark.parametrize("place", ["checkpoints", "checkpoints/deep"])
async def test_nothing_outside_the_folder_is_published(bench: Bench, tmp_path: Path, place: str) -> None:
    home = await staged(bench)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (home / "file").write_bytes(b"file")
    os.mkfifo(home / "pipe")
    (home / "last").symlink_to("file")
    (home / "bad").symlink_to(outside / "secret")
    target = bench.root / place
    if place == "checkpoints":
        home.rename(bench.own / "aside")
        target.symlink_to(outside)
        with pytest.raises(TransferError, match="/opt/ml/checkpoints was replaced by something that is not a folder"):
            folder(bench).look(Meter(), last=True)
        assert objects(bench) == {}
        return
    target.symlink_to(outside)
    folder(bench).look(Meter(), last=True)
    assert objects(bench) == {"file": b"file", "last": b"file"}


async def test_odd_names_are_keys_and_impossible_ones_are_left_out(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    home = await staged(bench)
    for name in ("a b", "ä=1&c", "line\nfeed"):
        (home / name).write_bytes(b"x")
    (home / os.fsdecode(b"\xff")).write_bytes(b"x")
    folder(bench).look(Meter(), last=True)
    assert set(objects(bench)) == {"a b", "ä=1&c"}
    assert len(caplog.records) == 2


class TestGoingOn:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sagewright.staging.mirroring.PAUSE", 0.005)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.005)

    async def test_a_mirror_publishes_by_itself_and_collecting_ends_it_with_all_of_it(self, bench: Bench) -> None:
        home = await staged(bench)
        mirror = MirrorFolders(ID, bench.root, (CHECKPOINTS,))
        bench.transfers.start(mirror)
        bench.transfers.start(mirror)
        (home / "1").write_bytes(b"one")
        await self.until(lambda: objects(bench) == {"1": b"one"})
        assert bench.transfers.observe([ID])[ID].phase is TransferPhase.RUNNING
        (home / "2").write_bytes(b"two")
        collect = CollectOutputs(TransferId("job-1.collect"), *_place(bench), {}, mirrors=(mirror,))
        assert (await bench.ended(collect)).phase is TransferPhase.DONE
        assert objects(bench) == {"1": b"one", "2": b"two"}
        assert ID not in bench.transfers.observe([ID])

    async def test_it_is_unknown_after_a_restart_and_goes_on_when_it_is_started_again(self, bench: Bench) -> None:
        home = await staged(bench)
        mirror = MirrorFolders(ID, bench.root, (CHECKPOINTS,))
        bench.transfers.start(mirror)
        bench.restart()
        assert bench.transfers.observe([ID]) == {}
        (home / "1").write_bytes(b"one")
        bench.transfers.start(mirror)
        await self.until(lambda: objects(bench) == {"1": b"one"})

    async def test_forgetting_ends_it_before_its_folder_goes(self, bench: Bench) -> None:
        home = await staged(bench)
        (home / "1").write_bytes(b"one")
        bench.transfers.start(MirrorFolders(ID, bench.root, (CHECKPOINTS,)))
        await self.until(lambda: objects(bench) == {"1": b"one"})
        bench.transfers.forget([ID], bench.own)
        await bench.trash_is_empty()
        assert (objects(bench), bench.own.exists()) == ({"1": b"one"}, False)

    async def test_a_pass_that_fails_is_said_and_tried_again(
        self, bench: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        home = await staged(bench)
        original = bench.objects.put_stream

        def away(*_: str) -> object:
            raise StoreUnavailable("the store is away")

        monkeypatch.setattr(bench.objects, "put_stream", away)
        bench.transfers.start(MirrorFolders(ID, bench.root, (CHECKPOINTS,)))
        (home / "1").write_bytes(b"one")
        await self.until(lambda: bench.transfers.observe([ID])[ID].message == "the store is away")
        monkeypatch.setattr(bench.objects, "put_stream", original)
        await self.until(lambda: objects(bench) == {"1": b"one"} and not bench.transfers.observe([ID])[ID].message)


def _place(bench: Bench) -> tuple[Account, Region, Path]:
    made = bench.outputs()
    return made.account, made.region, made.root
