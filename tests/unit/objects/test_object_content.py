"""Objects: what goes in comes out, with everything it carries."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import pytest

from support.s3_calls import S3, Stream, read_all

KEYS = [
    "k",
    "a/b/c",
    "folder/",
    "..",
    "../up",
    "a//b",
    "/lead",
    "//",
    "ü/ñ 😀",
    "a b+c%20&=?#",
    "\x01\x1f",
    "a\x00b",
    "x" * 1024,
]


@pytest.fixture
async def bucket(s3: S3) -> str:
    await s3("CreateBucket", Bucket="bucket")
    return "bucket"


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_is_a_plain_name(s3: S3, bucket: str, key: str) -> None:
    await s3("PutObject", Bucket=bucket, Key=key, Body=b"data")
    assert await s3.bytes_of(bucket, key) == b"data"
    assert [entry["Key"] for entry in (await s3("ListObjectsV2", Bucket=bucket))["Contents"]] == [key]
    await s3("DeleteObject", Bucket=bucket, Key=key)
    assert s3.files() == []


@pytest.mark.parametrize("key", ["x" * 1025, "é" * 513])
async def test_longer_keys_are_refused(s3: S3, bucket: str, key: str) -> None:
    fault = await s3.fault("PutObject", Bucket=bucket, Key=key, Body=b"")
    assert (fault.code, fault.members["MaxSizeAllowed"]) == ("KeyTooLongError", "1024")
    assert (await s3.fault("GetObject", Bucket=bucket, Key=key)).code == "KeyTooLongError"


@pytest.mark.parametrize("size", [0, 1, 4096, 256 * 1024, 256 * 1024 + 1, 3 * 1024 * 1024 + 7])
@pytest.mark.parametrize("piece", [1000, 64 * 1024, 5 * 1024 * 1024])
async def test_bytes_come_back_as_they_went_in(s3: S3, bucket: str, size: int, piece: int) -> None:
    data = hashlib.shake_128(b"seed").digest(size)
    pieces = [data[start : start + piece] for start in range(0, size, piece)]
    put = await s3("PutObject", Stream(pieces), Bucket=bucket, Key="k")
    assert put["ETag"] == f'"{hashlib.md5(data).hexdigest()}"'
    got = await s3("GetObject", Bucket=bucket, Key="k")
    assert (got["ContentLength"], got["ETag"]) == (size, put["ETag"])
    assert await read_all(got["Body"]) == data
    assert len(s3.files()) == 1


async def test_everything_it_carries_is_given_back(s3: S3, bucket: str) -> None:
    carried = {
        "CacheControl": "no-cache",
        "ContentDisposition": "attachment",
        "ContentLanguage": "de",
        "ContentType": "text/x-python",
        "Expires": datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC),
        "Metadata": {"one": "1", "two": "zwei"},
        "ServerSideEncryption": "aws:kms",
        "SSEKMSKeyId": "key",
        "StorageClass": "STANDARD_IA",
        "WebsiteRedirectLocation": "/elsewhere",
    }
    put = await s3(
        "PutObject", Bucket=bucket, Key="k", Body=b"x", Tagging="a=1&b=2", ContentEncoding="aws-chunked,gzip", **carried
    )
    assert (put["ServerSideEncryption"], put["SSEKMSKeyId"]) == ("aws:kms", "key")
    for operation in ("HeadObject", "GetObject"):
        got = await s3(operation, Bucket=bucket, Key="k")
        assert {name: got[name] for name in carried} == carried
        assert (got["ContentEncoding"], got["TagCount"], got["AcceptRanges"]) == ("gzip", 2, "bytes")
        assert datetime.now(UTC) - got["LastModified"] < timedelta(minutes=1)
    [listed] = (await s3("ListObjectsV2", Bucket=bucket))["Contents"]
    assert listed["StorageClass"] == "STANDARD_IA"


async def test_defaults_are_those_of_aws(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"x", ContentEncoding="aws-chunked")
    got = await s3("HeadObject", Bucket=bucket, Key="k")
    assert got["ContentType"] == "binary/octet-stream"
    assert not {"StorageClass", "ContentEncoding", "TagCount", "ServerSideEncryption", "ContentRange"} & got.keys()


async def test_a_response_may_be_told_its_headers(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"x", ContentType="text/plain")
    got = await s3("GetObject", Bucket=bucket, Key="k", ResponseContentType="a/b", ResponseCacheControl="max-age=1")
    assert (got["ContentType"], got["CacheControl"]) == ("a/b", "max-age=1")


async def test_overwriting_replaces_everything_and_leaves_one_file(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"old", Metadata={"a": "b"}, Tagging="x=y")
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"newer")
    got = await s3("GetObject", Bucket=bucket, Key="k")
    assert (got["Body"], got["Metadata"], got.get("TagCount")) == (b"newer", {}, None)
    assert len(s3.files()) == 1


async def test_what_is_missing_is_named(s3: S3, bucket: str) -> None:
    for operation in ("GetObject", "HeadObject", "GetObjectTagging", "GetObjectAcl"):
        fault = await s3.fault(operation, Bucket=bucket, Key="nope")
        assert (fault.code, fault.status, fault.members["Key"]) == ("NoSuchKey", 404, "nope")
        fault = await s3.fault(operation, Bucket="nowhere", Key="nope")
        assert (fault.code, fault.members["BucketName"]) == ("NoSuchBucket", "nowhere")
    assert (await s3("DeleteObject", Bucket=bucket, Key="nope")) == {}
    assert (await s3.fault("PutObject", Bucket="nowhere", Key="k", Body=b"x")).code == "NoSuchBucket"


async def test_the_only_version_is_null(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"x")
    assert await s3.bytes_of(bucket, "k", VersionId="null") == b"x"
    assert (await s3.fault("GetObject", Bucket=bucket, Key="k", VersionId="abc")).code == "NoSuchVersion"
    assert (await s3.fault("DeleteObject", Bucket=bucket, Key="k", VersionId="abc")).code == "NoSuchVersion"
    await s3("DeleteObject", Bucket=bucket, Key="k", VersionId="null")
    assert s3.files() == []


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"StorageClass": "COLD"}, "InvalidStorageClass"),
        ({"ServerSideEncryption": "rot13"}, "InvalidArgument"),
        ({"SSEKMSKeyId": "key"}, "InvalidArgument"),
        ({"Metadata": {"a": "x" * 2048}}, "MetadataTooLarge"),
        ({"Tagging": "=x"}, "InvalidTag"),
        ({"Tagging": "a=1&a=2"}, "InvalidTag"),
        ({"Tagging": "&".join(f"k{n}=v" for n in range(11))}, "BadRequest"),
        ({"Tagging": "novalue"}, "InvalidArgument"),
        ({"SSECustomerAlgorithm": "AES256"}, "NotImplemented"),
        ({"ObjectLockMode": "GOVERNANCE"}, "InvalidRequest"),
        ({"WriteOffsetBytes": 1}, "NotImplemented"),
        ({"ACL": "public-read"}, "AccessControlListNotSupported"),
        ({"ContentMD5": "garbage"}, "InvalidDigest"),
        ({"ContentMD5": "XUFAKrxLKna5cZ2REBfFkw=="}, "BadDigest"),
        ({"ContentLength": 5 * 1024**3 + 1}, "EntityTooLarge"),
    ],
)
async def test_what_cannot_be_kept_is_refused_whole(s3: S3, bucket: str, params: dict[str, object], code: str) -> None:
    assert (await s3.fault("PutObject", Bucket=bucket, Key="k", Body=b"x", **params)).code == code
    assert s3.files() == []


@pytest.mark.parametrize("acl", ["private", "bucket-owner-full-control"])
async def test_acls_that_say_nothing_new_are_accepted(s3: S3, bucket: str, acl: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"x", ACL=acl)


async def test_tags_come_and_go_without_touching_the_object(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"x", Tagging="a=1")
    before = await s3("HeadObject", Bucket=bucket, Key="k")
    assert (await s3("GetObjectTagging", Bucket=bucket, Key="k"))["TagSet"] == [{"Key": "a", "Value": "1"}]
    wanted = [{"Key": "b", "Value": ""}, {"Key": "c", "Value": "ü"}]
    await s3("PutObjectTagging", Bucket=bucket, Key="k", Tagging={"TagSet": wanted})
    assert (await s3("GetObjectTagging", Bucket=bucket, Key="k"))["TagSet"] == wanted
    await s3("DeleteObjectTagging", Bucket=bucket, Key="k")
    assert (await s3("GetObjectTagging", Bucket=bucket, Key="k"))["TagSet"] == []
    after = await s3("HeadObject", Bucket=bucket, Key="k")
    assert (after["LastModified"], after["ETag"]) == (before["LastModified"], before["ETag"])
    assert await s3.bytes_of(bucket, "k") == b"x"


async def test_many_are_deleted_at_once(s3: S3, bucket: str) -> None:
    for number in range(3):
        await s3("PutObject", Bucket=bucket, Key=f"k{number}", Body=b"x")
    wanted = [{"Key": "k0"}, {"Key": "k1", "ETag": "wrong"}, {"Key": "missing"}, {"Key": "k0"}, {"Key": "x" * 1025}]
    answer = await s3("DeleteObjects", Bucket=bucket, Delete={"Objects": wanted})
    assert [entry["Key"] for entry in answer["Deleted"]] == ["k0", "missing", "k0"]
    assert [(entry["Key"][:2], entry["Code"]) for entry in answer["Errors"]] == [
        ("k1", "PreconditionFailed"),
        ("xx", "KeyTooLongError"),
    ]
    quiet = await s3("DeleteObjects", Bucket=bucket, Delete={"Objects": [{"Key": "k1"}, {"Key": "k2"}], "Quiet": True})
    assert quiet == {"Deleted": [], "Errors": []}
    assert s3.files() == []
    for objects in ([], [{"Key": "k"}] * 1001):
        fault = await s3.fault("DeleteObjects", Bucket=bucket, Delete={"Objects": objects})
        assert fault.code == "MalformedXML"


async def test_attributes_of_a_plain_object(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"hello", ChecksumAlgorithm="SHA1")
    asked = ["ETag", "Checksum,ObjectParts", "StorageClass", "ObjectSize"]
    got = await s3("GetObjectAttributes", Bucket=bucket, Key="k", ObjectAttributes=asked)
    assert (got["ETag"], got["ObjectSize"], got["StorageClass"]) == (hashlib.md5(b"hello").hexdigest(), 5, "STANDARD")
    assert got["Checksum"]["ChecksumSHA1"] == "qvTGHdzF6KLavt4PO0gs2a6pQ00="
    assert "ObjectParts" not in got
    fault = await s3.fault("GetObjectAttributes", Bucket=bucket, Key="k", ObjectAttributes=["Colour"])
    assert fault.code == "InvalidRequest"
