"""Pipe channels: what an epoch's bytes are, read as a program reads them."""

from __future__ import annotations

import gzip
import json
import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from sagewright.workloads.transfer import TransferPhase
from suites.pipes import Fed, piped, records

if TYPE_CHECKING:
    from conftest import Bench

DONE, FAILED = TransferPhase.DONE, TransferPhase.FAILED


async def test_every_epoch_is_all_objects_in_the_order_of_their_keys(bench: Bench, fed: Fed) -> None:
    for name in ("b", "a", "c/d", "folder/"):
        bench.objects.put("b", f"data/{name}", b"" if name.endswith("/") else f"<{name}>".encode() * 3)
    assert (await fed.stage(piped())).phase is DONE
    assert not (fed.data / "train").exists()
    assert (fed.data / "train_0").is_fifo()
    fed.start()
    for epoch in range(3):
        assert fed.read(f"train_{epoch}") == b"<a>" * 3 + b"<b>" * 3 + b"<c/d>" * 3


async def test_what_changes_meanwhile_is_not_seen(bench: Bench, fed: Fed) -> None:
    bench.objects.put("b", "data/a", b"as it was")
    bench.objects.put("b", "data/b", b", all of it")
    await fed.stage(piped())
    fed.start()
    assert fed.read("train_0") == b"as it was, all of it"
    bench.objects.put("b", "data/a", b"something else")
    bench.objects.delete("b", "data/b")
    assert fed.read("train_1") == b"as it was, all of it"


async def test_more_objects_than_a_page_as_records(bench: Bench, fed: Fed) -> None:
    contents = [os.urandom(number % 11) for number in range(1500)]
    for number, content in enumerate(contents):
        bench.objects.put("b", f"data/{number:05}", content)
    await fed.stage(piped(records=True))
    fed.start()
    assert records(fed.read("train_0")) == contents


async def test_big_objects_stay_whole_as_bytes_and_as_records(bench: Bench, fed: Fed) -> None:
    content = random.Random(1).randbytes(5_000_001)
    bench.objects.put("b", "data/big", content)
    bench.objects.put("b", "data/small", b"s")
    wrapped = replace(piped(records=True), channel="wrapped")
    await fed.stage(piped(), wrapped)
    fed.start()
    assert fed.read("train_0") == content + b"s"
    assert records(fed.read("wrapped_0")) == [content, b"s"]


@pytest.mark.parametrize("wrapped", [False, True])
async def test_gzip_objects_are_unpacked(bench: Bench, fed: Fed, wrapped: bool) -> None:
    long = random.Random(2).randbytes(3_000_000) * 3
    members = gzip.compress(b"one") + gzip.compress(b"two") + b"\0" * 512
    for name, content in (("a", members), ("b", gzip.compress(long, 1)), ("c", b""), ("d", gzip.compress(b""))):
        bench.objects.put("b", f"data/{name}", content)
    await fed.stage(piped(gunzip=True, records=wrapped))
    fed.start()
    read = fed.read("train_0")
    assert records(read) == [b"onetwo", long, b"", b""] if wrapped else read == b"onetwo" + long


@pytest.mark.parametrize("content", [b"plain text", gzip.compress(b"cut off" * 1000, mtime=0)[:-9]])
async def test_what_is_no_gzip_fails_by_name_and_shows_no_end(bench: Bench, fed: Fed, content: bytes) -> None:
    bench.objects.put("b", "data/a", gzip.compress(b"fine"))
    bench.objects.put("b", "data/broken", content)
    await fed.stage(piped(gunzip=True))
    fed.start()
    pipe = fed.opened("train_0")
    state = fed.phase(FAILED)
    assert state is not None
    assert "Object s3://b/data/broken cannot be unpacked" in state.message
    os.set_blocking(pipe, False)
    with open(pipe, "rb", buffering=0) as end:
        assert end.read(100) in (None, b"fine")
        assert end.read(100) is None, "an end of file would pass for the end of the epoch"


async def test_a_seed_gives_each_epoch_another_order_and_always_the_same_one(bench: Bench, fed: Fed) -> None:
    names = [f"{number:02}" for number in range(40)]
    for name in names:
        bench.objects.put("b", f"data/{name}", name.encode())
    one, other = piped(seed=7), replace(piped(seed=7), channel="again")
    await fed.stage(one, other, replace(piped(seed=8), channel="else"))
    fed.start()
    first, second = fed.read("train_0"), fed.read("train_1")
    assert first != second
    for read in (first, second):
        assert read != "".join(names).encode()
        assert sorted(read[place : place + 2].decode() for place in range(0, 80, 2)) == names
    assert fed.read("again_0") == first
    assert fed.read("again_1") == second
    assert fed.read("else_0") != first


async def test_shares_are_apart_and_together_everything(bench: Bench, fed: Fed) -> None:
    names = [f"{number:02}" for number in range(10)]
    for name in names:
        bench.objects.put("b", f"data/{name}", name.encode())
    shares = [replace(piped(shard=number, shards=3), channel=f"plain-{number}") for number in range(3)]
    moved = [replace(piped(shard=number, shards=3, seed=1), channel=f"moved-{number}") for number in range(3)]
    await fed.stage(*shares, *moved)
    fed.start()
    assert fed.read("plain-0_0") == b"00030609"
    assert fed.read("plain-1_0") == b"010407"

    def epoch(number: int) -> list[list[str]]:
        read = [fed.read(f"moved-{host}_{number}").decode() for host in range(3)]
        return [[each[place : place + 2] for place in range(0, len(each), 2)] for each in read]

    before, after = epoch(0), epoch(1)
    for shared in (before, after):
        assert sorted(name for share in shared for name in share) == names
    assert [set(each) for each in before] != [set(each) for each in after], "what a host gets changes"


async def test_a_manifest_is_streamed_in_its_own_order(bench: Bench, fed: Fed) -> None:
    for name in "abc":
        bench.objects.put("b", f"data/{name}", name.encode())
    bench.objects.put("b", "list", json.dumps([{"prefix": "s3://b/data/"}, "c", "a"]).encode())
    await fed.stage(piped("s3://b/list", manifest=True))
    fed.start()
    assert fed.read("train_0") == b"ca"


async def test_an_augmented_manifest_streams_the_attributes_in_their_order(bench: Bench, fed: Fed) -> None:
    bench.objects.create_bucket("far")
    bench.objects.put("b", "images/1.jpg", b"JPEG ONE")
    bench.objects.put("far", "2.jpg", b"JPEG TWO")
    lines = (
        {"class": 1, "image-ref": "s3://b/images/1.jpg", "other": {}},
        {"image-ref": "s3://far/2.jpg", "class": {"a": [1.5, "ü"]}},
        {"image-ref": "s3://b/images/1.jpg", "class": "cat"},
    )
    bench.objects.put("b", "augmented", b"\n".join(json.dumps(line).encode() for line in lines))
    wanted = ("image-ref", "class")
    plain = replace(piped("s3://b/augmented", attributes=wanted[::-1]), channel="plain")
    await fed.stage(piped("s3://b/augmented", attributes=wanted, records=True), plain)
    fed.start()
    told = [b"JPEG ONE", b"1", b"JPEG TWO", '{"a":[1.5,"ü"]}'.encode(), b"JPEG ONE", b"cat"]
    assert records(fed.read("train_0")) == told
    assert fed.read("plain_0") == b"".join(told[number ^ 1] for number in range(6))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            b'{"image-ref": "s3://b/a"',
            "Line 2 of the augmented manifest s3://b/augmented of channel 'train' is not JSON",
        ),
        (b"[1]", "Line 2 of the augmented manifest s3://b/augmented of channel 'train' is not a JSON object"),
        (b'{"class": 1}', "has no attribute 'image-ref', which AttributeNames asks for"),
        (b'{"image-ref": "a"}', "attribute 'image-ref' has to be the S3 URI of an object"),
        (b'{"image-ref": "s3://b/gone"}', "objects that do not exist, the first of them s3://b/gone"),
        (b'{"image-ref": "s3://nowhere/gone"}', "objects that do not exist, the first of them s3://nowhere/gone"),
    ],
)
async def test_a_broken_line_is_named(bench: Bench, fed: Fed, line: bytes, said: str) -> None:
    bench.objects.put("b", "a", b"a")
    bench.objects.put("b", "augmented", b'{"image-ref": "s3://b/a"}\n' + line)
    state = await fed.stage(piped("s3://b/augmented", attributes=("image-ref",)))
    assert state.phase is FAILED
    assert said in state.message


@pytest.mark.parametrize("pipe", [{}, {"attributes": ("a",)}, {"seed": 1}])
async def test_nothing_found_fails_as_aws_says_it(bench: Bench, fed: Fed, pipe: dict[str, object]) -> None:
    for uri in ("s3://b/none/", "s3://nowhere/none"):
        state = await fed.stage(piped(uri, **pipe))
        assert f'No S3 objects found under S3 URL "{uri}"' in state.message
