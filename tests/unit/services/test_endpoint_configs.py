"""Endpoint configuration operations over a real store."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagewright.services.sagemaker.service import service
from sagewright.store.db import Database
from sagewright.wire.faults import ApiFault
from support.hosting import ROLE, add_artifact, config, model, variant
from unit.services.conftest import NOW, Call

SAGEMAKER = service(b"secret")
ARN = "arn:aws:sagemaker:us-east-1:000000000000:endpoint-config/config"
CAPTURE = {
    "InitialSamplingPercentage": 20,
    "DestinationS3Uri": "s3://bucket/c",
    "CaptureOptions": [{"CaptureMode": "Input"}],
}


@pytest.fixture(autouse=True)
def a_model(store: Database, call: Call) -> None:
    add_artifact(store, NOW)
    call(SAGEMAKER, "CreateModel", **model())
    call(SAGEMAKER, "CreateModel", **model("roleless", ExecutionRoleArn=None))


def test_what_was_asked_is_shown_and_can_be_sent_again(call: Call) -> None:
    """The SDK's update_endpoint makes a new configuration from the members of this answer."""
    rich = variant(
        "B",
        InitialVariantWeight=None,
        VolumeSizeInGB=20,
        ModelDataDownloadTimeoutInSeconds=600,
        ContainerStartupHealthCheckTimeoutInSeconds=60,
        RoutingConfig={"RoutingStrategy": "RANDOM"},
        InferenceAmiVersion="al2-ami-sagemaker-inference-gpu-2",
        EnableSSMAccess=False,
    )
    more = {"KmsKeyId": "key", "DataCaptureConfig": {**CAPTURE, "EnableCapture": False}}
    assert call(SAGEMAKER, "CreateEndpointConfig", **config("config", variant(), rich, **more)) == {
        "EndpointConfigArn": ARN
    }
    shown = dict(call(SAGEMAKER, "DescribeEndpointConfig", EndpointConfigName="config"))
    assert shown.pop("EndpointConfigArn") == ARN
    assert shown.pop("CreationTime") == NOW
    assert shown["ProductionVariants"] == [variant(), {**rich, "InitialVariantWeight": 1.0}]
    assert more.items() <= shown.items()
    call(SAGEMAKER, "CreateEndpointConfig", **{**shown, "EndpointConfigName": "again"})
    again = call(SAGEMAKER, "DescribeEndpointConfig", EndpointConfigName="again")
    assert {**shown, "EndpointConfigName": "again"}.items() <= again.items()


def test_names_missing_and_taken_are_told_in_the_words_that_sdks_know(call: Call) -> None:
    with pytest.raises(ApiFault) as caught:
        call(SAGEMAKER, "DescribeEndpointConfig", EndpointConfigName="config")
    assert (caught.value.code, caught.value.message) == (
        "ValidationException",
        f'Could not find endpoint configuration "{ARN}".',
    )
    call(SAGEMAKER, "CreateEndpointConfig", **config())
    with pytest.raises(ApiFault) as caught:
        call(SAGEMAKER, "CreateEndpointConfig", **config())
    assert (caught.value.code, caught.value.message) == (
        "ValidationException",
        f'Cannot create already existing endpoint configuration "{ARN}".',
    )
    call(SAGEMAKER, "DeleteEndpointConfig", EndpointConfigName="config")
    with pytest.raises(ApiFault, match="Could not find endpoint configuration"):
        call(SAGEMAKER, "DeleteEndpointConfig", EndpointConfigName="config")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (config("config", variant(), variant()), "two variants named 'AllTraffic'"),
        (config("config", variant(ModelName="none")), 'Could not find model "arn:aws:sagemaker:us-east-1:'),
        (config("config", variant(ModelName="roleless")), "has no ExecutionRoleArn"),
        (config("config", variant(ModelName=None)), "is for inference components"),
        (config("config", variant(InstanceType=None)), "has no InstanceType"),
        (config("config", variant(InitialInstanceCount=None)), "must be at least 1"),
        (config("config", variant(InitialInstanceCount=0)), "must be at least 1"),
        (config("config", variant(InitialVariantWeight=float("inf"))), "finite"),
        (config("config", variant(ServerlessConfig={"MemorySizeInMB": 1024, "MaxConcurrency": 1})), "ServerlessConfig"),
        (config("config", variant(ManagedInstanceScaling={"Status": "ENABLED"})), "ManagedInstanceScaling"),
        (config("config", variant(AcceleratorType="ml.eia1.medium")), "AcceleratorType"),
        (config("config", variant(InstancePools=[{}])), "InstancePools"),
        (config("config", variant(CoreDumpConfig={"DestinationS3Uri": "s3://b/x"})), "CoreDumpConfig"),
        (config("config", variant(EnableSSMAccess=True)), "EnableSSMAccess"),
        (config("config", variant(RoutingConfig={"RoutingStrategy": "KV_AWARE"})), "RoutingStrategy KV_AWARE"),
        (config(DataCaptureConfig=CAPTURE), "EnableCapture=False"),
        (config(DataCaptureConfig={**CAPTURE, "EnableCapture": True}), "EnableCapture=False"),
        (config(AsyncInferenceConfig={"OutputConfig": {}}), "AsyncInferenceConfig is not supported"),
        (config(ShadowProductionVariants=[variant("Shadow")]), "ShadowProductionVariants is not supported"),
        (config(ExplainerConfig={"ClarifyExplainerConfig": {}}), "ExplainerConfig is not supported"),
        (config(MetricsConfig={"EnableEnhancedMetrics": True}), "MetricsConfig"),
        (config(ExecutionRoleArn="arn:aws:iam::000000000000:role/none"), "Could not assume role"),
        (config(Tags=[{"Key": "aws:a", "Value": ""}]), "reserved"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_change(call: Call, asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateEndpointConfig", **asked)
    assert words in caught.value.message
    with pytest.raises(ApiFault, match="Could not find endpoint configuration"):
        call(SAGEMAKER, "DescribeEndpointConfig", EndpointConfigName="config")


def test_the_configuration_may_bring_the_role(call: Call) -> None:
    call(SAGEMAKER, "CreateEndpointConfig", **config("config", variant(ModelName="roleless"), ExecutionRoleArn=ROLE))


def test_lists_are_newest_first_and_filtered(call: Call) -> None:
    for second, name in enumerate(("a-one", "b-two", "c-one")):
        call(SAGEMAKER, "CreateEndpointConfig", second=second, **config(name))

    def names(**filters: Any) -> list[str]:
        page = call(SAGEMAKER, "ListEndpointConfigs", **filters)
        return [summary["EndpointConfigName"] for summary in page["EndpointConfigs"]]

    assert names() == ["c-one", "b-two", "a-one"]
    assert names(NameContains="one", SortOrder="Ascending", SortBy="Name") == ["a-one", "c-one"]
    assert names(CreationTimeAfter=NOW + timedelta(seconds=1), MaxResults=1) == ["c-one"]
    assert names(CreationTimeBefore=NOW) == []
