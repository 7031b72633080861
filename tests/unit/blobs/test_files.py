"""Blob files: what is on the disk, after a crash too, and when the disk is full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sagewright.blobs import paths
from sagewright.blobs.base import BlobPath
from sagewright.blobs.files import FileBlobs
from sagewright.core.errors import BlobStoreFull, InvalidBlobPath
from suites.blob_suite import content, put
from support.small_disk import fill, small_disk

A = BlobPath("objects/aa/one")

WRITER = """
import sys, time
from pathlib import Path
from sagewright.blobs.base import BlobPath
from sagewright.blobs.files import FileBlobs
writer = FileBlobs(Path(sys.argv[1])).open_write(BlobPath("objects/aa/one"))
writer.write(b"half")
print("written", flush=True)
time.sleep(60)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "blobs"


@pytest.fixture
def blobs(root: Path) -> FileBlobs:
    return FileBlobs(root)


def partial_files(root: Path) -> list[str]:
    return [each.name for each in (root / ".partial").iterdir()]


def files(root: Path) -> list[str]:
    return sorted(str(each.relative_to(root)) for each in root.rglob("*") if each.is_file())


def test_the_tree_is_the_documented_one(blobs: FileBlobs, root: Path) -> None:
    content_id = paths.new_content_id()
    put(blobs, paths.object_content(content_id))
    put(blobs, paths.upload_part("upload", "part"))
    assert files(root) == [f"objects/{content_id[-2:]}/{content_id}", "uploads/upload/part"]
    assert blobs.local_path(paths.object_content(content_id)) == root / "objects" / content_id[-2:] / content_id
    assert len({paths.new_content_id() for _ in range(1000)}) == 1000


@pytest.mark.parametrize("bad", ["", "..", "../../x", "a/b", "a\x00", "x" * 300])
def test_ids_cannot_lead_out_of_the_tree(bad: str) -> None:
    if bad != "a/b":
        with pytest.raises(InvalidBlobPath):
            paths.object_content(bad)
    with pytest.raises(InvalidBlobPath):
        paths.upload_part(bad if bad != "a/b" else "a//b", "x")


def test_cancelled_and_committed_writers_leave_no_partial_file(blobs: FileBlobs, root: Path) -> None:
    put(blobs, A)
    blobs.open_write(A).cancel()
    with blobs.open_write(A) as writer:
        writer.write(b"x")
        assert len(partial_files(root)) == 1
    assert partial_files(root) == []


def test_empty_folders_are_taken_away(blobs: FileBlobs, root: Path) -> None:
    put(blobs, paths.upload_part("u", "1"))
    put(blobs, paths.upload_part("u", "2"))
    blobs.delete(paths.upload_part("u", "1"))
    assert (root / "uploads/u").is_dir()
    blobs.delete(paths.upload_part("u", "2"))
    assert not (root / "uploads").exists()
    assert root.is_dir()


def test_a_killed_writer_leaves_nothing_visible_and_the_next_start_cleans_up(blobs: FileBlobs, root: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(root)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        own = blobs.open_write(A)
        own.write(b"mine")
        FileBlobs(root)
        assert len(partial_files(root)) == 2  # both writers live
        process.send_signal(signal.SIGKILL)
    assert files(root) == [f".partial/{name}" for name in sorted(partial_files(root))]
    FileBlobs(root)
    assert len(partial_files(root)) == 1
    own.commit()
    assert content(blobs, A) == b"mine"


def test_partial_files_of_processes_out_of_sight_are_kept_while_they_may_live(root: Path) -> None:
    FileBlobs(root)
    for name, age in (("elsewhere.1-7-99-0", 10), ("elsewhere.1-8-99-0", 100_000), ("garbage", 100_000), ("new", 0)):
        path = root / ".partial" / name
        path.write_bytes(b"x")
        os.utime(path, (time.time() - age,) * 2)
    FileBlobs(root)
    assert sorted(partial_files(root)) == ["elsewhere.1-7-99-0", "new"]


def test_a_full_disk_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000_000) as disk:
        blobs = FileBlobs(disk)
        put(blobs, BlobPath("before"))
        with pytest.raises(BlobStoreFull, match="No space"), blobs.open_write(A) as writer:
            writer.write(b"x" * 2_000_000)
        assert files(disk) == ["before"]
        ballast = fill(disk)
        with pytest.raises(BlobStoreFull), blobs.open_write(A) as writer:
            writer.write(b"x" * 100_000)
        ballast.unlink()
        put(blobs, A)
        assert content(blobs, A) == b"data"


def test_a_commit_that_fails_leaves_no_partial_file(blobs: FileBlobs, root: Path) -> None:
    put(blobs, BlobPath("a"))
    writer = blobs.open_write(BlobPath("a/b"))
    with pytest.raises(InvalidBlobPath):
        writer.commit()
    writer.cancel()
    assert files(root) == ["a"]


def test_a_writer_closes_its_file(blobs: FileBlobs) -> None:
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    before = open_files()
    for end in ("commit", "cancel"):
        for _ in range(10):
            getattr(blobs.open_write(A), end)()
    assert open_files() == before
