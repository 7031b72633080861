"""The same rows on PostgreSQL: order of keys, every character, uploads, shared content, the sweep."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sagewright.objects.sweep import sweep
from support.postgres import postgres_url
from support.s3_calls import S3, open_s3

KEYS = ["a", "B", "é", "z", "a/b", "a-b", "a b", "\x00", "ä", "😀", "\uffee", "~", "_"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres_url() as made:
        yield made


@pytest.fixture
def remote(url: str, tmp_path: Path) -> Iterator[S3]:
    made = open_s3(tmp_path, url)
    yield made
    made.store.close()


async def test_keys_are_in_byte_order(remote: S3) -> None:
    await remote("CreateBucket", Bucket="order")
    for key in KEYS:
        await remote("PutObject", Bucket="order", Key=key, Body=key.encode())
    listed = (await remote("ListObjectsV2", Bucket="order"))["Contents"]
    assert [entry["Key"] for entry in listed] == sorted(KEYS, key=str.encode)
    rolled = await remote("ListObjectsV2", Bucket="order", Delimiter="/", Prefix="a")
    assert [entry["Key"] for entry in rolled["Contents"]] == ["a", "a b", "a-b"]
    assert rolled["CommonPrefixes"] == [{"Prefix": "a/"}]
    for key in KEYS:
        assert await remote.bytes_of("order", key) == key.encode()


async def test_uploads_copies_and_the_sweep(remote: S3) -> None:
    await remote("CreateBucket", Bucket="uploads")
    for key in ("k", "k", "other/x"):
        name = {"Bucket": "uploads", "Key": key}
        name["UploadId"] = (await remote("CreateMultipartUpload", **name))["UploadId"]
        part = await remote("UploadPart", **name, PartNumber=1, Body=key.encode())
        part = await remote("UploadPart", **name, PartNumber=1, Body=key.encode() * 2)
    page = await remote("ListMultipartUploads", Bucket="uploads", MaxUploads=2, Delimiter="/")
    rest = await remote(
        "ListMultipartUploads",
        Bucket="uploads",
        Delimiter="/",
        KeyMarker=page["NextKeyMarker"],
        UploadIdMarker=page["NextUploadIdMarker"],
    )
    assert [entry["Key"] for entry in page["Uploads"]] == ["k", "k"]
    assert rest["CommonPrefixes"] == [{"Prefix": "other/"}]
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    await remote("CompleteMultipartUpload", **name, MultipartUpload=parts)
    await remote("CopyObject", Bucket="uploads", Key="copy", CopySource="uploads/other/x")
    await remote("DeleteObject", Bucket="uploads", Key="other/x")
    sweep(remote.store, remote.blobs, timedelta(0))
    assert await remote.bytes_of("uploads", "copy") == b"other/xother/x"
    assert len(remote.files()) == 3
    await remote("DeleteObject", Bucket="uploads", Key="copy")
    await remote("DeleteBucket", Bucket="uploads")
    assert remote.files() == []
