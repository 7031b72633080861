"""Uploads in parts."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from awscrt import checksums as crt

from support.s3_calls import S3, Stream, read_all

MIN = 5 * 1024 * 1024
FIRST, SECOND = os.urandom(MIN), os.urandom(1000)


def etag(*parts: bytes) -> str:
    joined = b"".join(hashlib.md5(part).digest() for part in parts)
    return f'"{hashlib.md5(joined).hexdigest()}-{len(parts)}"'


@pytest.fixture
async def bucket(s3: S3) -> str:
    await s3("CreateBucket", Bucket="bucket")
    return "bucket"


async def begin(s3: S3, parts: Mapping[int, bytes], key: str = "k", **params: Any) -> dict[str, Any]:
    """The parameters of the completion of an upload with these parts."""
    name = {"Bucket": "bucket", "Key": key}
    name["UploadId"] = (await s3("CreateMultipartUpload", **name, **params))["UploadId"]
    listed = []
    for number, data in parts.items():
        part = await s3("UploadPart", **name, PartNumber=number, Body=data)
        listed.append({"PartNumber": number, "ETag": part["ETag"]})
    return {**name, "MultipartUpload": {"Parts": listed}}


async def test_parts_become_one_object(s3: S3, bucket: str) -> None:
    wanted = await begin(
        s3, {3: FIRST, 7: SECOND}, ContentType="a/b", Metadata={"a": "b"}, ServerSideEncryption="AES256", Tagging="x=y"
    )
    assert (await s3.fault("GetObject", Bucket=bucket, Key="k")).code == "NoSuchKey"
    done = await s3("CompleteMultipartUpload", **wanted)
    assert done["ETag"] == etag(FIRST, SECOND)
    assert done["Location"] == "http://127.0.0.1:8470/bucket/k"
    got = await s3("GetObject", Bucket=bucket, Key="k")
    assert await read_all(got["Body"]) == FIRST + SECOND
    assert (got["ContentType"], got["Metadata"], got["ServerSideEncryption"]) == ("a/b", {"a": "b"}, "AES256")
    assert (got["TagCount"], got["ContentLength"]) == (1, MIN + 1000)
    assert len(s3.files()) == 1
    assert (await s3("ListMultipartUploads", Bucket=bucket))["Uploads"] == []


async def test_parts_of_an_object_can_be_read_one_by_one(s3: S3, bucket: str) -> None:
    await s3("CompleteMultipartUpload", **await begin(s3, {1: FIRST, 2: SECOND}))
    for number, data in ((1, FIRST), (2, SECOND)):
        got = await s3("GetObject", Bucket=bucket, Key="k", PartNumber=number)
        assert await read_all(got["Body"]) == data
        assert got["PartsCount"] == 2
    assert got["ContentRange"] == f"bytes {MIN}-{MIN + 999}/{MIN + 1000}"
    assert (await s3.fault("GetObject", Bucket=bucket, Key="k", PartNumber=3)).status == 416
    both = await s3.fault("GetObject", Bucket=bucket, Key="k", PartNumber=1, Range="bytes=0-1")
    assert both.code == "InvalidRequest"


async def test_completing_again_with_the_same_parts_gives_the_same_answer(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: FIRST, 2: SECOND})
    done = await s3("CompleteMultipartUpload", **wanted)
    assert await s3("CompleteMultipartUpload", **wanted) == done
    other = {**wanted, "MultipartUpload": {"Parts": wanted["MultipartUpload"]["Parts"][:1]}}
    assert (await s3.fault("CompleteMultipartUpload", **other)).code == "NoSuchUpload"
    name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}
    assert (await s3.fault("UploadPart", **name, PartNumber=1, Body=b"x")).code == "NoSuchUpload"
    assert (await s3.fault("AbortMultipartUpload", **name)).code == "NoSuchUpload"
    assert len(s3.files()) == 1


async def test_completing_many_times_at_once_makes_one_object(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: FIRST, 2: SECOND})
    answers = await asyncio.gather(*(s3("CompleteMultipartUpload", **wanted) for _ in range(5)))
    assert all(answer == answers[0] for answer in answers)
    assert len(s3.files()) == 1
    assert await s3.bytes_of(bucket, "k") == FIRST + SECOND


async def test_one_part_is_taken_over_as_it_is(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: SECOND})
    [before] = s3.files()
    assert (await s3("CompleteMultipartUpload", **wanted))["ETag"] == etag(SECOND)
    assert s3.files() == [before]
    await s3("DeleteObject", Bucket=bucket, Key="k")
    assert s3.files() == []


async def test_a_part_sent_again_replaces_the_first(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: b"wrong", 2: SECOND})
    name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}
    again = await s3("UploadPart", **name, PartNumber=1, Body=FIRST)
    assert len(s3.files()) == 2
    stale = await s3.fault("CompleteMultipartUpload", **wanted)
    assert (stale.code, stale.members["PartNumber"]) == ("InvalidPart", "1")
    wanted["MultipartUpload"]["Parts"][0]["ETag"] = again["ETag"].strip('"')
    await s3("CompleteMultipartUpload", **wanted)
    assert await s3.bytes_of(bucket, "k") == FIRST + SECOND


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda parts: parts.clear(), "MalformedXML"),
        (lambda parts: parts.reverse(), "InvalidPartOrder"),
        (lambda parts: parts.append(parts[1]), "InvalidPartOrder"),
        (lambda parts: parts.append({"PartNumber": 3, "ETag": "x"}), "InvalidPart"),
        (lambda parts: parts[0].pop("ETag"), "MalformedXML"),
        (lambda parts: parts[0].update(ETag="x"), "InvalidPart"),
    ],
)
async def test_wrong_lists_of_parts_change_nothing(s3: S3, bucket: str, change: Any, code: str) -> None:
    wanted = await begin(s3, {1: FIRST, 2: SECOND})
    right = [dict(part) for part in wanted["MultipartUpload"]["Parts"]]
    change(wanted["MultipartUpload"]["Parts"])
    assert (await s3.fault("CompleteMultipartUpload", **wanted)).code == code
    wanted["MultipartUpload"]["Parts"] = right
    await s3("CompleteMultipartUpload", **wanted)


async def test_small_parts_before_the_last_are_refused(s3: S3, bucket: str) -> None:
    fault = await s3.fault("CompleteMultipartUpload", **await begin(s3, {1: SECOND, 2: SECOND}))
    assert (fault.code, fault.members["MinSizeAllowed"], fault.members["ProposedSize"]) == (
        "EntityTooSmall",
        str(MIN),
        "1000",
    )


async def test_conditions_hold_for_completions(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: SECOND})
    await s3("PutObject", Bucket=bucket, Key="k", Body=b"there")
    assert (await s3.fault("CompleteMultipartUpload", **wanted, IfNoneMatch="*")).status == 412
    assert (await s3.fault("CompleteMultipartUpload", **wanted, MpuObjectSize=7)).code == "InvalidRequest"
    await s3("CompleteMultipartUpload", **wanted, IfMatch="*", MpuObjectSize=1000)
    assert len(s3.files()) == 1


async def test_aborting_leaves_nothing(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: FIRST, 2: SECOND})
    name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}
    await s3("AbortMultipartUpload", **name)
    assert s3.files() == []
    for operation in ("AbortMultipartUpload", "ListParts"):
        assert (await s3.fault(operation, **name)).code == "NoSuchUpload"
    assert (await s3.fault("CompleteMultipartUpload", **wanted)).code == "NoSuchUpload"


async def test_an_upload_is_of_one_key(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: SECOND})
    assert (await s3.fault("CompleteMultipartUpload", **(wanted | {"Key": "other"}))).code == "NoSuchUpload"
    for number in (0, 10_001):
        name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}
        assert (await s3.fault("UploadPart", **name, PartNumber=number, Body=b"x")).code == "InvalidArgument"


async def test_an_upload_ended_while_a_part_came_in_keeps_no_part(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {})
    name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}

    class Aborting(Stream):
        async def __aiter__(self) -> Any:
            yield b"x" * 2_000_000
            await s3("AbortMultipartUpload", **name)
            yield b"y"

    assert (await s3.fault("UploadPart", Aborting([]), **name, PartNumber=1)).code == "NoSuchUpload"
    assert s3.files() == []


def composite(name: str, *parts: bytes) -> str:
    digest = {"CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"), "SHA256": lambda d: hashlib.sha256(d).digest()}
    joined = b"".join(digest[name](part) for part in parts)
    return f"{base64.b64encode(digest[name](joined)).decode()}-{len(parts)}"


@pytest.mark.parametrize("name", ["CRC32", "SHA256"])
async def test_composite_checksums(s3: S3, bucket: str, name: str) -> None:
    begun = await s3("CreateMultipartUpload", Bucket=bucket, Key="k", ChecksumAlgorithm=name)
    assert (begun["ChecksumAlgorithm"], begun["ChecksumType"]) == (name, "COMPOSITE")
    ids = {"Bucket": bucket, "Key": "k", "UploadId": begun["UploadId"]}
    member, parts = f"Checksum{name}", []
    for number, data in enumerate((FIRST, SECOND), start=1):
        claim = composite(name, data)  # of one part: only its form is used
        fault = await s3.fault("UploadPart", **ids, PartNumber=number, Body=data, **{member: claim.split("-")[0]})
        assert fault.code == "BadDigest"
        digest = zlib.crc32(data).to_bytes(4, "big") if name == "CRC32" else hashlib.sha256(data).digest()
        sent = {member: base64.b64encode(digest).decode()}
        part = await s3("UploadPart", **ids, PartNumber=number, Body=data, **sent)
        assert part[member] == sent[member]
        parts.append({"PartNumber": number, "ETag": part["ETag"], **sent})
    assert [part[member] for part in (await s3("ListParts", **ids))["Parts"]] == [part[member] for part in parts]
    wrong = [parts[0], {**parts[1], member: parts[0][member]}]
    assert (await s3.fault("CompleteMultipartUpload", **ids, MultipartUpload={"Parts": wrong})).code == "InvalidPart"
    done = await s3("CompleteMultipartUpload", **ids, MultipartUpload={"Parts": parts})
    assert (done[member], done["ChecksumType"]) == (composite(name, FIRST, SECOND), "COMPOSITE")
    got = await s3("HeadObject", Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert got[member] == done[member]
    described = await s3("GetObjectAttributes", Bucket=bucket, Key="k", ObjectAttributes=["ObjectParts"], MaxParts=1)
    assert described["ObjectParts"]["Parts"] == [{"PartNumber": 1, "Size": MIN, member: parts[0][member]}]
    assert (described["ObjectParts"]["TotalPartsCount"], described["ObjectParts"]["IsTruncated"]) == (2, True)


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "CRC64NVME"])
async def test_full_object_checksums(s3: S3, bucket: str, name: str) -> None:
    whole = {"CRC32": crt.crc32, "CRC32C": crt.crc32c, "CRC64NVME": crt.crc64nvme}[name](FIRST + SECOND)
    value = base64.b64encode(whole.to_bytes(8 if name == "CRC64NVME" else 4, "big")).decode()
    wanted = await begin(s3, {1: FIRST, 2: SECOND}, ChecksumAlgorithm=name, ChecksumType="FULL_OBJECT")
    bad = base64.b64encode(bytes(8 if name == "CRC64NVME" else 4)).decode()
    assert (await s3.fault("CompleteMultipartUpload", **wanted, **{f"Checksum{name}": bad})).code == "BadDigest"
    mixed = await s3.fault("CompleteMultipartUpload", **wanted, ChecksumType="COMPOSITE")
    assert mixed.code == "BadDigest"
    done = await s3("CompleteMultipartUpload", **wanted, **{f"Checksum{name}": value})
    assert (done[f"Checksum{name}"], done["ChecksumType"]) == (value, "FULL_OBJECT")


async def test_a_claim_of_the_whole_is_verified_though_no_algorithm_was_agreed(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {1: FIRST, 2: SECOND})
    bad, good = (base64.b64encode(hashlib.sha256(data).digest()).decode() for data in (FIRST, FIRST + SECOND))
    assert (await s3.fault("CompleteMultipartUpload", **wanted, ChecksumSHA256=bad)).code == "BadDigest"
    await s3("CompleteMultipartUpload", **wanted, ChecksumSHA256=good)
    assert len(s3.files()) == 1


async def test_checksum_rules(s3: S3, bucket: str) -> None:
    for params in (
        {"ChecksumType": "COMPOSITE"},
        {"ChecksumAlgorithm": "SHA256", "ChecksumType": "FULL_OBJECT"},
        {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "COMPOSITE"},
    ):
        assert (await s3.fault("CreateMultipartUpload", Bucket=bucket, Key="k", **params)).code == "InvalidRequest"
    wanted = await begin(s3, {}, ChecksumAlgorithm="SHA256")
    name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}
    other = await s3.fault("UploadPart", **name, PartNumber=1, Body=b"", ChecksumCRC32="AAAAAA==")
    assert other.message == (
        "Checksum Type mismatch occurred, expected checksum Type: sha256, actual checksum Type: crc32"
    )


async def test_parts_are_listed_in_pages(s3: S3, bucket: str) -> None:
    wanted = await begin(s3, {5: b"a", 1: b"bb", 9: b"ccc"})
    name = {member: wanted[member] for member in ("Bucket", "Key", "UploadId")}
    seen, marker = [], 0
    while True:
        page = await s3("ListParts", **name, MaxParts=1, PartNumberMarker=marker)
        seen += [(part["PartNumber"], part["Size"]) for part in page["Parts"]]
        marker = page["NextPartNumberMarker"]
        if not page["IsTruncated"]:
            break
    assert seen == [(1, 2), (5, 1), (9, 3)]


async def test_uploads_are_listed_by_key_then_age_in_pages(s3: S3, bucket: str) -> None:
    keys = ["a/1", "a/1", "a/1", "a/2", "b", "b/x/1", "b/x/2", "c"]
    begun = [(key, (await s3("CreateMultipartUpload", Bucket=bucket, Key=key))["UploadId"]) for key in keys]

    async def listed(size: int, **params: Any) -> list[Any]:
        seen: list[Any] = []
        markers: dict[str, str] = {}
        while True:
            page = await s3("ListMultipartUploads", Bucket=bucket, MaxUploads=size, **markers, **params)
            assert len(page["Uploads"]) + len(page["CommonPrefixes"]) <= size
            seen += sorted(
                [(upload["Key"], upload["UploadId"]) for upload in page["Uploads"]]
                + [(entry["Prefix"],) for entry in page["CommonPrefixes"]]
            )
            if not page["IsTruncated"]:
                return seen
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}

    for size in (1, 2, 3, 1000):
        assert [key for key, _ in await listed(size)] == keys
        assert sorted(await listed(size)) == sorted(begun)
        assert [entry[0] for entry in await listed(size, Delimiter="/")] == ["a/", "b", "b/", "c"]
        assert [entry[0] for entry in await listed(size, Prefix="b/", Delimiter="/")] == ["b/x/"]
        assert [entry[0] for entry in await listed(size, Prefix="a/1")] == ["a/1"] * 3
