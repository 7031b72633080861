"""Staging models: real archives, real folders, restarts, and archives that want out."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.ids import Account, Region, TransferId
from sagewright.staging import models as model_folders
from sagewright.staging import transfers as transfer_module
from sagewright.staging.transfers import LocalTransfers
from sagewright.workloads.transfer import StageModel, TransferPhase, TransferState
from suites.plain_objects import PlainObjects

ACCOUNT, REGION = Account("000000000000"), Region("us-east-1")
URI = "s3://b/m/model.tar.gz"


def member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o600) -> Any:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size = kind, link, mode, len(content)
    return info, content


def archive(*members: Any) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return packed.getvalue()


class Bench:
    def __init__(self, folder: Path) -> None:
        self.objects = PlainObjects(folder / "objects")
        self.objects.create_bucket("b")
        self.workloads, self.models = folder / "workloads", folder / "models"
        self.workloads.mkdir()
        self.transfers = LocalTransfers(self.objects, self.workloads)

    def restart(self) -> None:
        self.transfers.close()
        self.transfers = LocalTransfers(self.objects, self.workloads)

    async def stage(self, uri: str | None = URI, name: str = "one", *, unpack: bool = True) -> TransferState:
        each = TransferId(name)
        self.transfers.start(StageModel(each, ACCOUNT, REGION, self.models, uri, unpack and uri is not None))
        async with asyncio.timeout(60):
            while (state := self.state(name)) is None or state.phase is TransferPhase.RUNNING:
                await asyncio.sleep(0.002)
        return state

    async def done(self, uri: str | None = URI, name: str = "one", *, unpack: bool = True) -> Path:
        state = await self.stage(uri, name, unpack=unpack)
        assert state.phase is TransferPhase.DONE, state.message
        assert state.folder is not None
        return state.folder

    async def refusal(self, *members: Any, content: bytes | None = None) -> str:
        self.objects.put("b", "m/model.tar.gz", archive(*members) if content is None else content)
        state = await self.stage()
        assert state.phase is TransferPhase.FAILED
        assert self.folders() == []
        return state.message

    def state(self, name: str) -> TransferState | None:
        return self.transfers.observe([TransferId(name)]).get(TransferId(name))

    def forget(self, *names: str) -> None:
        self.transfers.forget_models([TransferId(each) for each in names], self.models)

    def folders(self) -> list[str]:
        if not self.models.exists():
            return []
        return sorted(each.name for each in self.models.iterdir() if each.name[0] != "." and "partial" not in each.name)

    async def settled(self, folder: Path) -> None:
        async with asyncio.timeout(60):
            while (self.models / ".complete" / folder.name).read_text() != "durable":
                await asyncio.sleep(0.002)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.transfers.close()


async def test_an_archive_is_unpacked_readable_for_everybody_whatever_its_modes(bench: Bench) -> None:
    bench.objects.put(
        "b",
        "m/model.tar.gz",
        archive(
            member("./code", kind=tarfile.DIRTYPE, mode=0o700),
            member("./code/run.sh", b"#!/bin/sh", mode=0o700),
            member("./weights.bin", b"w" * 3_000_000, mode=0),
            member("./latest", kind=tarfile.SYMTYPE, link="weights.bin"),
            member("./code/same", kind=tarfile.LNKTYPE, link="./weights.bin"),
            member("deep/er/file", b"x"),
        ),
    )
    before = os.umask(0o077)
    try:
        folder = await bench.done()
    finally:
        os.umask(before)
    assert (folder / "weights.bin").read_bytes() == b"w" * 3_000_000
    assert (folder / "latest").readlink() == Path("weights.bin")
    assert (folder / "code" / "same").samefile(folder / "weights.bin")
    modes = {path: stat.S_IMODE((folder / path).stat().st_mode) for path in (".", "code", "deep", "deep/er")}
    assert set(modes.values()) == {0o755}
    assert stat.S_IMODE((folder / "weights.bin").stat().st_mode) == 0o644
    assert stat.S_IMODE((folder / "code" / "run.sh").stat().st_mode) == 0o755


async def test_one_content_is_one_folder_and_other_content_another(bench: Bench) -> None:
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    first = await bench.done()
    assert await bench.done(name="two") == first
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"2")))
    other = await bench.done(name="three")
    assert other != first
    assert ((first / "a").read_bytes(), (other / "a").read_bytes()) == (b"1", b"2")


async def test_many_at_once_unpack_one_content_once(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []
    real = model_folders.unpack

    def counting(content: Any, uri: str, folder: Path, meter: Any) -> None:
        unpacked.append(folder)
        real(content, uri, folder, meter)

    monkeypatch.setattr(model_folders, "unpack", counting)
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1" * 5_000_000)))
    folders = await asyncio.gather(*(bench.done(name=f"t{number}") for number in range(8)))
    assert len({*folders}) == len(unpacked) == 1


async def test_no_artifact_is_an_empty_folder(bench: Bench) -> None:
    assert list((await bench.done(None)).iterdir()) == []


async def test_one_object_is_a_file_and_a_prefix_is_a_tree(bench: Bench) -> None:
    bench.objects.put("b", "llm/config.json", b"{}")
    bench.objects.put("b", "llm/part/1.bin", b"11")
    one = await bench.done("s3://b/llm/config.json", unpack=False)
    assert [each.name for each in one.iterdir()] == ["config.json"]
    tree = await bench.done("s3://b/llm/", "two", unpack=False)
    assert sorted(each.relative_to(tree).as_posix() for each in tree.rglob("*")) == [
        "config.json",
        "part",
        "part/1.bin",
    ]
    assert (tree / "part" / "1.bin").read_bytes() == b"11"


@pytest.mark.parametrize("uri", ["s3://b/none.tar.gz", "s3://nowhere/m.tar.gz", "s3://b/none/"])
async def test_what_is_not_there_is_named(bench: Bench, uri: str) -> None:
    bench.objects.put("b", "none.tar.gz.old", b"")
    state = await bench.stage(uri, unpack=not uri.endswith("/"))
    assert state.message.startswith(f"Could not find model data at {uri}.")


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ([member("/etc/passwd", b"x")], "leads out of the archive"),
        ([member("../up", b"x")], "leads out of the archive"),
        ([member("a/../../up", b"x")], "leads out of the archive"),
        ([member("link", kind=tarfile.SYMTYPE, link="/etc"), member("link/passwd", b"x")], "outside the archive"),
        ([member("link", kind=tarfile.SYMTYPE, link="../..")], "outside the archive"),
        ([member("d/link", kind=tarfile.SYMTYPE, link="../../x")], "outside the archive"),
        ([member("x", kind=tarfile.SYMTYPE, link="."), member("x/y", b"x")], "below a link"),
        ([member("h", kind=tarfile.LNKTYPE, link="/etc/passwd")], "no file of the archive"),
        ([member("h", kind=tarfile.LNKTYPE, link="../x")], "no file of the archive"),
        (
            [
                member("y/z", b""),
                member("x", kind=tarfile.SYMTYPE, link="."),
                member("s", kind=tarfile.SYMTYPE, link="x/y/.."),
                member("h", kind=tarfile.LNKTYPE, link="s/etc/passwd"),
            ],
            "no file of the archive",
        ),
        ([member("pipe", kind=tarfile.FIFOTYPE)], "neither a file"),
        ([member("dev", kind=tarfile.CHRTYPE)], "neither a file"),
    ],
)
async def test_an_archive_that_wants_out_is_refused_by_name(bench: Bench, members: list[Any], why: str) -> None:
    assert why in await bench.refusal(*members)
    assert not list(bench.models.parent.glob("up*"))


async def test_a_damaged_archive_is_refused(bench: Bench) -> None:
    whole = archive(member("a", os.urandom(200_000)))
    assert "damaged" in await bench.refusal(content=whole[: len(whole) // 2])
    assert "damaged" in await bench.refusal(content=whole[:-8] + b"\0" * 8)
    assert "damaged" in await bench.refusal(content=gzip.compress(b"not a tar file" * 100))
    assert "not compressed with gzip" in await bench.refusal(content=b"PK\3\4 a zip file")
    assert "not compressed with gzip" in await bench.refusal(content=b"")


async def test_a_refusal_is_forgotten_when_it_is_started_again(bench: Bench) -> None:
    await bench.refusal(content=b"nonsense")
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    assert (await bench.done() / "a").read_bytes() == b"1"


async def test_a_folder_outlives_restarts_and_the_object(bench: Bench) -> None:
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    folder = await bench.done()
    bench.objects.delete("b", "m/model.tar.gz")
    bench.restart()
    state = bench.state("one")
    assert state is not None
    assert (state.phase, state.folder) == (TransferPhase.DONE, folder)


async def test_after_a_power_cut_only_what_was_forced_to_the_disk_is_trusted(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    folder = await bench.done()
    await bench.settled(folder)
    monkeypatch.setattr(transfer_module, "_boot_id", lambda: "another boot")
    bench.restart()
    assert bench.state("one") is not None
    (bench.models / ".complete" / folder.name).write_text("the first boot")
    (folder / "a").write_bytes(b"")
    assert bench.state("one") is None
    assert (await bench.done() / "a").read_bytes() == b"1"


async def test_a_folder_is_removed_with_the_last_that_stands_for_it(bench: Bench) -> None:
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    folder = await bench.done()
    await bench.done(name="two")
    bench.forget("one")
    assert bench.folders() == [folder.name]
    bench.restart()
    bench.forget("two")
    assert (bench.folders(), bench.state("one"), bench.state("two")) == ([], None, None)
    bench.forget("two")
    assert (await bench.done() / "a").read_bytes() == b"1"


async def test_forgetting_ends_what_runs_and_leaves_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def endless(content: Any, uri: str, folder: Path, meter: Any) -> None:
        loop.call_soon_threadsafe(started.set)
        while True:
            meter.check()

    monkeypatch.setattr(model_folders, "unpack", endless)
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    for name in ("one", "two"):
        bench.transfers.start(StageModel(TransferId(name), ACCOUNT, REGION, bench.models, URI, unpack=True))
    async with asyncio.timeout(30):
        await started.wait()
        await asyncio.to_thread(bench.forget, "one", "two")
    assert (bench.state("one"), bench.folders()) == (None, [])
    assert not list(bench.models.glob("*.partial"))


async def test_an_object_that_is_replaced_while_it_is_listed_is_read_anew(bench: Bench) -> None:
    bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"1")))
    times = iter(range(2))

    def replaced() -> None:
        if next(times, None) is not None:
            bench.objects.put("b", "m/model.tar.gz", archive(member("a", b"2")))

    bench.objects.listed = replaced
    assert (await bench.done() / "a").read_bytes() == b"2"
    bench.objects.listed = lambda: bench.objects.put("b", "m/model.tar.gz", archive(member("a", os.urandom(4))))
    bench.forget("one")
    state = await bench.stage(name="two")
    assert "replaced again and again" in state.message
