"""Validation in AWS's words."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sagewright.wire.faults import ApiFault
from sagewright.wire.validate import validate

GOOD: dict[str, Any] = {
    "TrainingJobName": "my-job",
    "AlgorithmSpecification": {"TrainingInputMode": "File", "TrainingImage": "image"},
    "RoleArn": "arn:aws:iam::000000000000:role/SageMakerRole",
    "OutputDataConfig": {"S3OutputPath": "s3://bucket/path"},
    "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 30},
    "StoppingCondition": {"MaxRuntimeInSeconds": 60},
}
NAME = "[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}"


def fault_of(operation: str, params: dict[str, Any], service: str = "sagemaker") -> ApiFault:
    with pytest.raises(ApiFault) as raised:
        validate(service, operation, params)
    assert raised.value.status == 400
    return raised.value


def problem(change: dict[str, Any]) -> str:
    """The one constraint that CreateTrainingJob says is broken."""
    message = fault_of("CreateTrainingJob", {**GOOD, **change}).message
    assert message.startswith("1 validation error detected: ")
    return message.removeprefix("1 validation error detected: ")


def test_a_good_request_passes() -> None:
    validate("sagemaker", "CreateTrainingJob", GOOD)
    validate("sagemaker", "CreateTrainingJob", {**GOOD, "Unknown": 1, "Tags": [], "HyperParameters": {}})


def test_an_operation_without_input_passes() -> None:
    validate("sts", "GetCallerIdentity", {})


@pytest.mark.parametrize("name", ["a_b", "-a", "a-", "a b", "a\n", "ä"])
def test_a_name_outside_its_pattern(name: str) -> None:
    fault = fault_of("DescribeTrainingJob", {"TrainingJobName": name})
    assert fault.code == "ValidationException"
    assert fault.message == (
        f"1 validation error detected: Value '{name}' at 'trainingJobName' failed to satisfy constraint: "
        f"Member must satisfy regular expression pattern: {NAME}"
    )


def test_a_missing_member_at_any_level() -> None:
    message = "Value null at '{}' failed to satisfy constraint: Member must not be null"
    assert fault_of("DescribeTrainingJob", {}).message == "1 validation error detected: " + message.format(
        "trainingJobName"
    )
    assert problem({"OutputDataConfig": None}) == message.format("outputDataConfig")
    channel = {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix"}}}
    path = "inputDataConfig.2.member.dataSource.s3DataSource.s3Uri"
    good = {"ChannelName": "train", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b"}}}
    assert problem({"InputDataConfig": [good, channel]}) == message.format(path)
    assert problem({"Tags": [None]}) == message.format("tags.1.member")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"TrainingJobName": "a" * 64},
            f"Value '{'a' * 64}' at 'trainingJobName' failed to satisfy constraint: "
            "Member must have length less than or equal to 63",
        ),
        (
            {"ResourceConfig": {**GOOD["ResourceConfig"], "InstanceCount": -1}},
            "Value '-1' at 'resourceConfig.instanceCount' failed to satisfy constraint: "
            "Member must have value greater than or equal to 0",
        ),
        (
            {"RetryStrategy": {"MaximumRetryAttempts": 31}},
            "Value '31' at 'retryStrategy.maximumRetryAttempts' failed to satisfy constraint: "
            "Member must have value less than or equal to 30",
        ),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "Pigeon"}},
            "Value 'Pigeon' at 'algorithmSpecification.trainingInputMode' failed to satisfy constraint: "
            "Member must satisfy enum value set: [Pipe, File, FastFile]",
        ),
        (
            {"VpcConfig": {"SecurityGroupIds": [], "Subnets": ["subnet-1"]}},
            "Value '[]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: "
            "Member must have length greater than or equal to 1",
        ),
        (
            {"VpcConfig": {"SecurityGroupIds": ["sg-1", "sg 2"], "Subnets": ["subnet-1"]}},
            "Value '[sg-1, sg 2]' at 'vpcConfig.securityGroupIds' failed to satisfy constraint: Member must satisfy "
            "constraint: [Member must have length less than or equal to 32, Member must have length greater than or "
            "equal to 0, Member must satisfy regular expression pattern: [-0-9a-zA-Z]+]",
        ),
        (
            {"HyperParameters": {"a": "b" * 2501}},
            f"Value '{{a={'b' * 2501}}}' at 'hyperParameters' failed to satisfy constraint: Map value must satisfy "
            "constraint: [Member must have length less than or equal to 2500, Member must have length greater than or "
            "equal to 0, Member must satisfy regular expression pattern: .*]",
        ),
        (
            {"Tags": [{"Key": "a", "Value": "b"}] * 51},
            "Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50",
        ),
    ],
)
def test_every_constraint_in_awss_words(change: dict[str, Any], sentence: str) -> None:
    assert problem(change) == sentence


def test_several_problems_are_counted_and_joined() -> None:
    message = fault_of("CreateTrainingJob", {"TrainingJobName": "a b"}).message
    assert message.startswith("3 validation errors detected: Value null at ")
    assert message.count("; ") == 2


@pytest.mark.parametrize("chosen", [(), ("TabularJobConfig", "TimeSeriesForecastingJobConfig")])
def test_a_union_takes_exactly_one(chosen: tuple[str, ...]) -> None:
    good = {
        "TabularJobConfig": {"TargetAttributeName": "y"},
        "TimeSeriesForecastingJobConfig": {
            "ForecastFrequency": "1D",
            "ForecastHorizon": 1,
            "TimeSeriesConfig": {
                "TargetAttributeName": "y",
                "TimestampAttributeName": "t",
                "ItemIdentifierAttributeName": "i",
            },
        },
    }
    params: dict[str, Any] = {
        "AutoMLJobName": "a",
        "AutoMLJobInputDataConfig": [{}],
        "OutputDataConfig": {"S3OutputPath": "s3://b"},
        "RoleArn": GOOD["RoleArn"],
        "AutoMLProblemTypeConfig": {"TabularJobConfig": good["TabularJobConfig"]},
    }
    validate("sagemaker", "CreateAutoMLJobV2", params)
    params["AutoMLProblemTypeConfig"] = {name: good[name] for name in chosen}
    message = fault_of("CreateAutoMLJobV2", params).message
    assert "Value at 'autoMLProblemTypeConfig' failed to satisfy constraint: Member must have exactly one of" in message


def test_a_secret_is_never_repeated() -> None:
    fault = fault_of("CreateTrainingJob", {**GOOD, "Environment": None, "ModelPackageConfig": {}})
    assert "at 'modelPackageConfig.modelPackageGroupArn'" in fault.message
    secret = fault_of(
        "AssumeRoleWithWebIdentity", {"RoleArn": "a" * 20, "RoleSessionName": "ab", "WebIdentityToken": ""}, "sts"
    )
    assert "Value at 'webIdentityToken' failed to satisfy constraint" in secret.message


def test_a_million_bad_elements_make_a_short_message() -> None:
    message = fault_of("AddTags", {"ResourceArn": "arn:aws:sagemaker:x", "Tags": [None] * 300_000}).message
    assert len(message) < 20_000


@pytest.mark.parametrize(
    ("service", "operation", "params", "code"),
    [
        ("sagemaker", "DescribeTrainingJob", {}, "ValidationException"),
        ("iam", "GetRole", {}, "ValidationError"),
        ("sts", "AssumeRole", {"RoleArn": "x"}, "ValidationError"),
        ("cloudwatch", "PutMetricData", {}, "ValidationError"),
        ("logs", "GetLogEvents", {}, "InvalidParameterException"),
        ("ecr", "CreateRepository", {"repositoryName": "UPPER"}, "InvalidParameterException"),
        ("sagemaker-runtime", "InvokeEndpoint", {}, "ValidationError"),
    ],
)
def test_the_code_is_the_services_own(service: str, operation: str, params: dict[str, Any], code: str) -> None:
    assert fault_of(operation, params, service).code == code


def test_s3_checks_no_patterns() -> None:
    validate("s3", "PutObject", {"Bucket": "NOT legal!", "Key": "k"})


@settings(max_examples=60)
@given(st.text(max_size=70))
def test_text_of_any_kind_passes_or_is_refused(name: str) -> None:
    with contextlib.suppress(ApiFault):
        validate("sagemaker", "DescribeTrainingJob", {"TrainingJobName": name})
