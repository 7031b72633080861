"""S3 as boto3 uses it, against a real server on a real port."""

from __future__ import annotations

import io
import os
import uuid
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, build_opener

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from support.server import Server

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def s3(server: Server) -> Any:
    return connect(server)


def connect(server: Server, **config: Any) -> Any:
    env = server.env("--no-proxy")
    return boto3.client(
        "s3",
        region_name=env["AWS_REGION"],
        endpoint_url=server.url,
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=env["AWS_SESSION_TOKEN"],
        config=Config(proxies={}, retries={"total_max_attempts": 1}, **config),
    )


@pytest.fixture
def bucket(s3: Any) -> str:
    name = f"test-{uuid.uuid4().hex}"
    s3.create_bucket(Bucket=name)
    return name


def code(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, int]:
    response = error.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


@pytest.mark.parametrize("key", ["k", "a/b c+d%20&=?#", "ü😀", "..", "../x", "a//b", "folder/", "x" * 1024])
def test_a_key_makes_the_round_trip(s3: Any, bucket: str, key: str) -> None:
    s3.put_object(Bucket=bucket, Key=key, Body=b"data", Metadata={"a": "b"}, ContentType="text/x")
    got = s3.get_object(Bucket=bucket, Key=key)
    assert (got["Body"].read(), got["Metadata"], got["ContentType"]) == (b"data", {"a": "b"}, "text/x")
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == [key]
    assert [entry["Key"] for entry in s3.list_objects(Bucket=bucket)["Contents"]] == [key]
    copied = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
    assert copied["CopyObjectResult"]["ETag"] == got["ETag"]
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    s3.delete_bucket(Bucket=bucket)


@pytest.mark.parametrize("size", [0, 1000, 20 * MIB])
def test_files_go_up_and_down_by_the_transfer_manager(s3: Any, bucket: str, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(data)
    s3.upload_file(str(source), bucket, "k", ExtraArgs={"ServerSideEncryption": "AES256"})
    s3.download_file(bucket, "k", str(target))
    assert target.read_bytes() == data
    head = s3.head_object(Bucket=bucket, Key="k")
    assert (head["ContentLength"], head["ServerSideEncryption"]) == (size, "AES256")


def test_streams_of_unknown_length_and_resources(server: Server, bucket: str) -> None:
    env = server.env("--no-proxy")
    session = boto3.Session(
        env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"], env["AWS_REGION"]
    )
    resource = session.resource("s3", endpoint_url=server.url, config=Config(proxies={})).Bucket(bucket)
    data = os.urandom(17 * MIB)
    resource.upload_fileobj(io.BytesIO(data), "k")
    out = io.BytesIO()
    resource.download_fileobj("k", out)
    assert out.getvalue() == data
    assert [entry.key for entry in resource.objects.filter(Prefix="k")] == ["k"]
    resource.objects.all().delete()
    assert list(resource.objects.all()) == []


def test_a_managed_copy_goes_by_parts(s3: Any, bucket: str) -> None:
    data = os.urandom(12 * MIB)
    s3.put_object(Bucket=bucket, Key="k", Body=data)
    small = TransferConfig(multipart_threshold=6 * MIB, multipart_chunksize=6 * MIB)
    s3.copy({"Bucket": bucket, "Key": "k"}, bucket, "copy", Config=small)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == data


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_checksums_are_verified_at_both_ends(s3: Any, bucket: str, name: str) -> None:
    data = os.urandom(9 * MIB)
    s3.upload_fileobj(io.BytesIO(data), bucket, "parts", ExtraArgs={"ChecksumAlgorithm": name})
    s3.put_object(Bucket=bucket, Key="whole", Body=data, ChecksumAlgorithm=name)
    for key in ("parts", "whole"):
        got = s3.get_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED")
        assert f"Checksum{name}" in got
        assert got["Body"].read() == data  # the client compares
        part = s3.get_object(Bucket=bucket, Key=key, Range="bytes=5-9", ChecksumMode="ENABLED")
        assert part["ResponseMetadata"]["HTTPStatusCode"] == 206
        assert part["Body"].read() == data[5:10]
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="x", Body=b"x", ChecksumCRC32="AAAAAA==")
    assert code(caught) == ("BadDigest", 400)


def test_lists_in_pages(s3: Any, bucket: str) -> None:
    keys = [f"d{number % 5}/k {number:02d}" for number in range(25)] + ["plain +&", "ü"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    for operation in ("list_objects", "list_objects_v2", "list_object_versions"):
        member = "Versions" if operation == "list_object_versions" else "Contents"
        pages = list(s3.get_paginator(operation).paginate(Bucket=bucket, PaginationConfig={"PageSize": 4}))
        assert [entry["Key"] for page in pages for entry in page.get(member, ())] == sorted(keys)
        rolled = list(
            s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2})
        )
        assert [entry["Prefix"] for page in rolled for entry in page.get("CommonPrefixes", ())] == [
            f"d{number}/" for number in range(5)
        ]
        assert [entry["Key"] for page in rolled for entry in page.get(member, ())] == ["plain +&", "ü"]


def test_errors_are_those_that_clients_know(s3: Any, bucket: str) -> None:
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket=bucket, Key="none")
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.list_objects_v2(Bucket="nowhere-at-all")
    for attempt in (lambda: s3.head_object(Bucket=bucket, Key="none"), lambda: s3.head_bucket(Bucket="nowhere-at-all")):
        with pytest.raises(ClientError) as caught:
            attempt()
        assert (*code(caught), caught.value.response["Error"]["Message"]) == ("404", 404, "Not Found")
    with pytest.raises(ClientError) as caught:
        s3.head_bucket(Bucket=bucket, ExpectedBucketOwner="111111111111")
    assert (*code(caught), caught.value.response["Error"]["Message"]) == ("403", 403, "Forbidden")
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    for params, expected in (
        ({"IfNoneMatch": etag}, ("304", 304)),
        ({"IfMatch": '"x"'}, ("PreconditionFailed", 412)),
        ({"Range": "bytes=7-"}, ("InvalidRange", 416)),
    ):
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket=bucket, Key="k", **params)
        assert code(caught) == expected
    with pytest.raises(ClientError) as caught:
        s3.put_object(Bucket=bucket, Key="k", Body=b"x", IfNoneMatch="*")
    assert code(caught) == ("PreconditionFailed", 412)
    with pytest.raises(ClientError) as caught:
        s3.delete_bucket(Bucket=bucket)
    assert code(caught) == ("BucketNotEmpty", 409)


def test_waiters_and_the_calls_of_terraform(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Tagging="a=b")
    s3.get_waiter("bucket_exists").wait(Bucket=bucket)
    s3.get_waiter("object_exists").wait(Bucket=bucket, Key="k")
    assert s3.get_object_tagging(Bucket=bucket, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "c", "Value": "d"}]})
    assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == [{"Key": "c", "Value": "d"}]
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration={"BlockPublicAcls": True})
    assert s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]["BlockPublicAcls"] is True
    s3.put_bucket_policy(Bucket=bucket, Policy='{"Version":"2012-10-17","Statement":[]}')
    assert s3.get_bucket_policy(Bucket=bucket)["Policy"] == '{"Version":"2012-10-17","Statement":[]}'
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "MaxAgeSeconds": 5}]
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": rules})
    assert s3.get_bucket_cors(Bucket=bucket)["CORSRules"] == rules
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert s3.get_bucket_acl(Bucket=bucket)["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert s3.get_object_acl(Bucket=bucket, Key="k")["Grants"][0]["Permission"] == "FULL_CONTROL"
    assert s3.get_bucket_request_payment(Bucket=bucket)["Payer"] == "BucketOwner"
    ownership = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
    assert ownership == [{"ObjectOwnership": "BucketOwnerEnforced"}]
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_lifecycle_configuration(Bucket=bucket)
    assert code(caught) == ("NoSuchLifecycleConfiguration", 404)
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert code(caught) == ("NotImplemented", 501)
    asked = ["ETag", "ObjectSize"]
    assert s3.get_object_attributes(Bucket=bucket, Key="k", ObjectAttributes=asked)["ObjectSize"] == 1
    assert bucket in [entry["Name"] for entry in s3.list_buckets()["Buckets"]]


def test_an_upload_in_parts_by_hand(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="CRC32")["UploadId"]
    name = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    first, second = os.urandom(5 * MIB), b"end"
    parts = []
    for number, data in ((1, first), (2, second)):
        part = s3.upload_part(**name, PartNumber=number, Body=data, ChecksumAlgorithm="CRC32")
        parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumCRC32": part["ChecksumCRC32"]})
    assert [entry["UploadId"] for entry in s3.list_multipart_uploads(Bucket=bucket)["Uploads"]] == [upload]
    assert [entry["Size"] for entry in s3.list_parts(**name)["Parts"]] == [5 * MIB, 3]
    done = s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    assert done["ETag"].endswith('-2"')
    again = s3.complete_multipart_upload(**name, MultipartUpload={"Parts": parts})
    assert again["ETag"] == done["ETag"]
    part = s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    assert (part["Body"].read(), part["PartsCount"]) == (b"end", 2)
    assert s3.list_multipart_uploads(Bucket=bucket).get("Uploads") is None


def test_presigned_reads_may_set_response_headers(server: Server, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    for version in ("s3v4", "s3"):
        client = connect(server, signature_version=version)
        params = {"Bucket": bucket, "Key": "k", "ResponseContentType": "text/html"}
        url = client.generate_presigned_url("get_object", Params=params)
        with build_opener(ProxyHandler({})).open(url) as response:
            assert (response.read(), response.headers["Content-Type"]) == (b"data", "text/html")
