"""Staging inputs on a real disk."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.core.errors import StoreUnavailable
from sagewright.workloads.transfer import TransferPhase

if TYPE_CHECKING:
    from conftest import Bench

DONE, FAILED = TransferPhase.DONE, TransferPhase.FAILED


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def files(root: Path) -> dict[str, bytes]:
    return {str(each.relative_to(root)): each.read_bytes() for each in sorted(root.rglob("*")) if each.is_file()}


async def test_the_whole_tree_is_there_when_it_is_done(bench: Bench) -> None:
    bench.objects.put("b", "data/a.csv", b"1,2")
    bench.objects.put("b", "data/deep/b.csv", b"3")
    bench.objects.put("b", "data/empty/")
    staged = await bench.ended(bench.inputs(("train", "s3://b/data")))
    assert (staged.phase, staged.bytes_moved, staged.bytes_total) == (DONE, 4, 4)
    assert files(bench.root) == {
        "input/config/hyperparameters.json": b"{}",
        "input/data/train/a.csv": b"1,2",
        "input/data/train/deep/b.csv": b"3",
    }
    assert (bench.root / "input/data/train/empty").is_dir()
    assert (bench.root / "output/data").is_dir()
    assert [each.name for each in bench.own.iterdir()] == ["ml"]


async def test_any_user_of_the_container_can_write_where_the_contract_says_so_and_nobody_else(bench: Bench) -> None:
    old = os.umask(0o077)
    try:
        bench.objects.put("b", "data/deep/a.csv", b"1")
        await bench.ended(bench.inputs(("train", "s3://b/data/")))
    finally:
        os.umask(old)
    for name in ("", "model", "output", "output/data", "input", "input/data", "input/data/train", "input/config"):
        assert mode(bench.root / name) == 0o777, name
    assert mode(bench.root / "input/data/train/deep") == 0o755
    assert mode(bench.root / "input/data/train/deep/a.csv") == 0o644
    assert mode(bench.root / "input/config/hyperparameters.json") == 0o644
    assert mode(bench.own) == 0o711


async def test_writing_to_a_staged_file_does_not_touch_the_object(bench: Bench) -> None:
    bench.objects.put("b", "k", b"kept")
    await bench.ended(bench.inputs(("train", "s3://b/k")))
    with (bench.root / "input/data/train/k").open("r+b") as file:
        file.write(b"GONE")
    assert bench.objects.read("b", "k") == b"kept"


async def test_many_small_objects_arrive_with_their_own_content(bench: Bench) -> None:
    for number in range(2000):
        bench.objects.put("b", f"d/{number % 7}/{number}", str(number).encode())
    staged = await bench.ended(bench.inputs(("train", "s3://b/d")))
    assert staged.phase is DONE
    found = files(bench.root / "input/data/train")
    assert found == {f"{number % 7}/{number}": str(number).encode() for number in range(2000)}


async def test_large_objects_arrive_whole(bench: Bench) -> None:
    content = os.urandom(1 << 20) * 20
    bench.objects.put("b", "big", content)
    bench.objects.put("b", "big2", content[:-1])
    staged = await bench.ended(bench.inputs(("train", "s3://b/big")))
    assert staged.bytes_moved == 2 * len(content) - 1
    assert files(bench.root / "input/data/train") == {"big": content, "big2": content[:-1]}


@pytest.mark.parametrize("uri", ["s3://b/nothing", "s3://gone/x"])
async def test_a_prefix_without_objects_fails_with_the_sentence_of_aws(bench: Bench, uri: str) -> None:
    staged = await bench.ended(bench.inputs(("train", uri)))
    assert staged.phase is FAILED
    assert staged.message.startswith(f'No S3 objects found under S3 URL "{uri}" given in input data source.')
    assert not bench.root.exists()


async def test_an_object_written_anew_during_staging_is_read_from_its_new_place(bench: Bench) -> None:
    bench.objects.put("b", "k", b"old")

    def overwrite() -> None:
        bench.objects.listed = lambda: None
        bench.objects.put("b", "k", b"new")

    bench.objects.listed = overwrite
    staged = await bench.ended(bench.inputs(("train", "s3://b/k")))
    assert staged.phase is DONE
    assert (bench.root / "input/data/train/k").read_bytes() == b"new"


async def test_an_object_deleted_during_staging_is_named(bench: Bench) -> None:
    bench.objects.put("b", "k", b"old")

    def delete() -> None:
        bench.objects.listed = lambda: None
        bench.objects.delete("b", "k")

    bench.objects.listed = delete
    staged = await bench.ended(bench.inputs(("train", "s3://b/k")))
    assert (staged.phase, "s3://b/k was deleted" in staged.message) == (FAILED, True)


async def test_done_is_done_after_a_restart(bench: Bench) -> None:
    bench.objects.put("b", "k", b"1")
    wanted = bench.inputs(("train", "s3://b/k"))
    await bench.ended(wanted)
    bench.restart()
    state = bench.state(wanted)
    assert state is not None
    assert (state.phase, state.bytes_moved) == (DONE, 1)
    (bench.root / "input/data/train/k").write_bytes(b"of a container")
    bench.transfers.start(wanted)
    assert (bench.root / "input/data/train/k").read_bytes() == b"of a container"


async def test_a_cut_off_staging_is_not_believed_and_starts_afresh(bench: Bench) -> None:
    """Killed at each of the two seams: while building, and between the move into place and the marker."""
    bench.objects.put("b", "k", b"1")
    wanted = bench.inputs(("train", "s3://b/k"))
    (bench.own / "ml.partial" / "input").mkdir(parents=True)
    (bench.own / "ml.partial" / "input" / "torn").write_bytes(b"half")
    bench.root.mkdir()
    (bench.root / "torn").write_bytes(b"half")
    bench.restart()
    assert bench.state(wanted) is None
    assert (await bench.ended(wanted)).phase is DONE
    assert files(bench.root) == {"input/config/hyperparameters.json": b"{}", "input/data/train/k": b"1"}
    await bench.trash_is_empty()


async def test_a_marker_of_before_a_power_cut_is_not_believed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = bench.inputs()
    await bench.ended(wanted)
    bench.restart()
    monkeypatch.setattr(bench.transfers, "_boot", "another boot")
    assert bench.state(wanted) is None


async def test_a_marker_whose_folder_was_removed_is_not_believed(bench: Bench) -> None:
    wanted = bench.inputs()
    await bench.ended(wanted)
    bench.restart()
    subprocess.run(["rm", "-rf", bench.own], check=True)
    assert bench.state(wanted) is None


async def test_a_torn_marker_is_not_believed(bench: Bench) -> None:
    wanted = bench.inputs()
    await bench.ended(wanted)
    bench.restart()
    (bench.workloads / ".transfers" / "job-1.stage.json").write_bytes(b"")
    assert bench.state(wanted) is None


async def test_a_marker_that_was_never_finished_goes_with_its_transfer(bench: Bench) -> None:
    wanted = bench.inputs()
    (bench.workloads / ".transfers" / "job-1.stage.new").write_bytes(b"")
    bench.restart()
    assert bench.state(wanted) is None
    bench.transfers.forget((wanted.id,), bench.own)
    assert list((bench.workloads / ".transfers").iterdir()) == []


async def test_starting_twice_stages_once(bench: Bench) -> None:
    listings = []
    bench.objects.put("b", "k", b"1")
    bench.objects.listed = lambda: listings.append(1)
    wanted = bench.inputs(("train", "s3://b/k"))
    bench.transfers.start(wanted)
    bench.transfers.start(wanted)
    await bench.ended(wanted)
    bench.transfers.start(wanted)
    assert len(listings) == 1


async def test_forgetting_ends_what_runs_and_leaves_nothing(bench: Bench) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        held.set()
        go.wait(60)

    bench.objects.put("b", "k", b"1")
    bench.objects.listed = hold
    wanted = bench.inputs(("train", "s3://b/k"))
    bench.transfers.start(wanted)
    assert await asyncio.to_thread(held.wait, 60)
    forgetting = asyncio.create_task(asyncio.to_thread(bench.transfers.forget, [wanted.id], bench.own))
    go.set()
    await forgetting
    assert bench.state(wanted) is None
    assert not bench.own.exists()
    await bench.trash_is_empty()
    bench.restart()
    assert bench.state(wanted) is None


async def test_forgetting_removes_what_resists(bench: Bench) -> None:
    wanted = bench.inputs()
    await bench.ended(wanted)
    locked = bench.root / "model" / "a" / "b"
    locked.mkdir(parents=True)
    (locked / "file").write_bytes(b"x")
    (bench.root / "model" / "link").symlink_to("/etc")
    for folder in (locked, locked.parent, bench.root / "model"):
        folder.chmod(0)
    bench.transfers.forget([wanted.id], bench.own)
    assert not bench.own.exists()
    await bench.trash_is_empty()
    assert Path("/etc/passwd").exists()


async def test_forgetting_the_unknown_is_success(bench: Bench) -> None:
    bench.transfers.forget([bench.inputs().id], bench.workloads / "never-was")


async def test_a_store_that_is_away_means_start_again(bench: Bench) -> None:
    def away() -> None:
        raise StoreUnavailable("database is locked")

    bench.objects.put("b", "k", b"1")
    bench.objects.listed = away
    wanted = bench.inputs(("train", "s3://b/k"))
    bench.transfers.start(wanted)
    async with asyncio.timeout(60):
        while bench.state(wanted) is not None:
            await asyncio.sleep(0.002)
    bench.objects.listed = lambda: None
    assert (await bench.ended(wanted)).phase is DONE


async def test_the_end_of_a_transfer_is_hinted(bench: Bench) -> None:
    source = bench.transfers.hints()
    first = asyncio.ensure_future(anext(source))
    await asyncio.sleep(0)
    wanted = bench.inputs()
    bench.transfers.start(wanted)
    async with asyncio.timeout(60):
        assert await first == wanted.id
    await source.aclose()


@pytest.mark.skipif(os.geteuid() != 0, reason="plays both an ordinary user and root in a container")
def test_an_ordinary_user_can_read_and_remove_what_root_made_in_a_container() -> None:
    """A root engine started by a user of the docker group: the commonest laptop."""
    with tempfile.TemporaryDirectory() as name:  # not tmp_path, which is closed to other users
        home = Path(name)
        home.chmod(0o777)

        def as_user(code: str) -> None:
            prelude = f"import os, sys; sys.path[:0] = {sys.path!r}; from pathlib import Path\n"
            prelude += "from sagewright.staging import disk\n"
            prelude += f"os.setgid(1234); os.setuid(1234); os.chdir({name!r})\n"
            subprocess.run([sys.executable, "-c", prelude + code], check=True)

        as_user("disk.make_folder(Path('model'), 0o777); disk.keep_access(Path('model'))")
        try:
            os.getxattr(home / "model", "system.posix_acl_default")
        except OSError:
            pytest.skip("this file system has no ACLs")
        old = os.umask(0o077)
        try:
            (home / "model" / "checkpoint" / "deep").mkdir(parents=True)
            (home / "model" / "checkpoint" / "deep" / "weights").write_bytes(b"w")
        finally:
            os.umask(old)
        as_user("assert Path('model/checkpoint/deep/weights').read_bytes() == b'w'; disk.remove_tree(Path('model'))")
        assert not (home / "model").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
async def test_a_full_disk_fails_with_a_sentence_and_leaves_the_disk_free(bench: Bench) -> None:
    bench.objects.put("b", "big", os.urandom(3 << 20))
    wanted = bench.inputs(("train", "s3://b/big"))
    with small_disk(bench.workloads, 1 << 20):
        bench.restart()
        staged = await bench.ended(wanted)
        assert staged.phase is FAILED
        assert staged.message.startswith("No space left on the disk of ")
        assert staged.message.endswith("Free some space and start the job again.")
        bench.transfers.forget([wanted.id], bench.own)
        await bench.trash_is_empty()
        assert not bench.own.exists()
        bench.transfers.close()


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    """A tmpfs of `size` bytes on `path`; skips where the kernel refuses."""
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], capture_output=True)
    if made.returncode:
        pytest.skip("this machine does not let us mount a tmpfs")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", path], check=True)
