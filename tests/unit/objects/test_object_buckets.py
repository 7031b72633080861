"""Buckets: names, owners, regions, settings, lists."""

from __future__ import annotations

import pytest

from support.s3_calls import S3, STRANGER


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "Upper", "under_score", "-a-b", "a-b-", "a..b", "192.168.1.1", "xn--abc", "abc-s3alias", "a b"],
)
async def test_illegal_names_are_refused(s3: S3, name: str) -> None:
    fault = await s3.fault("CreateBucket", Bucket=name)
    assert (fault.code, fault.status) == ("InvalidBucketName", 400)


@pytest.mark.parametrize("name", ["abc", "a" * 63, "1.2.3", "sagemaker-us-east-1-000000000000", "a.b-c"])
async def test_legal_names_are_taken(s3: S3, name: str) -> None:
    await s3("CreateBucket", Bucket=name)
    assert (await s3("HeadBucket", Bucket=name))["BucketRegion"] == "us-east-1"


async def test_creating_again_succeeds_in_us_east_1_only(s3: S3) -> None:
    await s3("CreateBucket", Bucket="legacy")
    await s3("CreateBucket", Bucket="legacy")
    eu = {"LocationConstraint": "eu-west-1"}
    await s3("CreateBucket", Bucket="modern", CreateBucketConfiguration=eu)
    fault = await s3.fault("CreateBucket", Bucket="modern", CreateBucketConfiguration=eu)
    assert (fault.code, fault.status, fault.members["BucketName"]) == ("BucketAlreadyOwnedByYou", 409, "modern")


async def test_location_is_empty_for_us_east_1(s3: S3) -> None:
    await s3("CreateBucket", Bucket="east")
    await s3("CreateBucket", Bucket="west", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})
    assert (await s3("GetBucketLocation", Bucket="east")).get("LocationConstraint") is None
    assert (await s3("GetBucketLocation", Bucket="west"))["LocationConstraint"] == "us-west-2"


async def test_another_accounts_bucket_is_closed_and_its_name_taken(s3: S3) -> None:
    await s3("CreateBucket", Bucket="mine")
    s3.account = STRANGER
    assert (await s3.fault("CreateBucket", Bucket="mine")).code == "BucketAlreadyExists"
    for operation in ("HeadBucket", "ListObjectsV2", "DeleteBucket", "GetBucketAcl", "ListMultipartUploads"):
        assert (await s3.fault(operation, Bucket="mine")).status == 403
    assert (await s3.fault("PutObject", Bucket="mine", Key="k", Body=b"x")).code == "AccessDenied"
    assert (await s3("ListBuckets"))["Buckets"] == []
    assert s3.files() == []


async def test_the_expected_owner_is_checked(s3: S3) -> None:
    await s3("CreateBucket", Bucket="mine")
    await s3("HeadBucket", Bucket="mine", ExpectedBucketOwner=s3.account)
    fault = await s3.fault("HeadBucket", Bucket="mine", ExpectedBucketOwner="111111111111")
    assert (fault.code, fault.status) == ("AccessDenied", 403)


async def test_only_empty_buckets_are_deleted(s3: S3) -> None:
    await s3("CreateBucket", Bucket="full")
    await s3("PutObject", Bucket="full", Key="k", Body=b"x")
    fault = await s3.fault("DeleteBucket", Bucket="full")
    assert (fault.code, fault.status) == ("BucketNotEmpty", 409)
    await s3("DeleteObject", Bucket="full", Key="k")
    await s3("DeleteBucket", Bucket="full")
    assert (await s3.fault("HeadBucket", Bucket="full")).code == "NoSuchBucket"


async def test_deleting_a_bucket_takes_unfinished_uploads_along(s3: S3) -> None:
    await s3("CreateBucket", Bucket="gone")
    begun = await s3("CreateMultipartUpload", Bucket="gone", Key="k")
    await s3("UploadPart", Bucket="gone", Key="k", UploadId=begun["UploadId"], PartNumber=1, Body=b"x")
    await s3("DeleteBucket", Bucket="gone")
    assert s3.files() == []
    await s3("CreateBucket", Bucket="gone")
    assert (await s3("ListMultipartUploads", Bucket="gone"))["Uploads"] == []


async def test_buckets_are_listed_by_name_in_pages(s3: S3) -> None:
    names = ["aa1", "aa2", "ab1", "b-1", "zz9"]
    for name in reversed(names):
        await s3("CreateBucket", Bucket=name)
    everything = await s3("ListBuckets")
    assert [bucket["Name"] for bucket in everything["Buckets"]] == names
    assert "ContinuationToken" not in everything
    seen, token = [], None
    while True:
        page = await s3("ListBuckets", MaxBuckets=2, **({"ContinuationToken": token} if token else {}))
        seen += [bucket["Name"] for bucket in page["Buckets"]]
        token = page.get("ContinuationToken")
        if token is None:
            break
    assert seen == names
    assert [bucket["Name"] for bucket in (await s3("ListBuckets", Prefix="aa"))["Buckets"]] == ["aa1", "aa2"]
    assert (await s3("ListBuckets", BucketRegion="eu-west-1"))["Buckets"] == []
    assert (await s3.fault("ListBuckets", MaxBuckets=0)).code == "InvalidArgument"
    assert (await s3.fault("ListBuckets", ContinuationToken="é")).code == "InvalidArgument"


@pytest.mark.parametrize(
    ("topic", "params", "missing"),
    [
        ("BucketTagging", {"Tagging": {"TagSet": [{"Key": "a", "Value": "b"}]}}, "NoSuchTagSet"),
        ("BucketPolicy", {"Policy": '{"Version": "2012-10-17", "Statement": []}'}, "NoSuchBucketPolicy"),
        (
            "BucketCors",
            {"CORSConfiguration": {"CORSRules": [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]}},
            "NoSuchCORSConfiguration",
        ),
        (
            "PublicAccessBlock",
            {
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "IgnorePublicAcls": False,
                    "BlockPublicPolicy": True,
                    "RestrictPublicBuckets": False,
                }
            },
            "NoSuchPublicAccessBlockConfiguration",
        ),
    ],
)
async def test_settings_are_kept_until_deleted(s3: S3, topic: str, params: dict[str, object], missing: str) -> None:
    await s3("CreateBucket", Bucket="set")
    assert (await s3.fault(f"Get{topic}", Bucket="set")).code == missing
    await s3(f"Put{topic}", Bucket="set", **params)
    kept = await s3(f"Get{topic}", Bucket="set")
    [value] = params.values()
    assert kept in (params, value)
    await s3(f"Delete{topic}", Bucket="set")
    assert (await s3.fault(f"Get{topic}", Bucket="set")).status == 404


async def test_bad_settings_are_refused(s3: S3) -> None:
    await s3("CreateBucket", Bucket="set")
    assert (await s3.fault("PutBucketPolicy", Bucket="set", Policy="{no")).code == "MalformedPolicy"
    twice = [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]
    assert (await s3.fault("PutBucketTagging", Bucket="set", Tagging={"TagSet": twice})).code == "InvalidTag"
    assert (await s3.fault("PutBucketCors", Bucket="set", CORSConfiguration={"CORSRules": []})).code == "MalformedXML"


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("GetBucketEncryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("GetBucketLifecycleConfiguration", "NoSuchLifecycleConfiguration"),
        ("GetBucketWebsite", "NoSuchWebsiteConfiguration"),
        ("GetBucketReplication", "ReplicationConfigurationNotFoundError"),
        ("GetObjectLockConfiguration", "ObjectLockConfigurationNotFoundError"),
    ],
)
async def test_features_that_no_bucket_has_say_so(s3: S3, operation: str, code: str) -> None:
    assert (await s3.fault(operation, Bucket="none")).code == "NoSuchBucket"
    await s3("CreateBucket", Bucket="set")
    fault = await s3.fault(operation, Bucket="set")
    assert (fault.code, fault.status) == (code, 404)


async def test_what_is_not_there_is_answered_by_name(s3: S3) -> None:
    await s3("CreateBucket", Bucket="set")
    assert (await s3("GetBucketVersioning", Bucket="set")) == {}
    fault = await s3.fault("PutBucketVersioning", Bucket="set")
    assert (fault.code, fault.status) == ("NotImplemented", 501)
    assert "s3:PutBucketVersioning" in fault.message
    grants = (await s3("GetBucketAcl", Bucket="set"))["Grants"]
    assert [grant["Permission"] for grant in grants] == ["FULL_CONTROL"]
