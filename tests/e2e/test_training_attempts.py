"""Spot interruptions and retries of real containers: what the user, the program and the logs see of them."""

from __future__ import annotations

import subprocess

import pytest

from e2e.test_jobs import Jobs
from support.server import Server, wait_for

SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 300, "MaxWaitTimeInSeconds": 600},
}


def container_of(name: str) -> str:
    """The id of the job's container that runs."""
    listed = subprocess.run(
        ["docker", "ps", "-q", "--filter", f"name=training-job-{name}-"], capture_output=True, text=True
    )
    return listed.stdout.strip()


def statuses(jobs: Jobs, name: str) -> list[str]:
    transitions = jobs.sagemaker.describe_training_job(TrainingJobName=name)["SecondaryStatusTransitions"]
    return [each["Status"] for each in transitions]


def trained(jobs: Jobs, name: str) -> int:
    return statuses(jobs, name).count("Training")


@pytest.mark.docker
def test_an_interrupted_spot_job_is_told_by_sigterm_and_begins_anew(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, docker_image, "spot")
    name = jobs.create("sleep", HyperParameters={"behaviour": "sleep", "seconds": "10"}, **SPOT)
    wait_for(lambda: "ready" in server.run("logs", name).stdout, "its handler is installed")
    assert "begins anew" in server.run("interrupt", name).stdout
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    went = statuses(jobs, name)
    at = went.index("Interrupted")
    assert went[at - 1 : at + 2] == ["Training", "Interrupted", "Starting"]
    assert went.count("Training") == 2
    assert job["BillableTimeInSeconds"] < job["TrainingTimeInSeconds"]
    streams = server.client("logs").describe_log_streams(
        logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=f"{name}/"
    )["logStreams"]
    assert len(streams) == 2, "each attempt has a stream of its own"
    told = server.run("logs", name).stdout
    assert told.count("ready") == 2
    assert told.count("told to stop") == 1
    refused = server.run("interrupt", name, check=False)
    assert refused.returncode == 1
    assert "InProgress" in refused.stderr


@pytest.mark.docker
def test_a_spot_job_can_say_itself_when_it_is_interrupted(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, docker_image, "spot-env")
    behaviour = {"behaviour": "sleep", "seconds": "3"}
    name = jobs.create("sleep", HyperParameters=behaviour, Environment={"SAGEWRIGHT_INTERRUPT_AFTER": "1"}, **SPOT)
    assert jobs.end(name)["TrainingJobStatus"] == "Completed"
    assert statuses(jobs, name).count("Interrupted") == 1


@pytest.mark.docker
def test_a_lost_container_is_started_again_when_the_job_asked_for_it(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, docker_image, "retry")
    retry = {"RetryStrategy": {"MaximumRetryAttempts": 1}}
    name = jobs.create("sleep", HyperParameters={"behaviour": "sleep", "seconds": "4"}, **retry)
    jobs.running(name)
    subprocess.run(["docker", "rm", "-f", container_of(name)], check=True, capture_output=True)
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "Restarting" in statuses(jobs, name)
    assert trained(jobs, name) == 2
    once = jobs.create("sleep")
    jobs.running(once)
    subprocess.run(["docker", "rm", "-f", container_of(once)], check=True, capture_output=True)
    lost = jobs.end(once)
    assert lost["FailureReason"].startswith("InternalServerError: The container was lost")
    assert trained(jobs, once) == 1


@pytest.mark.docker
def test_a_failing_program_is_not_retried(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, docker_image, "no-retry")
    name = jobs.create("fail", RetryStrategy={"MaximumRetryAttempts": 3})
    assert jobs.end(name)["FailureReason"].startswith("AlgorithmError: ")
    assert trained(jobs, name) == 1
