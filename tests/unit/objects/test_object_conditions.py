"""Ranges and conditions, on reads and writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.objects.ranges import requested
from sagewright.wire.faults import ApiFault
from support.s3_calls import S3, read_all

DATA = bytes(range(100))
LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)
SOON = datetime.now(UTC) + timedelta(days=1)


@pytest.fixture
async def etag(s3: S3) -> str:
    await s3("CreateBucket", Bucket="bucket")
    return str((await s3("PutObject", Bucket="bucket", Key="k", Body=DATA))["ETag"])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", DATA[:1]),
        ("bytes=10-19", DATA[10:20]),
        ("bytes=90-", DATA[90:]),
        ("bytes=-10", DATA[-10:]),
        ("bytes=-1000", DATA),
        ("bytes=50-1000", DATA[50:]),
        ("BYTES = 1-2", DATA[1:3]),
    ],
)
async def test_ranges(s3: S3, etag: str, header: str, expected: bytes) -> None:
    got = await s3("GetObject", Bucket="bucket", Key="k", Range=header, IfMatch=etag)
    assert await read_all(got["Body"]) == expected
    start = 100 - len(expected) if header == "bytes=-1000" else DATA.index(expected)
    assert got["ContentRange"] == f"bytes {start}-{start + len(expected) - 1}/100"
    assert got["ContentLength"] == len(expected)
    assert (await s3("HeadObject", Bucket="bucket", Key="k", Range=header))["ContentRange"] == got["ContentRange"]


@pytest.mark.parametrize(
    "header", ["bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=1-2,4-5", "bytes=-", "", "bytes=１-２"]
)
async def test_what_is_no_single_range_is_ignored(s3: S3, etag: str, header: str) -> None:
    got = await s3("GetObject", Bucket="bucket", Key="k", Range=header)
    assert await read_all(got["Body"]) == DATA
    assert "ContentRange" not in got


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
async def test_ranges_outside_are_not_satisfiable(s3: S3, etag: str, header: str) -> None:
    fault = await s3.fault("GetObject", Bucket="bucket", Key="k", Range=header)
    assert (fault.code, fault.status, fault.headers) == ("InvalidRange", 416, {"Content-Range": "bytes */100"})
    assert fault.members == {"RangeRequested": header, "ActualObjectSize": "100"}


async def test_an_empty_object_has_no_range(s3: S3, etag: str) -> None:
    await s3("PutObject", Bucket="bucket", Key="empty")
    assert await s3.bytes_of("bucket", "empty") == b""
    for header in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        assert (await s3.fault("GetObject", Bucket="bucket", Key="empty", Range=header)).status == 416


@settings(max_examples=300)
@given(st.integers(0, 20), st.one_of(st.none(), st.integers(0, 25)), st.one_of(st.none(), st.integers(0, 25)))
def test_a_range_is_what_slicing_says(size: int, first: int | None, last: int | None) -> None:
    header = f"bytes={'' if first is None else first}-{'' if last is None else last}"
    data = bytes(range(size))
    if (first is None and last is None) or (first is not None and last is not None and first > last):
        assert requested(header, size) is None
        return
    expected = data[max(size - (last or 0), 0) :] if first is None else data[first : None if last is None else last + 1]
    if not expected:
        with pytest.raises(ApiFault):
            requested(header, size)
        return
    span = requested(header, size)
    assert span is not None
    assert data[span.start : span.start + span.length] == expected


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"IfMatch": "*"}, 200),
        ({"IfMatch": "wrong"}, 412),
        ({"IfMatch": '"wrong", {etag}'}, 200),
        ({"IfMatch": "{bare}"}, 200),
        ({"IfNoneMatch": "{etag}"}, 304),
        ({"IfNoneMatch": "W/{etag}"}, 304),
        ({"IfNoneMatch": "*"}, 304),
        ({"IfNoneMatch": "wrong"}, 200),
        ({"IfModifiedSince": LONG_AGO}, 200),
        ({"IfModifiedSince": SOON}, 304),
        ({"IfUnmodifiedSince": LONG_AGO}, 412),
        ({"IfUnmodifiedSince": SOON}, 200),
        ({"IfMatch": "{etag}", "IfUnmodifiedSince": LONG_AGO}, 200),
        ({"IfNoneMatch": "{etag}", "IfModifiedSince": LONG_AGO}, 304),
        ({"IfNoneMatch": "wrong", "IfModifiedSince": SOON}, 200),
        ({"IfMatch": "wrong", "IfNoneMatch": "{etag}"}, 412),
    ],
)
async def test_conditional_reads(s3: S3, etag: str, params: dict[str, object], status: int) -> None:
    texts = {"etag": etag, "bare": etag.strip('"')}
    filled = {n: v.format(**texts) if isinstance(v, str) else v for n, v in params.items()}
    for operation in ("GetObject", "HeadObject"):
        if status == 200:
            await s3(operation, Bucket="bucket", Key="k", **filled)
            continue
        fault = await s3.fault(operation, Bucket="bucket", Key="k", **filled)
        assert fault.status == status
        if status == 304:
            assert fault.headers["ETag"] == etag


async def test_last_modified_as_it_was_given_counts_as_unchanged(s3: S3, etag: str) -> None:
    moment = (await s3("HeadObject", Bucket="bucket", Key="k"))["LastModified"]
    assert (await s3.fault("GetObject", Bucket="bucket", Key="k", IfModifiedSince=moment)).status == 304
    await s3("GetObject", Bucket="bucket", Key="k", IfUnmodifiedSince=moment)


async def test_conditional_writes(s3: S3, etag: str) -> None:
    fault = await s3.fault("PutObject", Bucket="bucket", Key="k", Body=b"new", IfNoneMatch="*")
    assert (fault.code, fault.status, fault.members["Condition"]) == ("PreconditionFailed", 412, "If-None-Match")
    await s3("PutObject", Bucket="bucket", Key="fresh", Body=b"new", IfNoneMatch="*")
    assert (await s3.fault("PutObject", Bucket="bucket", Key="k", Body=b"new", IfMatch="wrong")).status == 412
    assert (await s3.fault("PutObject", Bucket="bucket", Key="none", Body=b"x", IfMatch=etag)).code == "NoSuchKey"
    assert (await s3.fault("PutObject", Bucket="bucket", Key="k", Body=b"x", IfNoneMatch=etag)).code == "NotImplemented"
    assert await s3.bytes_of("bucket", "k") == DATA
    await s3("PutObject", Bucket="bucket", Key="k", Body=b"new", IfMatch=etag)
    assert await s3.bytes_of("bucket", "k") == b"new"
    assert len(s3.files()) == 2


async def test_conditional_deletes(s3: S3, etag: str) -> None:
    for wrong in ({"IfMatch": "wrong"}, {"IfMatchSize": 1}, {"IfMatchLastModifiedTime": LONG_AGO}):
        assert (await s3.fault("DeleteObject", Bucket="bucket", Key="k", **wrong)).status == 412
    assert (await s3.fault("DeleteObject", Bucket="bucket", Key="none", IfMatch=etag)).code == "NoSuchKey"
    await s3("DeleteObject", Bucket="bucket", Key="none", IfMatchSize=1)
    await s3("DeleteObject", Bucket="bucket", Key="k", IfMatch=etag, IfMatchSize=100)
    assert s3.files() == []
