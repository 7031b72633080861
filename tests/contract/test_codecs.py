"""Every codec against its contract: tests/suites/codec_suite.py."""

from __future__ import annotations

import pytest

from suites.codec_suite import CodecSuite, FaultSuite, Subject

_METRICS = ("GetMetricData", "GetMetricStatistics", "ListMetrics", "PutMetricData", "PutMetricAlarm", "DescribeAlarms")

SUBJECTS = (
    Subject(
        "sagemaker",
        "json",
        (
            "DescribeTrainingJob", "CreateTrainingJob", "ListTrainingJobs", "StopTrainingJob", "CreateModel",
            "CreateEndpointConfig", "DescribeEndpoint", "AddTags", "Search", "CreateHyperParameterTuningJob",
            "DescribeProcessingJob", "CreateModelPackage", "DescribePipelineExecution",
        ),
    ),
    Subject("logs", "json", ("GetLogEvents", "DescribeLogStreams", "PutLogEvents", "FilterLogEvents", "StartQuery")),
    Subject("ecr", "json", ("GetAuthorizationToken", "CreateRepository", "BatchGetImage", "DescribeImages")),
    Subject("sagemaker-runtime", "rest-json", ("InvokeEndpoint", "InvokeEndpointAsync")),
    Subject("sagemaker-featurestore-runtime", "rest-json", ("PutRecord", "GetRecord", "BatchGetRecord")),
    Subject("sagemaker-metrics", "rest-json", ("BatchPutMetrics", "BatchGetMetrics")),
    Subject(
        "s3",
        "rest-xml",
        (
            "GetObject", "PutObject", "HeadObject", "DeleteObject", "DeleteObjects", "CopyObject", "ListObjects",
            "ListObjectsV2", "ListObjectVersions", "ListBuckets", "CreateBucket", "HeadBucket", "DeleteBucket",
            "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload",
            "ListParts", "ListMultipartUploads", "GetObjectAttributes", "GetObjectTagging", "PutObjectTagging",
            "GetBucketTagging", "PutBucketTagging", "GetBucketPolicy", "PutBucketPolicy", "GetBucketAcl",
            "PutBucketAcl",
            "PutBucketLifecycleConfiguration", "GetBucketLifecycleConfiguration", "PutBucketCors", "GetBucketCors",
            "PutBucketVersioning", "GetBucketVersioning", "PutBucketNotificationConfiguration",
            "GetBucketNotificationConfiguration", "PutBucketEncryption", "GetObjectRetention", "RestoreObject",
            "GetPublicAccessBlock", "PutBucketReplication", "PutBucketWebsite", "GetBucketAnalyticsConfiguration",
        ),
        skip=frozenset({"Expires"}),
    ),
    Subject("sts", "query", ("GetCallerIdentity", "AssumeRole", "GetSessionToken", "AssumeRoleWithWebIdentity")),
    Subject(
        "iam",
        "query",
        ("SimulatePrincipalPolicy", "GetRole", "CreateRole", "ListRoles", "AttachRolePolicy", "TagRole"),
    ),
    Subject("cloudwatch", "query", _METRICS),
    Subject("cloudwatch", "json", _METRICS),
)  # fmt: skip


@pytest.mark.parametrize(
    ("subject", "operation"),
    [pytest.param(subject, name, id=f"{subject}-{name}") for subject in SUBJECTS for name in subject.operations],
)
class TestCodec(CodecSuite):
    pass


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
class TestFaults(FaultSuite):
    pass
