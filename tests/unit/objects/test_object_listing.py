"""Lists against a model: a sorted list of keys, rolled up and cut into pages the plain way."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.store import object_rows
from sagewright.store.object_rows import ObjectRow
from support.s3_calls import S3, open_s3

LETTERS = st.text(alphabet="ab/é😀%+ ~\x7f", max_size=4)
KEYS = st.text(alphabet="ab/é😀%+ ~\x7f", min_size=1, max_size=6)


def entries(keys: set[str], prefix: str, delimiter: str) -> list[tuple[bool, str]]:
    """(is a common prefix, text) of all keys under `prefix`, in byte order."""
    found = set()
    for key in keys:
        if key.startswith(prefix):
            at = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add((True, key[: at + len(delimiter)]) if at >= 0 else (False, key))
    return sorted(found, key=lambda entry: entry[1].encode())


def shown(page: Any) -> list[tuple[bool, str]]:
    both = [(False, entry["Key"]) for entry in page["Contents"]]
    both += [(True, entry["Prefix"]) for entry in page["CommonPrefixes"]]
    return sorted(both, key=lambda entry: entry[1].encode())


async def pages(s3: S3, version: int, size: int, **params: Any) -> list[Any]:
    operation, marker = ("ListObjects", "Marker") if version == 1 else ("ListObjectsV2", "ContinuationToken")
    gathered, position = [], {}
    while True:
        page = await s3(operation, Bucket="bucket", MaxKeys=size, **(params | position))
        gathered.append(page)
        if not page["IsTruncated"]:
            return gathered
        if version == 2:
            position = {marker: page["NextContinuationToken"]}
        else:
            position = {marker: page.get("NextMarker") or page["Contents"][-1]["Key"]}


@settings(max_examples=60, deadline=None)
@given(
    keys=st.sets(KEYS, max_size=12),
    gone=st.sets(KEYS, max_size=4),
    prefix=LETTERS,
    delimiter=st.sampled_from(["", "/", "a", "é", "//", "ab", "%"]),
    after=LETTERS,
    size=st.integers(1, 5),
)
def test_lists_are_what_the_model_says(
    *, keys: set[str], gone: set[str], prefix: str, delimiter: str, after: str, size: int
) -> None:
    async def check(s3: S3) -> None:
        await s3("CreateBucket", Bucket="bucket")
        for key in keys | gone:
            await s3("PutObject", Bucket="bucket", Key=key, Body=b"")
        for key in gone - keys:
            await s3("DeleteObject", Bucket="bucket", Key=key)
        params = {"Prefix": prefix, "Delimiter": delimiter}
        for version, start in ((1, "Marker"), (2, "StartAfter")):
            for first in ("", after):
                asked = {**params, **({start: first} if first else {})}
                expected = [entry for entry in entries(keys, prefix, delimiter) if entry[1].encode() > first.encode()]
                found = await pages(s3, version, size, **asked)
                assert [entry for page in found for entry in shown(page)] == expected
                assert all(len(shown(page)) == size for page in found[:-1])
        versions = await s3("ListObjectVersions", Bucket="bucket", **params)
        assert {entry["Key"] for entry in versions["Versions"]} == {
            k for c, k in entries(keys, prefix, delimiter) if not c
        }

    with tempfile.TemporaryDirectory(dir=FAST) as folder:
        s3 = open_s3(Path(folder))
        try:
            asyncio.run(check(s3))
        finally:
            s3.store.close()


FAST = "/dev/shm" if Path("/dev/shm").is_dir() else None  # thousands of tiny commits: a disk would only cost time


@pytest.fixture
async def bucket(s3: S3) -> str:
    await s3("CreateBucket", Bucket="bucket")
    return "bucket"


async def test_version_two_shows_what_version_one_does_not(s3: S3, bucket: str) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        await s3("PutObject", Bucket=bucket, Key=key, Body=b"x")
    two = await s3("ListObjectsV2", Bucket=bucket, Delimiter="/", MaxKeys=2, FetchOwner=True, StartAfter="0")
    assert (two["KeyCount"], two["IsTruncated"], two["StartAfter"], two["Name"]) == (2, True, "0", bucket)
    assert "Owner" in two["Contents"][0]
    assert "Marker" not in two
    following = {"ContinuationToken": two["NextContinuationToken"], "StartAfter": "zzz"}
    rest = await s3("ListObjectsV2", Bucket=bucket, Delimiter="/", **following)
    assert [entry["Key"] for entry in rest["Contents"]] == ["c"]
    assert "Owner" not in rest["Contents"][0]
    one = await s3("ListObjects", Bucket=bucket, MaxKeys=2)
    assert one["IsTruncated"]
    assert "NextMarker" not in one
    assert (await s3("ListObjects", Bucket=bucket, MaxKeys=1, Delimiter="/"))["NextMarker"] == "a"


async def test_sizes_of_pages(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="a", Body=b"x")
    none = await s3("ListObjectsV2", Bucket=bucket, MaxKeys=0)
    assert (none["IsTruncated"], none["Contents"], none["KeyCount"]) == (False, [], 0)
    assert (await s3("ListObjectsV2", Bucket=bucket, MaxKeys=5000))["MaxKeys"] == 1000
    assert (await s3.fault("ListObjectsV2", Bucket=bucket, MaxKeys=-1)).code == "InvalidArgument"


@pytest.mark.parametrize("token", ["", "x", "????", "YWJj", "é"])
async def test_foreign_tokens_are_refused(s3: S3, bucket: str, token: str) -> None:
    assert (await s3.fault("ListObjectsV2", Bucket=bucket, ContinuationToken=token)).code == "InvalidArgument"


async def test_url_encoding_covers_every_name(s3: S3, bucket: str) -> None:
    for key in ("a b+/\x01&<é", "a b+/z/1"):
        await s3("PutObject", Bucket=bucket, Key=key, Body=b"x")
    got = await s3("ListObjects", Bucket=bucket, EncodingType="url", Prefix="a b", Delimiter="z", Marker="a b+")
    assert got["Contents"][0]["Key"] == "a%20b%2B/%01%26%3C%C3%A9"
    assert [unquote(entry["Prefix"]) for entry in got["CommonPrefixes"]] == ["a b+/z"]
    assert (got["Prefix"], got["Marker"], got["EncodingType"]) == ("a%20b", "a%20b%2B", "url")
    assert (await s3.fault("ListObjects", Bucket=bucket, EncodingType="rot13")).code == "InvalidArgument"


async def test_a_common_prefix_costs_one_seek_however_many_keys_lie_under_it(s3: S3, bucket: str) -> None:
    rows = [*(f"big/{number:06d}" for number in range(20_000)), "after", "zebra/1"]

    def fill(tx: Any) -> None:
        found = object_rows.find_bucket(tx, bucket)
        assert found is not None
        for key in rows:
            now = found.created_at
            object_rows.put(tx, found, ObjectRow(key, "c", 0, "e", now, {}), old=None)

    s3.store.write(fill)
    read = 0
    original = object_rows.rows

    def counted(*args: Any) -> Any:
        nonlocal read
        found = original(*args)
        read += len(found)
        return found

    object_rows.rows, kept = counted, object_rows.rows
    try:
        page = await s3("ListObjectsV2", Bucket=bucket, Delimiter="/")
    finally:
        object_rows.rows = kept
    assert shown(page) == [(False, "after"), (True, "big/"), (True, "zebra/")]
    assert read < 100
