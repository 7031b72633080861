"""kill -9 every Sagewright process in the middle of a job, start again: it completes once, no line lost or doubled."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from support.server import Server, wait_for, wait_for_job

LINES = 60


def create(server: Server, name: str, image: str, **parameters: str) -> None:
    s3 = server.client("s3")
    s3.create_bucket(Bucket="crash")
    for number in range(50):
        s3.put_object(Bucket="crash", Key=f"data/{number}", Body=b"input")
    data = {"S3DataType": "S3Prefix", "S3Uri": "s3://crash/data/"}
    server.client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        HyperParameters=parameters,
        InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": data}}],
        OutputDataConfig={"S3OutputPath": "s3://crash/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )


def lines(server: Server, name: str) -> list[str]:
    logs = server.client("logs")
    streams = logs.describe_log_streams(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/")[
        "logStreams"
    ]
    assert len(streams) == 1
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page: dict[str, Any] = logs.get_log_events(
            logGroupName="/aws/sagemaker/TrainingJobs",
            logStreamName=streams[0]["logStreamName"],
            startFromHead=True,
            **token,
        )
        if not page["events"]:
            return found
        found += [event["message"] for event in page["events"]]
        token = {"nextToken": page["nextForwardToken"]}


def survive(server: Server, image: str, kills: int, seed: int) -> None:
    """A counting job under `kills` crashes at random instants."""
    chance = random.Random(seed)
    server.start()
    create(server, "counting", image, behaviour="count", lines=str(LINES), pause="0.1")
    for _ in range(kills):
        time.sleep(chance.uniform(0.0, 1.5))
        server.kill_everything()
        time.sleep(chance.uniform(0.0, 0.7))
        server.start()
    job = wait_for_job(server.client("sagemaker"), "counting")
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    printed = lines(server, "counting")
    assert len([line for line in printed if line.startswith("behaviour count")]) == 1, "the program ran once"
    assert [line for line in printed if line.startswith("line ")] == [f"line {number}" for number in range(LINES)]
    assert [entry["Status"] for entry in job["SecondaryStatusTransitions"]].count("Completed") == 1
    objects = server.client("s3").list_objects_v2(Bucket="crash", Prefix="out/")["Contents"]
    assert [item["Key"] for item in objects] == ["out/counting/output/model.tar.gz"]
    wait_for(lambda: not list((server.data / "workloads").glob("[!.]*")), "the job's folders are gone")


@pytest.mark.process
@pytest.mark.parametrize("seed", [1, 2])
def test_a_folder_image_job_survives_kills(
    own_server: Server, folder_image: Callable[[Server], str], seed: int
) -> None:
    survive(own_server, folder_image(own_server), kills=4, seed=seed)


@pytest.mark.docker
@pytest.mark.parametrize("seed", [3, 4])
def test_a_docker_job_survives_kills(own_server: Server, docker_image: str, seed: int) -> None:
    survive(own_server, docker_image, kills=4, seed=seed)
    names = subprocess.run(["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True).stdout
    assert "counting" not in names
    command = ["docker", "volume", "ls", "--format", "{{.Labels}}"]
    labels = subprocess.run(command, capture_output=True, text=True).stdout
    assert "counting" not in labels, "what its inputs were layered with is gone"


@pytest.mark.process
def test_a_job_that_ends_while_the_server_is_down_is_completed_by_the_next_start(
    own_server: Server, folder_image: Callable[[Server], str]
) -> None:
    image = folder_image(own_server)
    own_server.start()
    create(own_server, "counting", image, behaviour="count", lines="20", pause="0.05")
    wait_for(lambda: "line 2" in lines_or_nothing(own_server, "counting"), "the job prints")
    own_server.kill_everything()
    time.sleep(2)
    own_server.start()
    assert wait_for_job(own_server.client("sagemaker"), "counting")["TrainingJobStatus"] == "Completed"
    assert [line for line in lines(own_server, "counting") if line.startswith("line ")] == [
        f"line {number}" for number in range(20)
    ]


@pytest.mark.process
def test_the_supervisor_starts_again_what_dies(own_server: Server) -> None:
    import os
    import signal

    own_server.start()
    before = own_server.status()["processes"]
    for role in ("controller", "gateway-1"):
        os.kill(before[role], signal.SIGKILL)
    after = wait_for(
        lambda: (
            (now := own_server.status()["processes"])
            and now.get("controller") not in (None, before["controller"])
            and now.get("gateway-1") not in (None, before["gateway-1"])
            and now
        ),
        "both run again",
    )
    assert after["supervisor"] == before["supervisor"]
    wait_for(lambda: own_server.status()["healthy"], "it answers again")


def lines_or_nothing(server: Server, name: str) -> list[str]:
    try:
        return lines(server, name)
    except server.client("logs").exceptions.ResourceNotFoundException:
        return []
    except AssertionError:
        return []
