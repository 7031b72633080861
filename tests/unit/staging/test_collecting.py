"""Collecting outputs from a real disk; `tar` is the oracle."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.core.errors import BlobStoreFull
from sagewright.staging.disk import remove_tree
from sagewright.workloads.transfer import TransferPhase
from suites.plain_objects import PlainWriter

if TYPE_CHECKING:
    from conftest import Bench

DONE, FAILED = TransferPhase.DONE, TransferPhase.FAILED
MODEL, OUTPUT = "s3://b/out/model.tar.gz", "s3://b/out/output.tar.gz"


@pytest.fixture
def model(bench: Bench) -> Path:
    (bench.root / "output" / "data").mkdir(parents=True)
    (bench.root / "model").mkdir()
    return bench.root / "model"


def archive(bench: Bench) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(bench.objects.read("b", "out/model.tar.gz")), mode="r:gz")


async def test_the_contents_are_at_the_archive_root_and_the_real_tar_unpacks_them(
    bench: Bench, model: Path, tmp_path: Path
) -> None:
    (model / "model.joblib").write_bytes(b"weights" * 100_000)
    (model / "code").mkdir()
    (model / "code" / "inference.py").write_text("pass")
    (model / "empty").mkdir()
    done = await bench.ended(bench.outputs())
    assert (done.phase, done.written) == (DONE, (MODEL,))
    packed = tmp_path / "m.tar.gz"
    packed.write_bytes(bench.objects.read("b", "out/model.tar.gz"))
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    subprocess.run(["tar", "-xzf", packed, "-C", unpacked], check=True)
    subprocess.run(["diff", "-r", model, unpacked], check=True)


async def test_members_are_sorted_and_equal_folders_give_equal_bytes(bench: Bench, model: Path) -> None:
    for name in ("b", "a", "c/d", "c.txt"):
        path = model / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(name)
    await bench.ended(bench.outputs())
    first = bench.objects.read("b", "out/model.tar.gz")
    with archive(bench) as tar:
        assert tar.getnames() == ["a", "b", "c", "c.txt", "c/d"]
        assert {(each.uid, each.uname) for each in tar} == {(0, "root")}
    bench.transfers.forget([bench.outputs().id], bench.workloads / "nothing")
    await bench.ended(bench.outputs())
    assert bench.objects.read("b", "out/model.tar.gz") == first


async def test_an_empty_folder_makes_no_object(bench: Bench, model: Path) -> None:
    done = await bench.ended(bench.outputs())
    assert (done.phase, done.written, bench.objects.keys("b")) == (DONE, (), [])


async def test_a_removed_folder_makes_no_object(bench: Bench, model: Path) -> None:
    model.rmdir()
    (bench.root / "output/data/x").write_text("x")
    done = await bench.ended(bench.outputs())
    assert (done.phase, done.written) == (DONE, (OUTPUT,))


async def test_links_stay_links_and_specials_are_left_out(bench: Bench, model: Path) -> None:
    (model / "real").write_text("x")
    (model / "hard").hardlink_to(model / "real")
    (model / "inside").symlink_to("real")
    (model / "outside").symlink_to("/etc/passwd")
    (model / "folder").symlink_to("/etc")
    os.mkfifo(model / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        old = Path.cwd()
        os.chdir(model)  # the path of a socket is short
        server.bind("socket")
        os.chdir(old)
        done = await bench.ended(bench.outputs())
    assert done.phase is DONE
    with archive(bench) as tar:
        links = {each.name: each.linkname for each in tar if each.issym()}
        assert tar.getnames() == ["folder", "hard", "inside", "outside", "real"]
        assert links == {"inside": "real", "outside": "/etc/passwd", "folder": "/etc"}


async def test_a_folder_replaced_by_a_link_is_refused(bench: Bench, model: Path) -> None:
    model.rmdir()
    model.symlink_to("/etc")
    done = await bench.ended(bench.outputs())
    assert done.phase is FAILED
    assert "/opt/ml/model was replaced" in done.message
    assert bench.objects.keys("b") == []


async def test_a_missing_bucket_is_named_with_the_command_that_makes_it(bench: Bench, model: Path) -> None:
    (model / "a").write_text("a")
    done = await bench.ended(bench.outputs(model="s3://gone/model.tar.gz"))
    assert done.phase is FAILED
    assert done.message == "The bucket 'gone' does not exist. Create it first: aws s3 mb s3://gone"


async def test_a_full_store_fails_with_a_sentence_and_no_object(
    bench: Bench, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (model / "a").write_bytes(os.urandom(4 << 20))

    def full(writer: PlainWriter, data: bytes) -> None:
        raise BlobStoreFull("no space")

    monkeypatch.setattr(PlainWriter, "write", full)
    done = await bench.ended(bench.outputs())
    assert (done.phase, done.message.startswith("No space left on the disk of ")) == (FAILED, True)
    assert (bench.objects.keys("b"), bench.objects.leftovers()) == ([], 0)


async def test_done_is_done_after_a_restart_with_what_was_written(bench: Bench, model: Path) -> None:
    (model / "a").write_text("a")
    await bench.ended(bench.outputs())
    bench.restart()
    state = bench.state(bench.outputs())
    assert state is not None
    assert (state.phase, state.written) == (DONE, (MODEL,))


async def test_odd_names_and_sizes_survive(bench: Bench, model: Path) -> None:
    names = ["ü", "with space", "n" * 200, "new\nline", "tab\t"]
    for name in names:
        (model / name).write_text(name)
    (model / "sparse").touch()
    os.truncate(model / "sparse", 10 << 20)
    (model / os.fsdecode(b"bad-\xff")).write_bytes(b"not utf-8")
    done = await bench.ended(bench.outputs())
    assert done.phase is DONE
    with archive(bench) as tar:
        assert {"sparse", os.fsdecode(b"bad-\xff"), *names} == set(tar.getnames())
        assert tar.getmember("sparse").size == 10 << 20


async def test_folders_nested_deeper_than_python_nests_calls_are_packed_and_removed(bench: Bench, model: Path) -> None:
    below = os.open(model, os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("d", dir_fd=below)
        inner = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = inner
    os.close(os.open("end", os.O_WRONLY | os.O_CREAT, dir_fd=below))
    os.close(below)
    done = await bench.ended(bench.outputs())
    assert done.phase is DONE, done.message
    with archive(bench) as tar:
        assert max(tar.getnames(), key=len).count("/") == 1200
    remove_tree(model)
    assert not model.exists()


async def test_a_link_is_stored_where_nobody_may_look(bench: Bench, model: Path) -> None:
    """Such as one into /root, when Sagewright runs as another user."""
    (model / "link").symlink_to("/" + "n" * 300)
    done = await bench.ended(bench.outputs())
    assert done.phase is DONE, done.message
    with archive(bench) as tar:
        assert tar.getnames() == ["link"]
