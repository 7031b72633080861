"""Endpoints as their owners watch and leave them: metrics, deleting at any time, the control API beside busy models."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.loaders
import botocore.session

from e2e.hosting import ON_DOCKER, containers, is_docker, refusal
from support.deployments import BUCKET, Deployments
from support.server import wait_for

PROTOCOLS = ("json", "query")


class OneProtocol(botocore.loaders.Loader):
    """botocore's models, as botocore has them that knows no other protocol of CloudWatch."""

    protocol = ""

    def load_service_model(self, service_name: str, type_name: str, api_version: str | None = None) -> Any:
        model = super().load_service_model(service_name, type_name, api_version)
        if service_name == "cloudwatch" and type_name == "service-2":
            one = {"protocol": self.protocol, "protocols": [self.protocol]}
            return {**model, "metadata": {**model["metadata"], **one}}
        return model


def cloudwatch(made: Deployments, protocol: str) -> Any:
    env = made.server.env("--no-proxy")
    session = botocore.session.Session()
    loader = OneProtocol(include_default_search_paths=True)
    loader.protocol = protocol
    session.register_component("data_loader", loader)
    return session.create_client(
        "cloudwatch",
        region_name=env["AWS_REGION"],
        endpoint_url=made.server.url,
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=env["AWS_SESSION_TOKEN"],
    )


def test_invocations_are_seen_in_cloudwatch(made: Deployments) -> None:
    name = made.deploy()
    for _ in range(5):
        made.invoke(name)
    for status in (400, 503):
        assert refusal(lambda status=status: made.invoke(name, CustomAttributes=f"status={status}"))
    wanted = {
        "Invocations": 7.0,
        "InvocationsPerInstance": 7.0,
        "Invocation4XXErrors": 1.0,
        "Invocation5XXErrors": 1.0,
        "InvocationModelErrors": 2.0,
    }
    for protocol in PROTOCOLS:
        client = cloudwatch(made, protocol)
        assert client.meta.service_model.resolved_protocol == protocol
        for read in (by_data, by_statistics):
            totals = {metric: total_once(read, client, name, metric, value) for metric, value in wanted.items()}
            assert totals == wanted, protocol
            for metric in ("ModelLatency", "OverheadLatency"):
                assert read(client, name, metric, "SampleCount") == 7.0
                assert 0 < read(client, name, metric, "Maximum") < 60_000_000


Read = Callable[[Any, str, str, str], float]


def total_once(read: Read, client: Any, name: str, metric: str, value: float) -> float:
    """Counts reach the store every five seconds."""
    wait_for(lambda: read(client, name, metric, "Sum") >= value, f"{metric} is there", 30)
    return read(client, name, metric, "Sum")


def question(name: str, metric: str) -> tuple[dict[str, Any], dict[str, Any]]:
    dimensions = [{"Name": "EndpointName", "Value": name}, {"Name": "VariantName", "Value": "v"}]
    now = datetime.now(UTC)
    times = {"StartTime": now - timedelta(minutes=10), "EndTime": now + timedelta(minutes=1)}
    return {"Namespace": "AWS/SageMaker", "MetricName": metric, "Dimensions": dimensions}, times


def by_data(client: Any, name: str, metric: str, stat: str) -> float:
    what, times = question(name, metric)
    query = {"Id": "q", "MetricStat": {"Metric": what, "Period": 60, "Stat": stat}}
    [found] = client.get_metric_data(MetricDataQueries=[query], **times)["MetricDataResults"]
    return together(stat, found["Values"])


def by_statistics(client: Any, name: str, metric: str, stat: str) -> float:
    what, times = question(name, metric)
    points = client.get_metric_statistics(**what, **times, Period=60, Statistics=[stat])["Datapoints"]
    return together(stat, [point[stat] for point in points])


def together(stat: str, values: list[float]) -> float:
    return float(max(values, default=0.0) if stat == "Maximum" else sum(values))


def test_a_slow_model_does_not_stall_the_control_api(made: Deployments) -> None:
    """Requests are under way, and none of them ends before the control API has answered many of its own."""
    name = made.deploy()
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(made.invoke, name, b"%d" % number, CustomAttributes="sleep=10") for number in range(8)]
        for number in range(5):
            assert made.describe(name)["EndpointStatus"] == "InService"
            made.sagemaker.list_endpoints()
            made.s3.put_object(Bucket=BUCKET, Key=f"meanwhile/{number}", Body=b"x" * 1000)
        assert not any(each.done() for each in asked), "the model is still at it"
        assert [each.result()["Body"] for each in asked] == [b"%d" % number for number in range(8)]


def test_an_endpoint_can_be_deleted_while_it_is_created_and_while_it_is_changed(made: Deployments) -> None:
    """Once its program listens to SIGTERM: one that does not yet has 30 seconds, as on AWS."""
    never = made.model(behaviour="never-healthy")

    for number in range(2):  # the name is free again
        name = made.create(made.config(never))
        assert made.describe(name)["EndpointStatus"] == "Creating"
        wait_for(lambda name=name, lives=number + 1: lives_of(made, name) == lives, "its container runs")
        made.delete(name)
    name = made.deploy()
    made.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=made.config(never))
    assert made.describe(name)["EndpointStatus"] == "Updating"
    assert made.invoke(name)["Body"] == b"1,2,3"
    wait_for(lambda: lives_of(made, name) == 3, "its container runs")
    made.delete(name)
    assert "not found" in str(refusal(lambda: made.invoke(name)))
    if is_docker(made):
        wait_for(lambda: not containers(name), "nothing is left of it")


def lives_of(made: Deployments, name: str) -> int:
    """How many containers that are never healthy have begun to serve; the log outlives the endpoint."""
    return made.server.run("logs", "--endpoint", name, check=False).stdout.count("as never-healthy")


@ON_DOCKER
def test_a_failed_endpoint_can_be_deleted_only(made: Deployments) -> None:
    image, made.image = made.image, "sagewright-test/there-is-none:2"
    name = made.create(made.config(made.model("bad")))
    assert made.settled(name)["EndpointStatus"] == "Failed"
    made.image = image
    good = made.config(made.model())
    error = refusal(lambda: made.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=good))
    assert error.response["Error"]["Code"] == "ValidationException"
    made.delete(name)
    assert made.in_service(made.create(good))["EndpointName"] == name
