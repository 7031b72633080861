"""Endpoints that cannot come up, and what is said about it."""

from __future__ import annotations

from e2e.hosting import ON_DOCKER, refusal
from support.deployments import BUCKET, ROLE, Deployments, load

TOLD = {
    "die-at-start": ("exit code 7", "cannot load the model: the file is from another version"),
    "never-healthy": ("500", "the weights are not loaded"),
    "wrong-port": ("connection refused", "Something listens on port 9999"),
}
"""How a server may be wrong, and what the reason has of it."""


@ON_DOCKER
def test_a_missing_image_fails_at_once(made: Deployments) -> None:
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


def test_what_does_not_start_explains_itself_and_a_bad_update_goes_back(made: Deployments) -> None:
    """Containers that never answer /ping with 200 have all their time, so all of them have it together."""
    limit = {"ContainerStartupHealthCheckTimeoutInSeconds": 60}  # the API takes no less
    serving = made.deploy("one")
    first = made.describe(serving)["EndpointConfigName"]
    bad = made.config(made.model("two", "die-at-start"), **limit)
    with load(made, serving) as clients:
        made.sagemaker.update_endpoint(EndpointName=serving, EndpointConfigName=bad)
        names = {
            behaviour: made.create(made.config(made.model(behaviour=behaviour), **limit), behaviour)
            for behaviour in TOLD
        }
        updated = made.in_service(serving)
        reasons = {behaviour: made.settled(name, 150) for behaviour, name in names.items()}
    assert clients.failures == []
    assert set(clients.models) == {"one"}
    assert updated["EndpointConfigName"] == first
    assert "exit code 7" in updated["FailureReason"]
    for behaviour, found in reasons.items():
        assert found["EndpointStatus"] == "Failed", behaviour
        assert "did not pass the ping health check" in found["FailureReason"]
        for words in TOLD[behaviour]:
            assert words in found["FailureReason"], behaviour
        assert "cannot be invoked: it is Failed" in str(refusal(lambda name=names[behaviour]: made.invoke(name)))
