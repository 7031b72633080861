"""Every bad input gets AWS's error code and a sentence that says what to change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from support.server import Server

GOOD: dict[str, Any] = {
    "TrainingJobName": "bad-input",
    "AlgorithmSpecification": {"TrainingImage": "some-image", "TrainingInputMode": "File"},
    "RoleArn": "arn:aws:iam::000000000000:role/SageMakerRole",
    "OutputDataConfig": {"S3OutputPath": "s3://bad-input/out"},
    "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}


def channel(uri: str, **more: Any) -> list[dict[str, Any]]:
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}
    return [{"ChannelName": "training", "DataSource": source, **more}]


def put(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda request: request.update(changes)


CASES: list[tuple[str, Callable[[dict[str, Any]], None], str, str]] = [
    ("name", put(TrainingJobName="no_underscores"), "ValidationException", "failed to satisfy constraint"),
    ("long name", put(TrainingJobName="x" * 64), "ValidationException", "less than or equal to 63"),
    (
        "instance type",
        put(ResourceConfig={"InstanceType": "ml.none", "InstanceCount": 1, "VolumeSizeInGB": 1}),
        "ValidationException",
        "enum value set",
    ),
    ("role", put(RoleArn="arn:aws:iam::000000000000:role/Nobody"), "ValidationException", "Could not assume role"),
    (
        "role account",
        put(RoleArn="arn:aws:iam::111111111111:role/SageMakerRole"),
        "ValidationException",
        "Could not assume",
    ),
    (
        "empty prefix",
        put(InputDataConfig=channel("s3://bad-input/none/")),
        "ValidationException",
        "No S3 objects found",
    ),
    ("no bucket", put(InputDataConfig=channel("s3://no-such-bucket/x")), "ValidationException", "No S3 objects found"),
    (
        "output bucket",
        put(OutputDataConfig={"S3OutputPath": "s3://no-such-bucket/out"}),
        "ValidationException",
        "aws s3 mb s3://no-such-bucket",
    ),
    (
        "gzip in files",
        put(InputDataConfig=channel("s3://bad-input/data", CompressionType="Gzip")),
        "ValidationException",
        "needs Pipe input mode",
    ),
    (
        "too many hosts",
        put(ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 65, "VolumeSizeInGB": 1}),
        "ResourceLimitExceeded",
        "64",
    ),
    ("no image", put(AlgorithmSpecification={"TrainingInputMode": "File"}), "ValidationException", "TrainingImage"),
]


@pytest.fixture
def sagemaker(server: Server) -> Any:
    s3 = server.client("s3")
    s3.create_bucket(Bucket="bad-input")
    s3.put_object(Bucket="bad-input", Key="data/a", Body=b"a")
    return server.client("sagemaker", parameter_validation=False)


@pytest.mark.parametrize(("what", "change", "code", "words"), CASES, ids=[case[0] for case in CASES])
def test_a_bad_training_request_is_refused_at_the_call(
    sagemaker: Any, what: str, change: Callable[[dict[str, Any]], None], code: str, words: str
) -> None:
    request = copy.deepcopy(GOOD)
    change(request)
    with pytest.raises(ClientError) as caught:
        sagemaker.create_training_job(**request)
    error = caught.value.response["Error"]
    assert error["Code"] == code
    assert words in error["Message"]


def test_a_taken_name_is_resource_in_use(sagemaker: Any) -> None:
    sagemaker.create_training_job(**{**GOOD, "TrainingJobName": "taken"})
    with pytest.raises(sagemaker.exceptions.ResourceInUse, match="already exists"):
        sagemaker.create_training_job(**{**GOOD, "TrainingJobName": "taken"})


def test_an_operation_that_is_not_there_is_named(server: Server) -> None:
    for service, call in (
        ("sagemaker", lambda client: client.list_pipelines()),
        ("iam", lambda client: client.list_users()),
        ("s3", lambda client: client.list_bucket_analytics_configurations(Bucket="bad-input")),
        ("ec2", lambda client: client.describe_instances()),
        ("lambda", lambda client: client.list_functions()),
    ):
        with pytest.raises(ClientError) as caught:
            call(server.client(service))
        error = caught.value
        assert error.operation_name in error.response["Error"]["Message"], service
        assert service in error.response["Error"]["Message"].lower()


@pytest.mark.parametrize("service", ["sagemaker", "s3", "sts", "logs"])
def test_nobody_without_a_valid_signature_gets_anything(server: Server, service: str) -> None:
    calls = {
        "sagemaker": lambda client: client.list_training_jobs(),
        "s3": lambda client: client.list_buckets(),
        "sts": lambda client: client.get_caller_identity(),
        "logs": lambda client: client.describe_log_groups(),
    }
    env = server.env("--no-proxy")
    for change in (
        {"aws_secret_access_key": "x" * 40},
        {"aws_access_key_id": "ASIAXXXXXXXXXXXXXXXX"},
        {"aws_session_token": "nonsense"},
        {"aws_session_token": None},
    ):
        keys: dict[str, Any] = {
            "aws_access_key_id": env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"],
            "aws_session_token": env["AWS_SESSION_TOKEN"],
            **change,
        }
        client = botocore.session.Session().create_client(
            service,
            region_name="us-east-1",
            endpoint_url=server.url,
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
            **keys,
        )
        with pytest.raises(ClientError) as caught:
            calls[service](client)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in {400, 403}
        assert "sagewright env" in caught.value.response["Error"]["Message"]
