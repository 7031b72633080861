"""Models of several containers: one after the other, or each by its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from sagewright.store.kinds import endpoint
from support.router_bench import Bench, Conversation, Fleeted, Model, Received, instance_id, running

NAMES = ("pre", "model", "post")
LIMIT = 1_000_000


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with running(Bench(tmp_path_factory.mktemp("pipelines"), model_time=1.0, max_payload=LIMIT)) as made:
        yield made


@pytest.fixture
def models() -> Iterator[dict[str, Model]]:
    made = {name: Model(appending(name)) for name in NAMES}
    yield made
    for model in made.values():
        model.close()


def appending(name: str, **headers: str) -> Any:
    async def behave(request: Received, conversation: Conversation) -> None:
        await conversation.answer(request.body + f">{name}".encode(), Content_Type=f"text/{name}", **headers)

    return behave


def put(bench: Bench, name: str, models: dict[str, Model], mode: str = endpoint.SERIAL) -> None:
    addresses = {container: model.address for container, model in models.items()}
    bench.put(name, Fleeted(instances={instance_id(models["pre"]): addresses}, containers=tuple(models), mode=mode))


def test_each_answer_is_the_next_request(bench: Bench, models: dict[str, Model]) -> None:
    put(bench, "serial", models)
    answer = bench.client().invoke_endpoint(
        EndpointName="serial", Body=b"in", ContentType="text/csv", Accept="a/b", CustomAttributes="c", InferenceId="i"
    )
    assert answer["Body"].read() == b"in>pre>model>post"
    assert answer["ContentType"] == "text/post"
    got = [models[name].requests[0] for name in NAMES]
    assert [request.header("Content-Type") for request in got] == ["text/csv", "text/pre", "text/model"]
    assert [request.header("Accept") for request in got] == [None, None, "a/b"]
    assert [request.header("X-Amzn-SageMaker-Custom-Attributes") for request in got] == ["c", "c", "c"]
    assert [request.header("X-Amzn-SageMaker-Inference-Id") for request in got] == ["i", "i", "i"]
    assert "CustomAttributes" not in answer


def test_custom_attributes_that_a_container_returns_pass_along(bench: Bench, models: dict[str, Model]) -> None:
    models["pre"].behaviour = appending("pre", **{"X-Amzn-SageMaker-Custom-Attributes": "changed"})
    put(bench, "attributes", models)
    answer = bench.client().invoke_endpoint(EndpointName="attributes", Body=b"", CustomAttributes="c")
    assert models["post"].requests[0].header("X-Amzn-SageMaker-Custom-Attributes") == "changed"
    assert answer["CustomAttributes"] == "changed"


@pytest.mark.parametrize("name", NAMES)
def test_an_error_names_its_container_and_ends_the_pipeline(bench: Bench, models: dict[str, Model], name: str) -> None:
    async def fail(_request: Received, conversation: Conversation) -> None:
        await conversation.answer(b"no", "400 Bad")

    models[name].behaviour = fail
    put(bench, "failing", models)
    with pytest.raises(ClientError, match=f'Received client error \\(400\\) from {name} with message "no"') as caught:
        bench.client().invoke_endpoint(EndpointName="failing", Body=b"x")
    assert caught.value.response["LogStreamArn"].endswith(f":log-stream:AllTraffic/{instance_id(models['pre'])}/{name}")
    after = NAMES[NAMES.index(name) + 1 :]
    assert not any(models[later].requests for later in after)


def test_a_later_container_that_is_gone_is_a_model_error(bench: Bench, models: dict[str, Model]) -> None:
    models["post"].close()
    put(bench, "gone", models)
    with pytest.raises(ClientError, match="post") as caught:
        bench.client().invoke_endpoint(EndpointName="gone", Body=b"x")
    assert caught.value.response["Error"]["Code"] == "ModelError"
    assert len(models["pre"].requests) == 1


def test_an_answer_that_is_too_large_for_the_next_container(bench: Bench, models: dict[str, Model]) -> None:
    async def large(_request: Received, conversation: Conversation) -> None:
        await conversation.answer(b"x" * (LIMIT + 1))

    models["pre"].behaviour = large
    put(bench, "swollen", models)
    with pytest.raises(ClientError, match=f"from pre .*more than {LIMIT} bytes"):
        bench.client().invoke_endpoint(EndpointName="swollen", Body=b"x")
    models["pre"].behaviour = appending("pre")
    models["post"].behaviour = large
    assert len(bench.client().invoke_endpoint(EndpointName="swollen", Body=b"x")["Body"].read()) == LIMIT + 1


def test_pipelines_can_stream_and_are_counted_per_container(bench: Bench, models: dict[str, Model]) -> None:
    put(bench, "streamed", models)
    bench.router.counters.take()
    stream = bench.client().invoke_endpoint_with_response_stream(EndpointName="streamed", Body=b"in")["Body"]
    assert b"".join(event["PayloadPart"]["Bytes"] for event in stream) == b"in>pre>model>post"
    tallies = {whose.container: tally for whose, tally in bench.router.counters.take().items()}
    assert set(tallies) == {"", *NAMES}
    assert {name: tally.model_latency.count for name, tally in tallies.items()} == dict.fromkeys(("", *NAMES), 1)
    parts = sum(tallies[name].model_latency.total for name in NAMES)
    assert tallies[""].model_latency.total >= parts


def test_direct_invocation_by_name(bench: Bench, models: dict[str, Model]) -> None:
    put(bench, "direct", models, endpoint.DIRECT)
    client = bench.client()
    for name in NAMES:
        answer = client.invoke_endpoint(EndpointName="direct", Body=b"in", Accept="a/b", TargetContainerHostname=name)
        assert answer["Body"].read() == f"in>{name}".encode()
        assert models[name].requests[-1].header("Accept") == "a/b"
    for options in ({}, {"TargetContainerHostname": "other"}):
        with pytest.raises(ClientError, match="must be one of pre, model, post") as caught:
            client.invoke_endpoint(EndpointName="direct", Body=b"in", **options)
        assert caught.value.response["Error"]["Code"] == "ValidationError"
