"""Outputs of several hosts, and outputs that are not archived. `gzip` is the oracle of the stream."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.core.errors import BlobStoreFull
from sagewright.workloads.transfer import CollectOutputs, TransferPhase
from suites.plain_objects import PlainWriter

if TYPE_CHECKING:
    from conftest import Bench

DONE, FAILED = TransferPhase.DONE, TransferPhase.FAILED
PLAIN = {"model": "s3://b/out/model/", "output/data": "s3://b/out/data/"}


def hosts(bench: Bench) -> tuple[Path, Path]:
    made = (bench.root, bench.own / "second")
    for root in made:
        (root / "model").mkdir(parents=True)
        (root / "output" / "data").mkdir(parents=True)
    return made


def plain(bench: Bench) -> CollectOutputs:
    return replace(bench.outputs(), archives=PLAIN)


async def test_the_real_gzip_finds_a_stream_of_many_blocks_sound(bench: Bench) -> None:
    first, _ = hosts(bench)
    content = os.urandom(5 << 20) + bytes(5 << 20) + b"text " * (1 << 20)
    (first / "model" / "w").write_bytes(content)
    (first / "output" / "data" / "d").write_bytes(content[::-1])
    done = await bench.ended(bench.outputs())
    assert (done.phase, done.bytes_moved >= 2 * len(content)) == (DONE, True)
    for name, member, wanted in (("model", "w", content), ("output", "d", content[::-1])):
        packed = bench.objects.read("b", f"out/{name}.tar.gz")
        unpacked = subprocess.run(["gzip", "-dc"], input=packed, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(unpacked)) as tar:
            file = tar.extractfile(member)
            assert file is not None
            assert file.read() == wanted


async def test_what_all_hosts_wrote_is_merged_and_the_last_one_wins(bench: Bench) -> None:
    first, second = hosts(bench)
    for root, name in ((first, "one"), (second, "two")):
        (root / "model" / name).write_text(name)
        (root / "model" / "same").write_text(name)
    (first / "model" / "x").mkdir()
    (first / "model" / "x" / "hidden").write_text("x")
    (second / "model" / "x").write_text("a file here")
    (first / "model" / "y").write_text("a file there")
    (second / "model" / "y").mkdir()
    (second / "model" / "y" / "shown").write_text("y")
    done = await bench.ended(replace(bench.outputs(), peers=(second,)))
    assert done.phase is DONE
    with tarfile.open(fileobj=io.BytesIO(bench.objects.read("b", "out/model.tar.gz"))) as tar:
        assert tar.getnames() == ["one", "same", "two", "x", "y", "y/shown"]
        same = tar.extractfile("same")
        assert same is not None
        assert same.read() == b"two"


async def test_without_compression_every_file_is_an_object(bench: Bench) -> None:
    first, second = hosts(bench)
    (first / "model" / "code").mkdir()
    (first / "model" / "code" / "a.py").write_text("pass")
    (second / "model" / "w.bin").write_bytes(b"w" * (3 << 20))
    done = await bench.ended(replace(plain(bench), peers=(second,)))
    assert (done.phase, done.written) == (DONE, ("s3://b/out/model",))
    assert sorted(bench.objects.keys("b")) == ["out/model/code/a.py", "out/model/w.bin"]
    assert bench.objects.read("b", "out/model/w.bin") == b"w" * (3 << 20)


async def test_outputs_are_published_together_or_not_at_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = hosts(bench)
    for number in range(5):
        (first / "model" / f"{number}.bin").write_bytes(b"w" * 1000)
    original, count = PlainWriter.write, iter(range(100))

    def full_at_last(writer: PlainWriter, data: bytes) -> None:
        if next(count) == 4:
            raise BlobStoreFull("no space")
        original(writer, data)

    monkeypatch.setattr(PlainWriter, "write", full_at_last)
    failed = await bench.ended(plain(bench))
    assert (failed.phase, bench.objects.keys("b"), bench.objects.leftovers()) == (FAILED, [], 0)


@pytest.mark.parametrize(
    ("name", "said"), [("link", "is a symbolic link"), (os.fsdecode(b"\xff"), "cannot be the key")]
)
async def test_what_cannot_be_an_object_is_refused_by_name(bench: Bench, name: str, said: str) -> None:
    first, _ = hosts(bench)
    path = first / "model" / name
    path.symlink_to("/etc/passwd") if name == "link" else path.write_text("x")
    failed = await bench.ended(plain(bench))
    assert (failed.phase, said in failed.message, bench.objects.keys("b")) == (FAILED, True, [])


async def test_a_link_to_a_file_of_the_folder_becomes_that_file(bench: Bench) -> None:
    first, _ = hosts(bench)
    (first / "model" / "deep").mkdir()
    (first / "model" / "deep" / "real").write_text("weights")
    (first / "model" / "best").symlink_to("deep/real")
    (first / "model" / "deep" / "last").symlink_to("/opt/ml/model/deep/real")
    done = await bench.ended(plain(bench))
    assert done.phase is DONE, done.message
    assert bench.objects.read("b", "out/model/best") == bench.objects.read("b", "out/model/deep/last") == b"weights"


@pytest.mark.parametrize(
    "leads", ["../output", "deep", "gone", "self", "/opt/ml/model/../output/data/x", "/etc/passwd"]
)
async def test_any_other_link_is_refused(bench: Bench, leads: str) -> None:
    first, _ = hosts(bench)
    (first / "model" / "deep").mkdir()
    (first / "output" / "data").mkdir(parents=True, exist_ok=True)
    (first / "output" / "data" / "x").write_text("x")
    (first / "model" / "self").symlink_to(leads)
    failed = await bench.ended(plain(bench))
    assert (failed.phase, bench.objects.keys("b")) == (FAILED, [])
    assert "'self' is a symbolic link" in failed.message
