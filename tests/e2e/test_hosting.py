"""Endpoints of real containers: deployed, invoked, changed under load, killed, restarted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from e2e.conftest import run_script, sdk_python
from support.deployments import BUCKET, ROLE, Deployments, load
from support.server import Server, wait_for

BACKENDS = [pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]


def _image(request: pytest.FixtureRequest, backend: str, server: Server) -> str:
    if backend == "docker":
        return str(request.getfixturevalue("docker_image"))
    return str(request.getfixturevalue("folder_image")(server))


def _prefix(request: pytest.FixtureRequest, backend: str) -> str:
    return f"{backend}-{abs(hash(request.node.name)) % 10**8}"


@pytest.fixture(params=BACKENDS)
def made(request: pytest.FixtureRequest, server: Server) -> Iterator[Deployments]:
    deployments = Deployments(server, _image(request, request.param, server), _prefix(request, request.param))
    yield deployments
    deployments.close()


@pytest.fixture(params=BACKENDS)
def own(request: pytest.FixtureRequest, own_server: Server) -> Iterator[Deployments]:
    """On a server of its own, to be killed."""
    image = _image(request, request.param, own_server)
    own_server.start()
    deployments = Deployments(own_server, image, _prefix(request, request.param))
    yield deployments
    deployments.close()


def refusal(call: Callable[[], object]) -> ClientError:
    with pytest.raises(ClientError) as caught:
        call()
    return caught.value


def is_docker(made: Deployments) -> bool:
    return made.prefix.startswith("docker")


def containers(name: str) -> list[str]:
    """Ids of the running Docker containers of an endpoint."""
    listed = subprocess.run(
        ["docker", "ps", "--no-trunc", "--format", "{{.ID}} {{.Names}}"], capture_output=True, text=True, check=True
    ).stdout
    return sorted(line.split()[0] for line in listed.splitlines() if name in line)


# -- the SDK's way ------------------------------------------------------------------


@pytest.mark.sdk
@pytest.mark.parametrize("backend", BACKENDS)
def test_sdk_2_trains_deploys_predicts_and_deletes(
    request: pytest.FixtureRequest, server: Server, backend: str
) -> None:
    image = _image(request, backend, server)
    _, result = run_script(sdk_python("sdk2"), "deploy_sdk2.py", image, env=server.env())
    assert result["answer"] == "1,2,3\n4,5,6"
    sagemaker = server.client("sagemaker")
    wait_for(lambda: not sagemaker.list_endpoints(NameContains=result["endpoint"])["Endpoints"], "it is deleted")


# -- one endpoint -------------------------------------------------------------------


def test_deploy_invoke_delete(made: Deployments) -> None:
    name = made.deploy("trained")
    answer = made.invoke(name)
    assert answer["Body"] == b"1,2,3"
    assert answer["ContentType"] == "text/csv"
    assert answer["InvokedProductionVariant"] == "v"
    assert answer["CustomAttributes"].endswith(" trained"), "it has read /opt/ml/model"
    (variant,) = made.describe(name)["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DesiredInstanceCount"]) == (1, 1)
    made.delete(name)
    assert "not found" in str(refusal(lambda: made.invoke(name)))
    if is_docker(made):
        assert not containers(name)


def test_an_unknown_endpoint_is_said(server: Server) -> None:
    runtime = server.client("sagemaker-runtime")
    answer = refusal(lambda: runtime.invoke_endpoint(EndpointName="nowhere", Body=b"1")).response
    assert answer["Error"]["Code"] == "ValidationError"
    assert answer["Error"]["Message"] == "Endpoint nowhere of account 000000000000 not found."


def test_what_the_model_answers_is_told_as_a_model_error(made: Deployments) -> None:
    name = made.deploy(behaviour="fail")
    answer = refusal(lambda: made.invoke(name)).response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert answer["Error"]["Code"] == "ModelError"
    assert answer["OriginalStatusCode"] == 500
    assert answer["OriginalMessage"] == "a tensor has the wrong shape"
    group, stream = answer["LogStreamArn"].split(":log-group:")[1].split(":log-stream:")
    logs = made.server.client("logs")

    def lines() -> str:
        events = logs.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
        return "\n".join(event["message"] for event in events)

    wait_for(lambda: "the model could not answer" in lines(), "its log tells why")


def test_a_response_stream_comes_piece_by_piece(made: Deployments) -> None:
    name = made.deploy()
    answer = made.runtime.invoke_endpoint_with_response_stream(
        EndpointName=name, Body=b"x", ContentType="text/csv", CustomAttributes="stream=5"
    )
    pieces = [event["PayloadPart"]["Bytes"] for event in answer["Body"]]
    assert b"".join(pieces) == b"0:x;1:x;2:x;3:x;4:x;"
    assert len(pieces) > 1


def test_the_command_line_and_a_bearer_token(made: Deployments, tmp_path: Path) -> None:
    name = made.deploy()
    server, file = made.server, tmp_path / "x.csv"
    file.write_text("7,8,9\n")
    assert server.run("invoke", name, "--file", str(file), "--content-type", "text/csv").stdout == "7,8,9\n"
    described = {each["EndpointName"]: each for each in json.loads(server.run("endpoints", "--json").stdout)}
    assert described[name]["EndpointStatus"] == "InService"
    assert "1/1 instance" in server.run("endpoints").stdout
    assert "serves 'one' as echo" in wait_for(lambda: server.run("logs", name).stdout, "its log is shown")
    token = server.run("token", name).stdout.strip()
    assert post(server.url, name, token) == (200, b"1,2")
    status, said = post(server.url, name, token[:-2])
    assert status == 403
    assert b"sagewright token" in said
    other, _ = post(server.url, f"{name}-other", token)
    assert other in {400, 403}


def post(url: str, name: str, token: str) -> tuple[int, bytes]:
    request = urllib.request.Request(
        f"{url}/endpoints/{name}/invocations",
        b"1,2",
        {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"},
    )
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


# -- what cannot come up --------------------------------------------------------------


def test_a_missing_image_fails_at_once(made: Deployments) -> None:
    if not is_docker(made):
        pytest.skip("a folder image is looked up when the model is made")
    made.image = "sagewright-test/there-is-none:1"
    found = made.settled(made.create(made.config(made.model())))
    assert found["EndpointStatus"] == "Failed"
    assert "there-is-none" in found["FailureReason"]


def test_a_missing_artifact_is_said_at_once(made: Deployments) -> None:
    container = {"Image": made.image, "ModelDataUrl": f"s3://{BUCKET}/nothing/model.tar.gz"}
    error = refusal(
        lambda: made.sagemaker.create_model(
            ModelName=f"{made.prefix}-none", ExecutionRoleArn=ROLE, PrimaryContainer=container
        )
    )
    assert f"s3://{BUCKET}/nothing/model.tar.gz" in str(error)


def test_what_does_not_start_explains_itself(made: Deployments) -> None:
    """Containers that never answer /ping with 200 have all their time, so all of them have it together."""
    told = {
        "die-at-start": ("exit code 7", "cannot load the model: the file is from another version"),
        "never-healthy": ("500", "the weights are not loaded"),
        "wrong-port": ("connection refused", "Something listens on port 9999"),
    }
    names = {
        behaviour: made.create(
            made.config(made.model(behaviour=behaviour), ContainerStartupHealthCheckTimeoutInSeconds=60), behaviour
        )
        for behaviour in told
    }
    reasons = {behaviour: made.settled(name, 150) for behaviour, name in names.items()}
    for behaviour, found in reasons.items():
        assert found["EndpointStatus"] == "Failed", behaviour
        assert "did not pass the ping health check" in found["FailureReason"]
        for words in told[behaviour]:
            assert words in found["FailureReason"], behaviour
        assert "cannot be invoked: it is Failed" in str(refusal(lambda name=names[behaviour]: made.invoke(name)))


# -- change under load ------------------------------------------------------------------


def test_an_update_loses_no_request(made: Deployments) -> None:
    name = made.deploy("one")
    second = made.config(made.model("two"))
    with load(made, name) as clients:
        made.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=second)
        found = made.in_service(name)
        clients.goes_on()
    assert clients.failures == []
    assert set(clients.models) == {"one", "two"}
    assert found["EndpointConfigName"] == second
    assert made.invoke(name)["CustomAttributes"].endswith(" two")


def test_scaling_up_and_down_loses_no_request(made: Deployments) -> None:
    name = made.deploy(behaviour="slow")

    def scale(count: int) -> None:
        wanted = [{"VariantName": "v", "DesiredInstanceCount": count}]
        made.sagemaker.update_endpoint_weights_and_capacities(EndpointName=name, DesiredWeightsAndCapacities=wanted)
        (variant,) = made.in_service(name)["ProductionVariants"]
        assert variant["CurrentInstanceCount"] == count

    with load(made, name) as clients:
        scale(2)
        clients.goes_on()
        scale(1)
    assert clients.failures == []
    if is_docker(made):
        assert len(clients.hosts) == 2, "both instances have answered"
        assert len(containers(name)) == 1


def test_a_bad_update_goes_back_to_what_served(made: Deployments) -> None:
    name = made.deploy("one")
    first = made.describe(name)["EndpointConfigName"]
    bad = made.config(made.model("two", "die-at-start"), ContainerStartupHealthCheckTimeoutInSeconds=60)
    with load(made, name) as clients:
        made.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=bad)
        found = made.in_service(name)
    assert clients.failures == []
    assert set(clients.models) == {"one"}
    assert found["EndpointConfigName"] == first
    assert "exit code 7" in found["FailureReason"]


@pytest.mark.docker
def test_an_instance_that_is_killed_costs_no_request(server: Server, docker_image: str) -> None:
    """What was in flight on it came to no answer, and nobody is left who could give one: it is asked elsewhere."""
    made = Deployments(server, docker_image, "killed")
    name = made.deploy(behaviour="slow", count=2)
    before = containers(name)
    assert len(before) == 2
    with load(made, name) as clients:
        subprocess.run(["docker", "kill", before[0]], check=True, capture_output=True)
        clients.goes_on()
        wait_for(lambda: len(now := containers(name)) == 2 and before[0] not in now, "another takes its place")
        wait_for(lambda: made.describe(name)["ProductionVariants"][0]["CurrentInstanceCount"] == 2, "it is in service")
    made.close()
    assert clients.failures == []


# -- crashes ----------------------------------------------------------------------------


def test_the_same_containers_serve_after_every_process_was_killed(own: Deployments) -> None:
    server = own.server
    name = own.deploy(count=2 if is_docker(own) else 1)
    before = containers(name) if is_docker(own) else own.invoke(name)["CustomAttributes"]
    for _ in range(2):
        server.kill_everything()
        server.start()
        again = Deployments(server, own.image, own.prefix)
        own.sagemaker, own.s3, own.runtime = again.sagemaker, again.s3, again.runtime
        assert own.invoke(name)["Body"] == b"1,2,3"
    with load(own, name) as clients:
        clients.goes_on(200)
        assert (containers(name) if is_docker(own) else own.invoke(name)["CustomAttributes"]) == before
    assert clients.failures == []
    logs = server.client("logs")
    streams = logs.describe_log_streams(logGroupName=f"/aws/sagemaker/Endpoints/{name}")["logStreams"]
    assert len(streams) == (2 if is_docker(own) else 1), "nothing was started twice"


@pytest.mark.process
def test_a_controller_that_dies_costs_no_request(own_server: Server, folder_image: Callable[[Server], str]) -> None:
    image = folder_image(own_server)
    own_server.start()
    made = Deployments(own_server, image, "controller")
    name = made.deploy()
    second = made.config(made.model("two"))
    with load(made, name) as clients:
        for _ in range(2):
            before = own_server.status()["processes"]["controller"]
            os.kill(before, signal.SIGKILL)
            made.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=second)
            second, _ = made.describe(name)["EndpointConfigName"], made.in_service(name)
    assert clients.failures == []
    made.close()
