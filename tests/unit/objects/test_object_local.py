"""Objects beside the store, and what services ask of rows."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from sagewright.core.errors import NotFound, TransferError
from sagewright.objects.local import LocalObjects
from sagewright.store import object_rows
from support.s3_calls import ACCOUNT, S3, STRANGER


@pytest.fixture
async def local(s3: S3) -> LocalObjects:
    await s3("CreateBucket", Bucket="bucket")
    return LocalObjects(s3.store, s3.blobs)


async def test_a_stream_becomes_an_object(s3: S3, local: LocalObjects) -> None:
    with local.put_stream("bucket", "model.tar.gz", "application/gzip") as writer:
        writer.write(b"one")
        writer.write(b"two")
        assert (await s3("ListObjectsV2", Bucket="bucket"))["KeyCount"] == 0
        writer.commit()
    got = await s3("GetObject", Bucket="bucket", Key="model.tar.gz")
    assert (got["Body"], got["ContentType"]) == (b"onetwo", "application/gzip")
    assert got["ETag"].strip('"') == hashlib.md5(b"onetwo").hexdigest() == writer.etag
    with local.open("bucket", "model.tar.gz") as file:
        assert file.read() == b"onetwo"


async def test_without_a_commit_nothing_is_left(s3: S3, local: LocalObjects) -> None:
    with local.put_stream("bucket", "k") as writer:
        writer.write(b"half")
    writer.cancel()
    assert s3.files() == []
    with local.put_stream("bucket", "k") as writer:
        writer.commit()
        writer.cancel()
    assert await s3.bytes_of("bucket", "k") == b""


async def test_a_batch_appears_in_one_step(s3: S3, local: LocalObjects) -> None:
    await s3("PutObject", Bucket="bucket", Key="old", Body=b"old")
    batch = local.batch()
    for key, body in (("old", b"new"), ("other", b"")):
        with batch.put_stream("bucket", key, "text/plain") as writer:
            writer.write(body)
            writer.commit()
    assert await s3.bytes_of("bucket", "old") == b"old"
    assert (await s3("ListObjectsV2", Bucket="bucket"))["KeyCount"] == 1
    batch.publish()
    batch.cancel()
    assert [await s3.bytes_of("bucket", key) for key in ("old", "other")] == [b"new", b""]
    assert len(s3.files()) == 2, "what was replaced is gone"


async def test_a_batch_that_is_cancelled_or_cannot_be_published_leaves_nothing(s3: S3, local: LocalObjects) -> None:
    await s3("CreateBucket", Bucket="short-lived")
    batch = local.batch()
    for bucket in ("bucket", "short-lived"):
        with batch.put_stream(bucket, "k") as writer:
            writer.write(b"written")
            writer.commit()
    with batch.put_stream("bucket", "half") as writer:
        writer.write(b"not committed")
    await s3("DeleteBucket", Bucket="short-lived")
    with pytest.raises(NotFound):
        batch.publish()
    batch.cancel()
    assert ((await s3("ListObjectsV2", Bucket="bucket"))["KeyCount"], s3.files()) == (0, [])


async def test_a_batch_does_not_wait_until_it_is_swept(
    s3: S3, local: LocalObjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagewright.objects.local.TOGETHER", -1.0)
    batch = local.batch()
    with batch.put_stream("bucket", "k") as writer:
        writer.write(b"published at once")
        writer.commit()
    batch.cancel()
    assert await s3.bytes_of("bucket", "k") == b"published at once"


async def test_deleting(s3: S3, local: LocalObjects) -> None:
    await s3("PutObject", Bucket="bucket", Key="k", Body=b"1")
    local.delete("bucket", "k")
    local.delete("bucket", "k")
    assert ((await s3("ListObjectsV2", Bucket="bucket"))["KeyCount"], s3.files()) == (0, [])
    with pytest.raises(NotFound):
        local.delete("none", "k")


async def test_lists_give_the_files(s3: S3, local: LocalObjects) -> None:
    for key in ("in/1", "in/2", "in", "inside", "other"):
        await s3("PutObject", Bucket="bucket", Key=key, Body=key.encode())
    found = list(local.list("bucket", "in/"))
    assert [(entry.key, entry.size) for entry in found] == [("in/1", 4), ("in/2", 4)]
    assert [Path(str(entry.content_path)).read_bytes() for entry in found] == [b"in/1", b"in/2"]
    assert len(list(local.list("bucket", ""))) == 5


async def test_lists_go_on_beyond_a_page(s3: S3, local: LocalObjects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sagewright.objects.local.PAGE", 2)
    for number in range(5):
        await s3("PutObject", Bucket="bucket", Key=f"k{number}", Body=b"")
    assert [entry.key for entry in local.list("bucket", "k")] == [f"k{number}" for number in range(5)]


async def test_what_is_missing_is_not_found(local: LocalObjects) -> None:
    for attempt in (
        lambda: local.open("bucket", "none"),
        lambda: local.open("nowhere", "none"),
        lambda: list(local.list("nowhere", "")),
        lambda: local.put_stream("nowhere", "k"),
    ):
        with pytest.raises(NotFound):
            attempt()
    with pytest.raises(TransferError, match="1024"):
        local.put_stream("bucket", "x" * 1025)
    assert local.bucket_exists("bucket")
    assert local.bucket_exists("bucket", ACCOUNT)
    assert not local.bucket_exists("bucket", STRANGER)
    assert not local.bucket_exists("nowhere")


async def test_services_can_ask_what_exists(s3: S3, local: LocalObjects) -> None:
    await s3("PutObject", Bucket="bucket", Key="data/x", Body=b"")

    def ask(bucket: str, prefix: str) -> bool:
        return s3.store.read(lambda tx: object_rows.any_object(tx, bucket, prefix))

    assert ask("bucket", "data/")
    assert ask("bucket", "")
    assert not ask("bucket", "data/y")
    assert not ask("nowhere", "")
    assert s3.store.read(lambda tx: object_rows.bucket_exists(tx, ACCOUNT, "bucket"))
    assert not s3.store.read(lambda tx: object_rows.bucket_exists(tx, STRANGER, "bucket"))


def test_the_controller_gets_no_botocore_by_it() -> None:
    program = (
        "import sys, sagewright.objects.local; sys.exit(any(m.startswith(('botocore', 'awscrt')) for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
