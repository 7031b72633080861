"""The hosting control plane through botocore: the calls of the SDKs in their order, waiters, paginators, garbage.

There is no controller here: the tests write what it would. Every answer is compared with botocore's model of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError, WaiterError
from botocore.model import Shape

from sagewright.core.clock import SystemClock
from sagewright.core.credentials import Keyring
from sagewright.core.ids import DEFAULT_ACCOUNT
from sagewright.gateway.application import Gateway
from sagewright.services.sagemaker.service import service
from sagewright.store.db import Database
from sagewright.store.kinds import role as roles
from support.front_bench import MASTER, Bench, running
from support.hosting import ROLE, add_artifact, config, forget, model, serve, set_status, variant

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class HostingBench(Bench):
    """A gateway over a real store, with nothing but SageMaker's operations."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gateway.close()
        self.rows = Database.open(folder / "rows.db")
        self.rows.write(lambda tx: roles.ensure_default(tx, DEFAULT_ACCOUNT, NOW))
        add_artifact(self.rows, NOW)
        self.gateway = Gateway(
            keyring=Keyring(MASTER),
            services={"sagemaker": service(b"secret")},
            objects=self.objects,
            store=self.rows,
            clock=SystemClock(),
            settings=self.settings,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[HostingBench]:
    made = HostingBench(tmp_path)
    with running(made):
        yield made
    made.rows.close()


@pytest.fixture
def sagemaker(bench: HostingBench) -> Any:
    client = bench.client("sagemaker")
    client.meta.events.register("before-parse.sagemaker.*", check_answer)
    return client


def send_raw(client: Any, operation: str, request: dict[str, Any]) -> tuple[str, str, int]:
    """The refusal of a request that botocore would not even write down."""

    def replace_body(params: dict[str, Any], **_: Any) -> None:
        params["body"] = json.dumps(request).encode()

    client.meta.events.register("before-call.sagemaker.*", replace_body, "raw")
    try:
        return refusal(getattr(client, operation))
    finally:
        client.meta.events.unregister("before-call.sagemaker.*", replace_body, "raw")


def check_answer(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Every member is one that the model has, and of its JSON type: SDK v3 is strict about it."""
    if response_dict["status_code"] == 200 and operation_model.output_shape is not None:
        check_shape(operation_model.output_shape, json.loads(response_dict["body"]), operation_model.name)


def check_shape(shape: Shape, value: Any, path: str) -> None:
    if shape.type_name == "structure":
        assert set(value) <= set(shape.members), path
        assert set(shape.required_members) <= set(value), path
        for name, item in value.items():
            check_shape(shape.members[name], item, f"{path}.{name}")
    elif shape.type_name == "list":
        for item in value:
            check_shape(shape.member, item, f"{path}[]")
    elif shape.type_name == "map":
        assert all(isinstance(item, str) for pair in value.items() for item in pair), path
    else:
        types = {"string": str, "integer": int, "float": (int, float), "boolean": bool, "timestamp": (int, float)}
        assert isinstance(value, types[shape.type_name]), f"{path}: {value!r}"
        assert shape.type_name != "string" or not shape.enum or value in shape.enum, f"{path}: {value!r}"


def refusal(call: Any, **request: Any) -> tuple[str, str, int]:
    with pytest.raises(ClientError) as caught:
        call(**request)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["Error"]["Message"], answer["ResponseMetadata"]["HTTPStatusCode"]


def deploy(sagemaker: Any, name: str = "e") -> None:
    """Model.deploy of SDK v2."""
    sagemaker.create_model(**model())
    sagemaker.create_endpoint_config(**config())
    assert sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="config", Tags=[])["EndpointArn"]


def test_deploy_as_the_sdk_does_it(bench: HostingBench, sagemaker: Any) -> None:
    code, message, status = refusal(sagemaker.describe_endpoint_config, EndpointConfigName="config")  # v1 asks first
    assert (code, status) == ("ValidationException", 400)
    assert "Could not find" in message
    deploy(sagemaker)
    assert "Cannot create already existing model" in refusal(sagemaker.create_model, **model())[1]
    assert sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "Creating"
    serve(bench.rows, "e", datetime.now(UTC))
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    (only,) = sagemaker.describe_endpoint(EndpointName="e")["ProductionVariants"]
    assert (only["CurrentInstanceCount"], only["CurrentWeight"]) == (1, 1.0)


def test_update_as_the_sdk_does_it(bench: HostingBench, sagemaker: Any) -> None:
    """Predictor.update_endpoint: a new configuration from the members of the old one's description."""
    deploy(sagemaker)
    serve(bench.rows, "e", datetime.now(UTC))
    old = sagemaker.describe_endpoint_config(
        EndpointConfigName=sagemaker.describe_endpoint(EndpointName="e")["EndpointConfigName"]
    )
    tags = sagemaker.list_tags(ResourceArn=old["EndpointConfigArn"], MaxResults=50)["Tags"]
    copied = ("ProductionVariants", "KmsKeyId", "DataCaptureConfig", "AsyncInferenceConfig", "ExplainerConfig")
    request = {name: old[name] for name in copied if name in old}
    request["ProductionVariants"][0]["InitialInstanceCount"] = 2
    sagemaker.create_endpoint_config(EndpointConfigName="config-2", Tags=tags, **request)
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="config-2")
    during = sagemaker.describe_endpoint(EndpointName="e")
    assert (during["EndpointStatus"], during["EndpointConfigName"]) == ("Updating", "config")
    assert during["PendingDeploymentSummary"]["EndpointConfigName"] == "config-2"
    serve(bench.rows, "e", datetime.now(UTC))
    after = sagemaker.describe_endpoint(EndpointName="e")
    assert (after["EndpointStatus"], after["EndpointConfigName"]) == ("InService", "config-2")
    assert after["ProductionVariants"][0]["DesiredInstanceCount"] == 2
    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="e", DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}]
    )
    assert sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "Updating"


def test_delete_as_the_sdk_does_it(bench: HostingBench, sagemaker: Any) -> None:
    """Predictor.delete_model, then delete_endpoint, which deletes the configuration first."""
    deploy(sagemaker)
    serve(bench.rows, "e", datetime.now(UTC))
    used = sagemaker.describe_endpoint(EndpointName="e")["EndpointConfigName"]
    for each in sagemaker.describe_endpoint_config(EndpointConfigName=used)["ProductionVariants"]:
        sagemaker.delete_model(ModelName=each["ModelName"])
    sagemaker.delete_endpoint_config(EndpointConfigName=used)
    assert sagemaker.describe_endpoint(EndpointName="e")["EndpointStatus"] == "InService"
    sagemaker.delete_endpoint(EndpointName="e")
    waiter = sagemaker.get_waiter("endpoint_deleted")
    with pytest.raises(WaiterError, match="Max attempts exceeded"):
        waiter.wait(EndpointName="e", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    forget(bench.rows, "e")
    waiter.wait(EndpointName="e", WaiterConfig={"Delay": 0, "MaxAttempts": 1})
    assert refusal(sagemaker.delete_endpoint, EndpointName="e") == (
        "ValidationException",
        'Could not find endpoint "arn:aws:sagemaker:us-east-1:000000000000:endpoint/e".',
        400,
    )


def test_a_failed_endpoint_ends_the_wait_and_says_why(bench: HostingBench, sagemaker: Any) -> None:
    deploy(sagemaker)
    set_status(bench.rows, "e", "Failed", datetime.now(UTC), failure_reason="The primary container did not start")
    with pytest.raises(WaiterError, match="terminal failure state"):
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig={"Delay": 0, "MaxAttempts": 2})
    assert "primary container" in sagemaker.describe_endpoint(EndpointName="e")["FailureReason"]


def test_lists_page_with_every_filter(sagemaker: Any) -> None:
    sagemaker.create_model(**model())
    names = [f"n-{number}" for number in range(5)]
    for name in names:
        sagemaker.create_model(**model(name))
        sagemaker.create_endpoint_config(**config(name))
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    an_hour_ago = datetime.now(UTC) - timedelta(hours=1)
    times = {"CreationTimeAfter": an_hour_ago, "CreationTimeBefore": datetime.now(UTC) + timedelta(hours=1)}
    more = {"StatusEquals": "Creating", "LastModifiedTimeAfter": an_hour_ago}
    for operation, member, key, filters in (
        ("list_models", "Models", "ModelName", {}),
        ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName", {}),
        ("list_endpoints", "Endpoints", "EndpointName", more),
    ):
        sent = {"NameContains": "n-", "SortBy": "Name", "SortOrder": "Ascending", **times, **filters}
        pages = list(sagemaker.get_paginator(operation).paginate(**sent, PaginationConfig={"PageSize": 2}))
        assert [len(page[member]) for page in pages] == [2, 2, 1]
        assert [each[key] for page in pages for each in page[member]] == names
        newest = getattr(sagemaker, operation)(MaxResults=1)[member]
        assert [each[key] for each in newest] == ["n-4"]
        assert "NextToken" not in getattr(sagemaker, operation)(MaxResults=100)


def test_tags_of_every_kind(sagemaker: Any) -> None:
    tags = [{"Key": "team", "Value": "a"}]
    arns = [
        sagemaker.create_model(**model(Tags=tags))["ModelArn"],
        sagemaker.create_endpoint_config(**config(Tags=tags))["EndpointConfigArn"],
        sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="config", Tags=tags)["EndpointArn"],
    ]
    for arn in arns:
        assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == tags
        sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "x", "Value": "1"}])
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=["team"])
        assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "x", "Value": "1"}]


def test_every_member_of_every_shape_comes_back(sagemaker: Any) -> None:
    """A direct multi-container model and a configuration with all that is accepted."""
    containers = [
        {"Image": f"image-{number}", "ContainerHostname": f"c{number}", "Environment": {"N": str(number)}}
        for number in range(3)
    ]
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    sagemaker.create_model(
        ModelName="model",
        ExecutionRoleArn=ROLE,
        Containers=containers,
        InferenceExecutionConfig={"Mode": "Direct"},
        VpcConfig=vpc,
    )
    shown = sagemaker.describe_model(ModelName="model")
    assert [each["ContainerHostname"] for each in shown["Containers"]] == ["c0", "c1", "c2"]
    assert (shown["InferenceExecutionConfig"], shown["VpcConfig"]) == ({"Mode": "Direct"}, vpc)
    rich = variant(
        RoutingConfig={"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        ContainerStartupHealthCheckTimeoutInSeconds=60,
        ModelDataDownloadTimeoutInSeconds=60,
        VolumeSizeInGB=1,
    )
    sagemaker.create_endpoint_config(**config("config", rich, EnableNetworkIsolation=True))
    described = sagemaker.describe_endpoint_config(EndpointConfigName="config")
    assert described["ProductionVariants"] == [rich]
    assert described["EnableNetworkIsolation"] is True


def test_garbage_is_the_callers_fault(bench: HostingBench, sagemaker: Any) -> None:
    """Nothing that a client can send makes an internal error, and nothing of it is kept."""
    careless = bench.client("sagemaker", config={"proxies": {}, "parameter_validation": False})
    deploy(sagemaker)
    tries: list[tuple[str, dict[str, Any]]] = [
        ("create_model", {"ModelName": "x"}),
        ("create_model", model("-x")),
        ("create_model", model("x", PrimaryContainer={"Image": "a b"})),
        ("create_model", model("x", PrimaryContainer={"Image": "i", "Environment": {"a": None}})),
        ("create_model", model("x", PrimaryContainer={"Image": "i", "ModelDataUrl": ""})),
        ("create_model", model("x", PrimaryContainer=None, Containers=[None])),
        ("create_model", model("x", PrimaryContainer=None, Containers=[{}] * 16)),
        ("create_model", model("x", ExecutionRoleArn="role")),
        ("create_model", model("x", Tags=[None])),
        ("create_endpoint_config", {"EndpointConfigName": "x"}),
        ("create_endpoint_config", {"EndpointConfigName": "x", "ProductionVariants": []}),
        ("create_endpoint_config", {"EndpointConfigName": "x", "ProductionVariants": [None]}),
        ("create_endpoint_config", config("x", variant(InstanceType="ml.none"))),
        ("create_endpoint_config", config("x", variant(InitialVariantWeight=-1))),
        ("create_endpoint_config", config("x", variant(ContainerStartupHealthCheckTimeoutInSeconds=1))),
        ("create_endpoint", {"EndpointName": "x"}),
        ("create_endpoint", {"EndpointName": "x" * 64, "EndpointConfigName": "config"}),
        ("create_endpoint", {"EndpointName": "x_y", "EndpointConfigName": "config"}),
        ("update_endpoint", {"EndpointName": "e", "EndpointConfigName": "config", "DeploymentConfig": {}}),
        ("update_endpoint_weights_and_capacities", {"EndpointName": "e", "DesiredWeightsAndCapacities": [None]}),
        ("update_endpoint_weights_and_capacities", {"EndpointName": "e", "DesiredWeightsAndCapacities": []}),
        ("list_endpoints", {"SortBy": "Color"}),
        ("list_endpoints", {"MaxResults": 101}),
        ("list_endpoints", {"NextToken": "x"}),
        ("list_tags", {"ResourceArn": "arn:aws:sagemaker:us-east-1:000000000000:endpoint"}),
    ]
    for operation, request in tries:
        code, message, status = send_raw(careless, operation, request)
        assert (code, status) == ("ValidationException", 400), (operation, request, message)
    assert [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]] == ["e"]
    assert [each["ModelName"] for each in sagemaker.list_models()["Models"]] == ["model"]
    assert [each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]] == ["config"]
