"""Which service a request is for."""

from __future__ import annotations

import pytest

from sagewright.wire.denials import Family
from sagewright.wire.identify import identify
from sagewright.wire.messages import Headers, HttpRequest
from sagewright.wire.sigv2 import ClaimV2
from sagewright.wire.sigv4 import Claim, Malformed


def scoped(signing_name: str) -> tuple[str, str]:
    credential = f"ASIAX/20250101/eu-central-1/{signing_name}/aws4_request"
    return ("Authorization", f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=00")


JSON = ("Content-Type", "application/x-amz-json-1.1")
FORM = ("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")


@pytest.mark.parametrize(
    ("signing_name", "request_line", "headers", "expected"),
    [
        ("sagemaker", "POST /", [JSON, ("X-Amz-Target", "SageMaker.ListModels")], ("sagemaker", Family.JSON, None)),
        ("sagemaker", "POST /endpoints/e/invocations", [], ("sagemaker-runtime", Family.JSON, None)),
        ("sagemaker", "PUT /FeatureGroup/g", [], ("sagemaker-featurestore-runtime", Family.JSON, None)),
        ("sagemaker", "POST /BatchGetRecord", [], ("sagemaker-featurestore-runtime", Family.JSON, None)),
        ("sagemaker", "PUT /BatchPutMetrics", [], ("sagemaker-metrics", Family.JSON, None)),
        ("monitoring", "POST /", [FORM], ("cloudwatch", Family.QUERY, "query")),
        (
            "monitoring",
            "POST /",
            [("X-Amz-Target", "GraniteServiceVersion20100801.X")],
            ("cloudwatch", Family.JSON, "json"),
        ),
        ("s3", "PUT /endpoints/e/invocations", [], ("s3", Family.S3, None)),
        ("s3", "POST /bucket", [FORM], ("s3", Family.S3, None)),
        ("sts", "POST /", [FORM], ("sts", Family.QUERY, None)),
        ("iam", "GET /", [], ("iam", Family.QUERY, None)),
        ("logs", "POST /", [JSON, ("X-Amz-Target", "Logs_20140328.X")], ("logs", Family.JSON, None)),
        (
            "ecr",
            "POST /",
            [JSON, ("X-Amz-Target", "AmazonEC2ContainerRegistry_V20150921.X")],
            ("ecr", Family.JSON, None),
        ),
        (
            "application-autoscaling",
            "POST /",
            [("X-Amz-Target", "A.X")],
            ("application-autoscaling", Family.JSON, None),
        ),
        ("dynamodb", "POST /", [("X-Amz-Target", "DynamoDB_20120810.ListTables")], ("dynamodb", Family.JSON, None)),
        ("sns", "POST /", [FORM], ("sns", Family.QUERY, None)),
    ],
)
def test_the_scope_of_the_signature_decides(
    signing_name: str,
    request_line: str,
    headers: list[tuple[str, str]],
    expected: tuple[str, Family, str | None],
) -> None:
    method, path = request_line.split(" ")
    found = identify(HttpRequest(method, path, "", Headers([scoped(signing_name), *headers])))
    assert (found.service, found.family, found.protocol) == expected
    assert isinstance(found.claim, Claim)
    assert found.claim.region == "eu-central-1"


def test_a_presigned_url_carries_its_scope() -> None:
    query = (
        "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=A%2F20250101%2Fus-east-1%2Fsts%2Faws4_request"
        "&X-Amz-Date=20250101T000000Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature=00"
    )
    assert identify(HttpRequest("GET", "/", query, Headers())).service == "sts"


def test_version_2_is_s3() -> None:
    found = identify(HttpRequest("GET", "/b/k", "AWSAccessKeyId=A&Signature=x&Expires=1", Headers()))
    assert found.service == "s3"
    assert isinstance(found.claim, ClaimV2)


@pytest.mark.parametrize(
    ("method", "query", "headers", "service", "family"),
    [
        ("GET", "", [], "s3", Family.S3),
        ("GET", "Action=GetCallerIdentity&Version=2011-06-15", [], "sts", Family.QUERY),
        ("POST", "", [FORM], "sts", Family.QUERY),
        ("POST", "", [("X-Amz-Target", "SageMaker.ListModels")], "sagemaker", Family.JSON),
        ("POST", "", [("X-Amz-Target", "Logs_20140328.X")], "logs", Family.JSON),
        ("POST", "", [("Host", "iam.amazonaws.com")], "iam", Family.QUERY),
    ],
)
def test_without_a_signature_the_form_decides_and_the_result_says_unsigned(
    method: str, query: str, headers: list[tuple[str, str]], service: str, family: Family
) -> None:
    found = identify(HttpRequest(method, "/", query, Headers(headers)))
    assert (found.service, found.family, found.claim) == (service, family, None)


@pytest.mark.parametrize("authorization", ["", "AWS4-HMAC-SHA256 x", "Bearer x", "\xff\x00", "AWS4-" + "/" * 9999])
def test_garbage_is_a_malformed_claim_never_an_error(authorization: str) -> None:
    found = identify(HttpRequest("GET", "/", "", Headers([("Authorization", authorization)])))
    assert isinstance(found.claim, Malformed)


def test_a_service_name_in_a_scope_is_only_a_name() -> None:
    found = identify(HttpRequest("POST", "/", "", Headers([scoped("..")])))
    assert found.service == ".."
