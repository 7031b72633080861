"""Endpoints of real containers: deployed by the SDK and by boto3, invoked, streamed, asked by the command line."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from e2e.conftest import run_script, sdk_python
from e2e.hosting import BACKENDS, containers, image_of, is_docker, refusal
from support.deployments import Deployments
from support.server import Server, wait_for

# -- the SDK's way ------------------------------------------------------------------


@pytest.mark.sdk
@pytest.mark.parametrize("backend", BACKENDS)
def test_sdk_2_trains_deploys_predicts_and_deletes(
    request: pytest.FixtureRequest, server: Server, backend: str
) -> None:
    image = image_of(request, backend, server)
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
