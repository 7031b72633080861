"""Checksums: claimed, computed, shown where they may be shown."""

from __future__ import annotations

import base64
import hashlib
import zlib

import pytest
from awscrt import checksums as crt
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.objects.checksums import ALGORITHMS, combined
from support.s3_calls import S3, Stream

DATA = b"The quick brown fox" * 100
REFERENCE = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
    "SHA512": lambda data: hashlib.sha512(data).digest(),
    "MD5": lambda data: hashlib.md5(data).digest(),
}


def value(name: str, data: bytes = DATA) -> str:
    return base64.b64encode(REFERENCE[name](data)).decode()


@pytest.fixture
async def bucket(s3: S3) -> str:
    await s3("CreateBucket", Bucket="bucket")
    return "bucket"


@pytest.mark.parametrize("name", ALGORITHMS)
async def test_a_claim_in_a_header_is_verified_and_kept(s3: S3, bucket: str, name: str) -> None:
    member = f"Checksum{name}"
    put = await s3("PutObject", Bucket=bucket, Key="k", Body=DATA, **{member: value(name)})
    assert (put[member], put["ChecksumType"]) == (value(name), "FULL_OBJECT")
    fault = await s3.fault("PutObject", Bucket=bucket, Key="k", Body=DATA + b"x", **{member: value(name)})
    assert (fault.code, fault.status) == ("BadDigest", 400)
    assert (await s3("GetObject", Bucket=bucket, Key="k", ChecksumMode="ENABLED"))[member] == value(name)
    [listed] = (await s3("ListObjectsV2", Bucket=bucket))["Contents"]
    assert listed["ChecksumAlgorithm"] == [name]
    assert len(s3.files()) == 1


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("name", ["CRC32", "CRC64NVME", "SHA256"])
async def test_a_claim_in_a_trailer_is_verified(s3: S3, bucket: str, name: str, announced: bool) -> None:
    params = {"ChecksumAlgorithm": name} if announced else {}
    trailer = {f"x-amz-checksum-{name.lower()}": value(name)}
    put = await s3("PutObject", Stream([DATA], trailer), Bucket=bucket, Key="k", **params)
    assert put[f"Checksum{name}"] == value(name)
    fault = await s3.fault("PutObject", Stream([DATA, b"x"], trailer), Bucket=bucket, Key="k", **params)
    assert fault.code == "BadDigest"
    assert await s3.bytes_of(bucket, "k") == DATA
    assert len(s3.files()) == 1


async def test_checksums_are_shown_only_when_asked_and_only_of_whole_objects(s3: S3, bucket: str) -> None:
    await s3("PutObject", Bucket=bucket, Key="k", Body=DATA, ChecksumCRC32=value("CRC32"))
    for operation in ("GetObject", "HeadObject"):
        assert "ChecksumCRC32" in await s3(operation, Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert "ChecksumCRC32" not in await s3(operation, Bucket=bucket, Key="k")
        for part in ({"Range": "bytes=0-5"}, {"Range": "bytes=0-"}, {"PartNumber": 1}):
            got = await s3(operation, Bucket=bucket, Key="k", ChecksumMode="ENABLED", **part)
            assert not {"ChecksumCRC32", "ChecksumType"} & got.keys()


async def test_bad_claims_are_refused(s3: S3, bucket: str) -> None:
    for claim in (
        {"ChecksumCRC32": "garbage!"},
        {"ChecksumCRC32": "AAAA"},
        {"ChecksumCRC32": value("CRC32"), "ChecksumSHA1": value("SHA1")},
        {"ChecksumXXHASH64": "AAAAAAAAAAA="},
        {"ChecksumAlgorithm": "ROT13"},
    ):
        assert (await s3.fault("PutObject", Bucket=bucket, Key="k", Body=DATA, **claim)).code == "InvalidRequest"
    assert s3.files() == []


@settings(max_examples=60)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6), st.sampled_from(["CRC32", "CRC32C", "CRC64NVME"]))
def test_combining_parts_is_checksumming_the_whole(parts: list[bytes], name: str) -> None:
    pieces = [(value(name, part), len(part)) for part in parts]
    assert combined(ALGORITHMS[name], pieces) == value(name, b"".join(parts))
