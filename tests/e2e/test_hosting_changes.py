"""Endpoints of real containers, changed under load, killed, restarted."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable

import pytest

from e2e.hosting import containers, is_docker
from support.deployments import Deployments, load
from support.server import Server, wait_for

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
