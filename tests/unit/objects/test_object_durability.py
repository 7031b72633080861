"""What is left after clients, disks and processes give up in the middle."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sagewright.core.errors import BlobStoreFull, StoreUnavailable
from sagewright.objects.content import content_path
from sagewright.objects.sweep import sweep
from sagewright.store import object_rows
from support.s3_calls import S3, Stream, open_s3, read_all

MIB = 1024 * 1024
BIG = [b"%064d" % number * 1024 for number in range(80)]  # 5 MiB and a bit: a part may be that small


@pytest.fixture
async def bucket(s3: S3) -> str:
    await s3("CreateBucket", Bucket="bucket")
    return "bucket"


@pytest.mark.parametrize("before", [b"", b"old"])
@pytest.mark.parametrize("pieces", [[b"x"], BIG])
async def test_a_cut_upload_leaves_what_was_there(s3: S3, bucket: str, before: bytes, pieces: list[bytes]) -> None:
    if before:
        await s3("PutObject", Bucket=bucket, Key="k", Body=before)
    with pytest.raises(ConnectionError):
        await s3("PutObject", Stream(pieces, breaks=ConnectionError("gone")), Bucket=bucket, Key="k")
    assert len(s3.files()) == bool(before)
    if before:
        assert await s3.bytes_of(bucket, "k") == before


async def test_a_cancelled_upload_leaves_nothing(s3: S3, bucket: str) -> None:
    """At every stage: waiting for bytes, with a batch in a thread, while it is being published."""
    started = asyncio.Event()

    class Slow(Stream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in BIG:
                yield piece
            started.set()
            await asyncio.sleep(60)

    task = asyncio.ensure_future(s3("PutObject", Slow([]), Bucket=bucket, Key="k"))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert s3.files() == []
    for turns in range(12):
        task = asyncio.ensure_future(s3("PutObject", Stream(BIG), Bucket=bucket, Key="k"))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        there = (await s3("ListObjectsV2", Bucket=bucket))["KeyCount"]
        assert len(s3.files()) == there
        if there:
            assert await s3.bytes_of(bucket, "k") == b"".join(BIG)


async def test_a_bucket_deleted_under_an_upload_keeps_nothing(s3: S3, bucket: str) -> None:
    class Deleting(Stream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"x"
            await s3("DeleteBucket", Bucket=bucket)

    fault = await s3.fault("PutObject", Deleting([]), Bucket=bucket, Key="k")
    assert fault.code == "NoSuchBucket"
    assert s3.files() == []


async def test_a_database_that_refuses_the_row_keeps_no_bytes(s3: S3, bucket: str, monkeypatch: Any) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"old")

    def refuse(work: Any) -> Any:
        raise StoreUnavailable("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(s3.store, "write", refuse)
        with pytest.raises(StoreUnavailable):
            await s3("PutObject", Bucket=bucket, Key="k", Body=b"new")
    assert await s3.bytes_of(bucket, "k") == b"old"
    assert len(s3.files()) == 1


async def test_a_commit_whose_answer_was_lost_keeps_the_bytes(s3: S3, bucket: str, monkeypatch: Any) -> None:
    """The database committed, but we were told that it is gone: the row names the content, so it must stay."""
    commit = s3.store.write

    def lose(work: Any) -> Any:
        commit(work)
        raise StoreUnavailable("connection lost")

    with monkeypatch.context() as patched:
        patched.setattr(s3.store, "write", lose)
        with pytest.raises(StoreUnavailable):
            await s3("PutObject", Bucket=bucket, Key="k", Body=b"new")
    assert await s3.bytes_of(bucket, "k") == b"new"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting needs root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


async def test_a_full_disk_is_said_and_leaves_nothing(tmp_path: Path, small_disk: Path) -> None:
    s3 = open_s3(small_disk)
    try:
        await s3("CreateBucket", Bucket="bucket")
        await s3("PutObject", Bucket="bucket", Key="k", Body=b"old")
        with pytest.raises(BlobStoreFull):
            await s3("PutObject", Stream([b"x" * MIB] * 40), Bucket="bucket", Key="k")
        assert len(s3.files()) == 1
        assert await s3.bytes_of("bucket", "k") == b"old"
        begun = await s3("CreateMultipartUpload", Bucket="bucket", Key="k")
        name = {"Bucket": "bucket", "Key": "k", "UploadId": begun["UploadId"]}
        parts = []
        for number in (1, 2):
            part = await s3("UploadPart", Stream([b"p" * MIB] * 7), **name, PartNumber=number)
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        with pytest.raises(BlobStoreFull):  # parts and object do not fit together
            await s3("CompleteMultipartUpload", **name, MultipartUpload={"Parts": parts})
        assert len(s3.files()) == 3
        await s3("DeleteObject", Bucket="bucket", Key="k")
        await s3("AbortMultipartUpload", **name)
        assert s3.files() == []
        await s3("PutObject", Stream([b"x" * MIB] * 10), Bucket="bucket", Key="k")
    finally:
        s3.store.close()


async def test_a_reader_is_not_disturbed_by_overwriting_and_deleting(s3: S3, bucket: str) -> None:
    await s3("PutObject", Stream(BIG), Bucket=bucket, Key="k")
    opened = [(await s3("GetObject", Bucket=bucket, Key="k"))["Body"] for _ in range(2)]
    first = [await anext(body) for body in opened]
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"new")
    await s3("DeleteObject", Bucket=bucket, Key="k")
    for start, body in zip(first, opened, strict=True):
        assert start + await read_all(body) == b"".join(BIG)


async def test_eight_writers_on_one_key_never_tear_it(s3: S3, bucket: str) -> None:
    sizes = [7, 300_000, 2 * MIB]
    stop = time.monotonic() + 3
    seen = set()

    async def write(writer: int) -> None:
        while time.monotonic() < stop:
            letter, size = bytes([65 + writer]), random.choice(sizes)
            if random.random() < 0.1:
                await s3("DeleteObject", Bucket=bucket, Key="k")
            await s3("PutObject", Stream([letter * size]), Bucket=bucket, Key="k", Metadata={"size": str(size)})

    async def read() -> None:
        while time.monotonic() < stop:
            try:
                got = await s3("GetObject", Bucket=bucket, Key="k")
            except Exception as error:
                assert getattr(error, "code", "") == "NoSuchKey", error  # noqa: PT017 - anything else is the bug
                await asyncio.sleep(0)
                continue
            data = await read_all(got["Body"])
            assert len(data) == got["ContentLength"] == int(got["Metadata"]["size"])
            assert data == data[:1] * len(data)
            seen.add(data[:1])

    await asyncio.gather(*(write(writer) for writer in range(8)), *(read() for _ in range(3)))
    assert len(seen) > 1
    assert len(s3.files()) == 1


async def _write_forever(folder: Path, rounds: Any) -> None:
    s3 = open_s3(folder)
    while True:
        pieces = [os.urandom(1) * 65536] * 81
        await s3("PutObject", Stream(pieces), Bucket="bucket", Key="put")
        name = {"Bucket": "bucket", "Key": "parts"}
        name["UploadId"] = (await s3("CreateMultipartUpload", **name))["UploadId"]
        parts = []
        for number in (1, 2):
            part = await s3("UploadPart", Stream(pieces), **name, PartNumber=number)
            parts.append({"PartNumber": number, "ETag": part["ETag"]})
        await s3("CompleteMultipartUpload", **name, MultipartUpload={"Parts": parts})
        await s3("CopyObject", Bucket="bucket", Key="copy", CopySource="bucket/parts")
        rounds.put(1)


async def _check_whole(folder: Path) -> None:
    s3 = open_s3(folder)
    try:
        for entry in (await s3("ListObjectsV2", Bucket="bucket"))["Contents"]:
            data = await s3.bytes_of("bucket", entry["Key"])
            assert len(data) == entry["Size"] == 81 * 65536 * (1 if entry["Key"] == "put" else 2)
            assert data == data[:1] * len(data)
        for upload in (await s3("ListMultipartUploads", Bucket="bucket"))["Uploads"]:
            await s3("AbortMultipartUpload", Bucket="bucket", Key=upload["Key"], UploadId=upload["UploadId"])
        sweep(s3.store, s3.blobs, timedelta(0))
        found = s3.store.read(lambda tx: object_rows.list_page(tx, object_rows.find_bucket(tx, "bucket")))
        assert {path.name for path in s3.files()} == {row.content_id for row in found.objects}
    finally:
        s3.store.close()


def test_a_killed_writer_leaves_the_old_or_the_new_and_the_sweep_the_rest(tmp_path: Path) -> None:
    s3 = open_s3(tmp_path)
    asyncio.run(s3("CreateBucket", Bucket="bucket"))
    s3.store.close()
    forks = multiprocessing.get_context("fork")
    rounds = forks.SimpleQueue()
    for attempt in range(12):
        writer = forks.Process(target=lambda: asyncio.run(_write_forever(tmp_path, rounds)), daemon=True)
        writer.start()
        if attempt % 4 == 0:
            rounds.get()  # let one round pass, so that there is something to overwrite
        time.sleep(random.random() * 0.4)  # any instant will do
        writer.kill()
        writer.join()
        asyncio.run(_check_whole(tmp_path))


async def test_the_sweep_takes_only_what_is_old_and_unnamed(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="kept", Body=b"kept")
    begun = await s3("CreateMultipartUpload", Bucket=bucket, Key="k")
    await s3("UploadPart", Bucket=bucket, Key="k", UploadId=begun["UploadId"], PartNumber=1, Body=b"part")
    orphans = []
    for age in (0, 7200):
        content = f"{age:032d}"
        with s3.blobs.open_write(content_path(content)) as writer:
            writer.write(b"orphan")
            writer.commit()
        path = s3.blobs.local_path(content_path(content))
        assert path is not None
        os.utime(path, (time.time() - age, time.time() - age))
        orphans.append(path)
    for path in s3.files():
        if path not in orphans:
            os.utime(path, (0, 0))
    swept = sweep(s3.store, s3.blobs, timedelta(hours=1))
    assert (swept.removed, swept.bytes) == (1, 6)
    assert [path.exists() for path in orphans] == [True, False]
    assert await s3.bytes_of(bucket, "kept") == b"kept"
    assert len(s3.files()) == 3
