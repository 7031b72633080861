"""InvokeEndpoint with real botocore clients: headers both ways, errors, variants, tokens, what the front may change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.router_bench import Bench, Conversation, Fleeted, Model, Received, one, running, saying

LIMIT = 64 * 1024


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("router"), max_payload=LIMIT)) as made:
        yield made


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    yield made
    made.close()


def refusal(bench: Bench, **call: Any) -> dict[str, Any]:
    with pytest.raises(ClientError) as caught:
        bench.client().invoke_endpoint(**call)
    response: dict[str, Any] = caught.value.response
    return response


def test_a_prediction_goes_there_and_back_byte_for_byte(bench: Bench, model: Model) -> None:
    bench.put("plain", one(model))
    client = bench.client()
    for body in (b"1,2,3\n", bytes(range(256)) * 8, b""):
        answer = client.invoke_endpoint(EndpointName="plain", Body=body, ContentType="text/csv")
        assert answer["Body"].read() == body
        assert answer["ContentType"] == "text/csv"
        assert answer["InvokedProductionVariant"] == "AllTraffic"
        assert answer["ResponseMetadata"]["RequestId"]


def test_containers_get_the_headers_of_the_api_and_no_others(bench: Bench, model: Model) -> None:
    bench.put("headers", one(model))
    bench.client().invoke_endpoint(
        EndpointName="headers",
        Body=b"x",
        ContentType="text/csv",
        Accept="application/json, text/csv",
        CustomAttributes="trace=1;  two",
        InferenceId="abc",
        EnableExplanations="`true`",
        SessionId="NEW_SESSION",
        PrefixAwareId="p",
        TargetVariant="AllTraffic",
    )
    got = model.requests[-1]
    assert got.line == "POST /invocations HTTP/1.1"
    assert {name.lower(): value for name, value in got.headers} == {
        "host": model.address,
        "content-type": "text/csv",
        "accept": "application/json, text/csv",
        "content-length": "1",
        "x-amzn-sagemaker-custom-attributes": "trace=1;  two",
        "x-amzn-sagemaker-inference-id": "abc",
        "x-amzn-sagemaker-session-id": "NEW_SESSION",
    }


def test_nothing_is_invented_for_headers_that_a_client_leaves_out(bench: Bench, model: Model) -> None:
    bench.put("bare", one(model))
    answer = bench.client().invoke_endpoint(EndpointName="bare", Body=b"x")
    names = {name.lower() for name, _ in model.requests[-1].headers}
    assert names == {"host", "content-length"}
    assert "x-amzn-sagemaker-custom-attributes" not in answer["ResponseMetadata"]["HTTPHeaders"]


def test_what_a_container_returns_reaches_the_client(bench: Bench, model: Model) -> None:
    model.behaviour = saying(
        b"[1]",
        Content_Type="application/json",
        **{
            "X-Amzn-SageMaker-Custom-Attributes": "seen",
            "X-Amzn-SageMaker-New-Session-Id": "abc; Expires=2030-01-01T00:00:00Z",
            "X-Amzn-SageMaker-Closed-Session-Id": "old",
            "Set-Cookie": "secret=1",
        },
    )
    bench.put("returns", one(model))
    answer = bench.client().invoke_endpoint(EndpointName="returns", Body=b"x")
    assert answer["CustomAttributes"] == "seen"
    assert answer["NewSessionId"] == "abc; Expires=2030-01-01T00:00:00Z"
    assert answer["ClosedSessionId"] == "old"
    assert "set-cookie" not in answer["ResponseMetadata"]["HTTPHeaders"]


def test_connections_to_a_container_are_kept(bench: Bench, model: Model) -> None:
    bench.put("kept", one(model))
    client = bench.client()
    for _ in range(20):
        client.invoke_endpoint(EndpointName="kept", Body=b"x" * 2000)
    assert model.connections == 1


def test_any_2xx_is_success(bench: Bench, model: Model) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        if request.body == b"204":
            await conversation.send(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await conversation.answer(b"made", "201 Created")

    model.behaviour = behave
    bench.put("success", one(model))
    client = bench.client()
    assert client.invoke_endpoint(EndpointName="success", Body=b"201")["Body"].read() == b"made"
    assert client.invoke_endpoint(EndpointName="success", Body=b"204")["Body"].read() == b""
    assert client.invoke_endpoint(EndpointName="success", Body=b"201")["Body"].read() == b"made"


@pytest.mark.parametrize(("status", "side"), [(400, "client"), (404, "client"), (500, "server"), (302, "server")])
def test_an_error_of_the_container_is_a_model_error(bench: Bench, model: Model, status: int, side: str) -> None:
    async def behave(request: Received, conversation: Conversation) -> None:
        await conversation.answer(b"x" * 5000 if request.body == b"long" else "schlecht ü".encode(), f"{status} Bad")

    model.behaviour = behave
    bench.put("errors", one(model))
    response = refusal(bench, EndpointName="errors", Body=b"short")
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == "schlecht ü"
    stream = f"log-stream:AllTraffic/i{model.port:07d}"
    assert response["LogStreamArn"] == (
        f"arn:aws:logs:us-east-1:000000000000:log-group:/aws/sagemaker/Endpoints/errors:{stream}"
    )
    assert response["Error"]["Message"] == (
        f'Received {side} error ({status}) from primary with message "schlecht ü". See '
        "https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1"
        "#logEventViewer:group=/aws/sagemaker/Endpoints/errors in account 000000000000 for more information."
    )
    assert len(refusal(bench, EndpointName="errors", Body=b"long")["OriginalMessage"]) == 2048


def test_an_unknown_endpoint_is_named(bench: Bench) -> None:
    response = refusal(bench, EndpointName="nowhere", Body=b"x")
    assert response["Error"] == {
        "Code": "ValidationError",
        "Message": "Endpoint nowhere of account 000000000000 not found.",
    }
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 400


def test_an_endpoint_that_is_not_in_service_says_what_it_is(bench: Bench, model: Model) -> None:
    bench.put("young", one(model), state="Creating", serving=False)
    error = refusal(bench, EndpointName="young", Body=b"x")["Error"]
    assert error["Code"] == "ValidationError"
    assert "Creating" in error["Message"]
    bench.put("young", one(model))
    assert bench.client().invoke_endpoint(EndpointName="young", Body=b"x")["Body"].read() == b"x"
    version = bench.put("young", one(model), delete=True)
    bench.wait_for_table("young", version)
    assert "Deleting" in refusal(bench, EndpointName="young", Body=b"x")["Error"]["Message"]
    bench.remove("young")
    assert "not found" in refusal(bench, EndpointName="young", Body=b"x")["Error"]["Message"]


def test_without_a_healthy_instance_the_answer_may_be_retried(bench: Bench, model: Model) -> None:
    bench.put("ill", one(model, phases={f"i{model.port:07d}": "unhealthy"}))
    response = refusal(bench, EndpointName="ill", Body=b"x")
    assert response["Error"]["Code"] == "ServiceUnavailable"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 503


def test_an_endpoint_of_another_region_is_not_found(bench: Bench, model: Model) -> None:
    bench.put("regional", one(model))
    with pytest.raises(ClientError, match="not found"):
        bench.client(region_name="eu-west-1").invoke_endpoint(EndpointName="regional", Body=b"x")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ({"TargetModel": "a.tar.gz"}, "not a multi-model endpoint"),
        ({"TargetContainerHostname": "c"}, "leave TargetContainerHostname out"),
        ({"InferenceComponentName": "c"}, "no inference components"),
        ({"TargetVariant": "Other"}, "Variant Other of endpoint members not found"),
        ({"CustomAttributes": "x" * 1025}, "less than or equal to 1024"),
        ({"InferenceId": "x" * 65}, "less than or equal to 64"),
        ({"SessionId": "x" * 257}, "less than or equal to 256"),
    ],
)
def test_members_that_cannot_be_are_refused_by_name(
    bench: Bench, model: Model, call: dict[str, str], says: str
) -> None:
    bench.put("members", one(model))
    error = refusal(bench, EndpointName="members", Body=b"x", **call)["Error"]
    assert error["Code"] == "ValidationError"
    assert says in error["Message"]
    assert not model.requests


def test_a_body_over_the_limit_gets_413_with_both_numbers(bench: Bench, model: Model) -> None:
    bench.put("large", one(model))
    response = refusal(bench, EndpointName="large", Body=b"x" * (LIMIT + 1))
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert response["Error"]["Code"] == "413"
    assert str(LIMIT) in response["Error"]["Message"]
    assert str(LIMIT + 1) in response["Error"]["Message"]
    assert not model.requests
    answer = bench.client().invoke_endpoint(EndpointName="large", Body=b"x" * LIMIT)
    assert len(answer["Body"].read()) == LIMIT


def test_asynchronous_invocation_is_refused_in_words(bench: Bench, model: Model) -> None:
    bench.put("real-time", one(model))
    with pytest.raises(ClientError) as caught:
        bench.client().invoke_endpoint_async(EndpointName="real-time", InputLocation="s3://b/k")
    assert caught.value.response["Error"]["Code"] == "ValidationError"
    assert "call InvokeEndpoint" in caught.value.response["Error"]["Message"]


def test_variants_get_requests_by_weight_and_by_name(bench: Bench) -> None:
    models = {name: Model(saying(name.encode())) for name in ("a", "b", "off")}
    try:
        bench.put(
            "ab",
            one(models["a"], name="a", weight=3.0),
            one(models["b"], name="b", weight=1.0),
            one(models["off"], name="off", weight=0.0),
        )
        client = bench.client()
        seen: Counter[str] = Counter()
        for _ in range(400):
            answer = client.invoke_endpoint(EndpointName="ab", Body=b"x")
            assert answer["Body"].read() == answer["InvokedProductionVariant"].encode()
            seen[answer["InvokedProductionVariant"]] += 1
        assert set(seen) == {"a", "b"}
        assert 240 <= seen["a"] <= 360  # 300 expected; 7 standard deviations
        named = client.invoke_endpoint(EndpointName="ab", Body=b"x", TargetVariant="off")
        assert named["Body"].read() == b"off"
    finally:
        for model in models.values():
            model.close()


def test_a_variant_without_instances_leaves_its_share_to_the_others(bench: Bench, model: Model) -> None:
    bench.put("lame", one(model, name="a"), Fleeted(name="b"))
    client = bench.client()
    for _ in range(20):
        assert client.invoke_endpoint(EndpointName="lame", Body=b"x")["InvokedProductionVariant"] == "a"
    error = refusal(bench, EndpointName="lame", Body=b"x", TargetVariant="b")["Error"]
    assert error["Code"] == "ServiceUnavailable"


def test_sessions_stay_with_their_instance(bench: Bench) -> None:
    def opening(name: str) -> Any:
        async def behave(request: Received, conversation: Conversation) -> None:
            if request.header("X-Amzn-SageMaker-Session-Id") == "NEW_SESSION":
                await conversation.answer(
                    name.encode(), **{"X-Amzn-SageMaker-Session-Id": f"s{name}; Expires=2030-01-01T00:00:00Z"}
                )
            else:
                await conversation.answer(name.encode())

        return behave

    models = [Model(opening("1")), Model(opening("2"))]
    try:
        bench.put("sessions", one(*models))
        client = bench.client()
        opened = {}
        while len(opened) < 2:
            answer = client.invoke_endpoint(EndpointName="sessions", Body=b"x", SessionId="NEW_SESSION")
            opened[answer["NewSessionId"].partition(";")[0]] = answer["Body"].read()
        for _ in range(10):
            for session, name in opened.items():
                assert (
                    client.invoke_endpoint(EndpointName="sessions", Body=b"x", SessionId=session)["Body"].read() == name
                )
    finally:
        for model in models:
            model.close()


def test_an_update_is_seen_by_the_very_next_request(bench: Bench) -> None:
    """The table may be a quarter of a second old; an error is never told from an old one."""
    models = [Model(saying(b"%d" % number)) for number in range(5)]
    try:
        client = bench.client()
        for number, model in enumerate(models):
            name = f"fresh-{number}"
            bench.put(name, one(model))
            assert client.invoke_endpoint(EndpointName=name, Body=b"x")["Body"].read() == b"%d" % number
    finally:
        for model in models:
            model.close()
