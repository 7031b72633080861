"""Copies: rows, not bytes."""

from __future__ import annotations

import os

import pytest

from support.s3_calls import S3

DATA = os.urandom(6 * 1024 * 1024)


@pytest.fixture
async def source(s3: S3) -> str:
    await s3("CreateBucket", Bucket="from")
    await s3("CreateBucket", Bucket="to-bucket")
    await s3(
        "PutObject",
        Bucket="from",
        Key="a b/ü+1",
        Body=DATA,
        ContentType="a/b",
        Metadata={"x": "y"},
        Tagging="t=1",
        StorageClass="GLACIER",
        ServerSideEncryption="AES256",
        ChecksumAlgorithm="CRC32",
        WebsiteRedirectLocation="/x",
    )
    return "from/a%20b/%C3%BC%2B1"


async def test_a_copy_shares_the_bytes_until_the_last_is_gone(s3: S3, source: str) -> None:
    copied = await s3("CopyObject", Bucket="to-bucket", Key="c", CopySource=source)
    original = await s3("HeadObject", Bucket="from", Key="a b/ü+1")
    assert copied["CopyObjectResult"]["ETag"] == original["ETag"]
    assert len(s3.files()) == 1
    await s3("DeleteObject", Bucket="from", Key="a b/ü+1")
    assert await s3.bytes_of("to-bucket", "c") == DATA
    await s3("PutObject", Bucket="to-bucket", Key="c", Body=b"")
    [file] = s3.files()
    assert file.stat().st_size == 0


async def test_directives_say_what_is_taken_over(s3: S3, source: str) -> None:
    await s3("CopyObject", Bucket="to-bucket", Key="same", CopySource=f"/{source}?versionId=null")
    got = await s3("HeadObject", Bucket="to-bucket", Key="same", ChecksumMode="ENABLED")
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("a/b", {"x": "y"}, 1)
    assert not {"StorageClass", "ServerSideEncryption", "WebsiteRedirectLocation"} & got.keys()
    assert "ChecksumCRC32" in got
    await s3(
        "CopyObject",
        Bucket="to-bucket",
        Key="new",
        CopySource=source,
        MetadataDirective="REPLACE",
        TaggingDirective="REPLACE",
        Metadata={"n": "m"},
        Tagging="u=2&v=3",
        StorageClass="STANDARD_IA",
        ServerSideEncryption="aws:kms",
    )
    got = await s3("HeadObject", Bucket="to-bucket", Key="new")
    assert (got["ContentType"], got["Metadata"], got["TagCount"]) == ("binary/octet-stream", {"n": "m"}, 2)
    assert (got["StorageClass"], got["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms")
    fault = await s3.fault("CopyObject", Bucket="to-bucket", Key="x", CopySource=source, MetadataDirective="MERGE")
    assert fault.code == "InvalidArgument"


async def test_onto_itself_only_with_a_change(s3: S3, source: str) -> None:
    onto = {"Bucket": "from", "Key": "a b/ü+1", "CopySource": source}
    assert (await s3.fault("CopyObject", **onto, StorageClass="GLACIER")).code == "InvalidRequest"
    await s3("CopyObject", **onto, MetadataDirective="REPLACE", Metadata={"new": "1"})
    assert (await s3("HeadObject", Bucket="from", Key="a b/ü+1"))["Metadata"] == {"new": "1"}
    assert await s3.bytes_of("from", "a b/ü+1") == DATA
    assert len(s3.files()) == 1


async def test_conditions_on_source_and_target(s3: S3, source: str) -> None:
    tag = (await s3("HeadObject", Bucket="from", Key="a b/ü+1"))["ETag"]
    to = {"Bucket": "to-bucket", "Key": "c", "CopySource": source}
    for failing in ({"CopySourceIfMatch": "x"}, {"CopySourceIfNoneMatch": tag}):
        fault = await s3.fault("CopyObject", **to, **failing)
        assert (fault.code, fault.status) == ("PreconditionFailed", 412)
    await s3("CopyObject", **to, CopySourceIfMatch=tag, IfNoneMatch="*")
    assert (await s3.fault("CopyObject", **to, IfNoneMatch="*")).status == 412


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("from/none", "NoSuchKey"),
        ("nowhere/k", "NoSuchBucket"),
        ("from", "InvalidArgument"),
        ("/", "InvalidArgument"),
        ("from/a?versionId=abc", "NoSuchVersion"),
    ],
)
async def test_sources_that_are_none(s3: S3, source: str, name: str, code: str) -> None:
    assert (await s3.fault("CopyObject", Bucket="to-bucket", Key="c", CopySource=name)).code == code
    owner = {"ExpectedSourceBucketOwner": "111111111111"}
    assert (await s3.fault("CopyObject", Bucket="to-bucket", Key="c", CopySource=source, **owner)).status == 403


async def test_a_checksum_may_be_asked_for(s3: S3, source: str) -> None:
    copied = await s3("CopyObject", Bucket="to-bucket", Key="c", CopySource=source, ChecksumAlgorithm="SHA256")
    got = await s3("HeadObject", Bucket="to-bucket", Key="c", ChecksumMode="ENABLED")
    assert got["ChecksumSHA256"] == copied["CopyObjectResult"]["ChecksumSHA256"]
    assert "ChecksumCRC32" not in got


async def test_parts_may_be_copied_with_ranges(s3: S3, source: str) -> None:
    begun = await s3("CreateMultipartUpload", Bucket="to-bucket", Key="c", ChecksumAlgorithm="CRC32")
    name = {"Bucket": "to-bucket", "Key": "c", "UploadId": begun["UploadId"], "CopySource": source}
    half = 5 * 1024 * 1024
    parts = []
    for number, span in enumerate((f"bytes=0-{half - 1}", f"bytes={half}-{len(DATA) - 1}", None), start=1):
        asked = {"CopySourceRange": span} if span else {}
        part = (await s3("UploadPartCopy", **name, PartNumber=number, **asked))["CopyPartResult"]
        assert "ChecksumCRC32" in part
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
    # the second is smaller than a part may be before the last
    del name["CopySource"]
    fault = await s3.fault("CompleteMultipartUpload", **name, MultipartUpload={"Parts": parts})
    assert fault.code == "EntityTooSmall"
    await s3("CompleteMultipartUpload", **name, MultipartUpload={"Parts": parts[:2]})
    assert await s3.bytes_of("to-bucket", "c") == DATA
    assert len(s3.files()) == 2


@pytest.mark.parametrize("span", ["0-1", "bytes=0-", "bytes=5-2", "bytes=0-99999999", "bytes=-5"])
async def test_bad_source_ranges(s3: S3, source: str, span: str) -> None:
    begun = await s3("CreateMultipartUpload", Bucket="to-bucket", Key="c")
    name = {"Bucket": "to-bucket", "Key": "c", "UploadId": begun["UploadId"], "CopySource": source}
    assert (await s3.fault("UploadPartCopy", **name, PartNumber=1, CopySourceRange=span)).code == "InvalidArgument"
    assert len(s3.files()) == 1
