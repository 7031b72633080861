"""Channels from manifests and shares of them, staged on a real disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from sagewright.workloads.transfer import ChannelInput, TransferPhase, TransferState

if TYPE_CHECKING:
    from conftest import Bench

DONE, FAILED = TransferPhase.DONE, TransferPhase.FAILED


async def staged(bench: Bench, channel: ChannelInput) -> TransferState:
    return await bench.ended(replace(bench.inputs(), channels=(channel,)))


def names(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file())


@pytest.fixture
def data(bench: Bench) -> Path:
    for name in ("a", "b", "deep/c", "d", "other"):
        bench.objects.put("b", f"data/{name}", name.encode())
    return bench.root / "input" / "data" / "train"


def put_manifest(bench: Bench, *entries: object) -> ChannelInput:
    bench.objects.put("b", "list.json", json.dumps(entries).encode())
    return ChannelInput("train", "s3://b/list.json", manifest=True)


async def test_a_manifest_brings_what_it_lists_under_the_names_it_gives(bench: Bench, data: Path) -> None:
    channel = put_manifest(bench, {"prefix": "s3://b/da"}, "ta/d", "ta/deep/c", "ta/d")
    assert (await staged(bench, channel)).phase is DONE
    assert names(data) == ["ta/d", "ta/deep/c"]
    assert (data / "ta/deep/c").read_bytes() == b"deep/c"


async def test_the_objects_of_a_manifest_may_lie_in_another_bucket(bench: Bench, data: Path) -> None:
    bench.objects.create_bucket("far")
    bench.objects.put("far", "x/1", b"far")
    assert (await staged(bench, put_manifest(bench, {"prefix": "s3://far/x/"}, "1"))).phase is DONE
    assert (data / "1").read_bytes() == b"far"


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (({"prefix": "s3://b/data/"}, "a", "gone", "lost"), "lists 2 objects that do not exist, the first of them s3://b/data/gone"),
        (("a", "b"), "does not begin with a prefix"),
        (({"prefix": "s3://b/data/"},), "lists no objects"),
        (({"prefix": "s3://b/data/"}, 7), "has the entry 7"),
        (({"prefix": "s3://nowhere/data/"}, "a"), 'No S3 objects found under S3 URL "s3://nowhere/data/"'),
        (({"prefix": "s3://b/da"}, "ta/../ta/a"), "lists 1 objects that do not exist"),
    ],
)  # fmt: skip
async def test_a_manifest_that_cannot_be_followed_says_why(
    bench: Bench, data: Path, entries: tuple[object, ...], said: str
) -> None:
    failed = await staged(bench, put_manifest(bench, *entries))
    assert (failed.phase, said in failed.message) == (FAILED, True), failed.message


async def test_a_manifest_that_is_no_json_or_not_there_says_so(bench: Bench, data: Path) -> None:
    channel = ChannelInput("train", "s3://b/data/a", manifest=True)
    assert "is not JSON" in (await staged(bench, channel)).message
    bench.transfers.forget([bench.inputs().id], bench.own)
    channel = ChannelInput("train", "s3://b/nothing", manifest=True)
    assert "does not exist" in (await staged(bench, channel)).message


@pytest.mark.parametrize("manifest", [False, True])
async def test_the_shares_of_all_hosts_are_the_whole_and_overlap_nowhere(
    bench: Bench, data: Path, manifest: bool
) -> None:
    channel = ChannelInput("train", "s3://b/data/")
    if manifest:
        channel = put_manifest(bench, {"prefix": "s3://b/data/"}, "other", "d", "deep/c", "b", "a")
    shares = []
    for shard in range(6):
        assert (await staged(bench, replace(channel, shard=shard, shards=6))).phase is DONE
        shares.append(names(data))
        bench.transfers.forget([bench.inputs().id], bench.own)
    assert shares == [["a"], ["b"], ["d"], ["deep/c"], ["other"], []]


async def test_more_objects_than_a_page_come_all(bench: Bench, data: Path) -> None:
    for index in range(2100):
        bench.objects.put("b", f"many/{index:04}", b"x")
    assert (await staged(bench, ChannelInput("train", "s3://b/many/", shard=1, shards=2))).phase is DONE
    assert names(data) == [f"{index:04}" for index in range(1, 2100, 2)]
