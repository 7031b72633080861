"""Jobs with several hosts: real containers and processes that reduce a sum over plain sockets."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from e2e.conftest import build, run_script, sdk_python
from e2e.hosting import BACKENDS
from e2e.test_jobs import BUCKET, Jobs
from support.images import engine
from support.server import Server, wait_for

PROGRAM = Path(__file__).parent / "hosts_program"
IMAGE = "sagewright-test/hosts:" + hashlib.sha256((PROGRAM / "main.py").read_bytes()).hexdigest()[:12]


def image_of(backend: str, server: Server) -> str:
    if backend == "docker":
        return build(IMAGE, "sagewright-test/python:3.11", PROGRAM)
    server.run("image", "add", str(PROGRAM), "--name", "hosts", "--entrypoint", "python main.py")
    return "hosts"


@pytest.fixture(params=BACKENDS)
def jobs(request: pytest.FixtureRequest, server: Server) -> Jobs:
    name = request.node.name.split("[")[0].replace("_", "-").removeprefix("test-")
    return Jobs(server, image_of(request.param, server), f"{request.param}-{name}"[:40].rstrip("-"))


def hosts(count: int) -> dict[str, Any]:
    return {"InstanceType": "ml.m5.large", "InstanceCount": count, "VolumeSizeInGB": 1}


def channel(name: str, **source: Any) -> dict[str, Any]:
    s3 = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/hosts/", **source}
    return {"ChannelName": name, "DataSource": {"S3DataSource": s3}}


def logs(jobs: Jobs, name: str) -> dict[str, list[str]]:
    """Lines by host; none before the first job of the server has said something."""
    client = jobs.server.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    try:
        streams = client.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    except client.exceptions.ResourceNotFoundException:
        return {}
    said = {}
    for stream in (each["logStreamName"] for each in streams):
        events = client.get_log_events(logGroupName=group, logStreamName=stream, startFromHead=True)["events"]
        said[stream.split("/")[1].rpartition("-")[0]] = [each["message"] for each in events]
    return said


def containers(name: str) -> list[str]:
    listed = subprocess.run(
        ["docker", "ps", "-a", "--format", "{{.Names}}"], capture_output=True, text=True, check=True
    )
    return [each for each in listed.stdout.split() if name in each]


def networks(name: str) -> list[str]:
    listed = json.loads(engine("GET", f"/networks?filters={quote(json.dumps({'name': [name]}))}")[1])
    return [each["Name"] for each in listed]


def test_two_hosts_find_each_other_share_the_data_and_make_one_model(jobs: Jobs) -> None:
    for key in "abc":
        jobs.s3.put_object(Bucket=BUCKET, Key=f"hosts/{key}", Body=b"1")
    name = jobs.create(
        "all-reduce",
        ResourceConfig=hosts(2),
        InputDataConfig=[channel("data", S3DataDistributionType="ShardedByS3Key")],
        AlgorithmSpecification={
            "TrainingImage": jobs.image,
            "TrainingInputMode": "File",
            "MetricDefinitions": [{"Name": "sum", "Regex": "sum=([0-9]+);"}],
        },
        VpcConfig={"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]},
        EnableInterContainerTrafficEncryption=True,
    )
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["FinalMetricDataList"][0]["Value"] == 11.0
    assert job["VpcConfig"]["Subnets"] == ["subnet-1"]
    assert job["EnableInterContainerTrafficEncryption"] is True
    said = logs(jobs, name)
    assert {host: lines[1] for host, lines in said.items()} == {"algo-1": "files: a c", "algo-2": "files: b"}
    assert {lines[2] for lines in said.values()} == {"keys: True, platform: True"}
    assert said["algo-2"][0] == "algo-2 of ['algo-1', 'algo-2'], a ml.m5.large of homogeneousCluster"
    assert jobs.archive(name) == {"algo-1.txt": b"11", "algo-2.txt": b"11", "shared.txt": b"all hosts write this"}
    assert set(jobs.archive(name, "output.tar.gz")) == {"algo-1.json", "algo-2.json"}
    shown = jobs.server.run("logs", name).stdout
    assert "algo-1 of" in shown
    assert "algo-2 of" in shown


def test_groups_of_different_instances_get_their_own_channels(jobs: Jobs) -> None:
    for key in "abc":
        jobs.s3.put_object(Bucket=BUCKET, Key=f"hosts/{key}", Body=b"1")
    groups = [
        {"InstanceGroupName": "prepare", "InstanceType": "ml.t3.medium", "InstanceCount": 1},
        {"InstanceGroupName": "train", "InstanceType": "ml.m5.large", "InstanceCount": 2},
    ]
    sharded = {"S3DataDistributionType": "ShardedByS3Key", "InstanceGroupNames": ["train"]}
    channels = [
        channel("own", **sharded),
        channel("all", S3Uri=f"s3://{BUCKET}/hosts/a", InstanceGroupNames=["prepare"]),
    ]
    name = jobs.create(
        "groups", ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1}, InputDataConfig=channels
    )
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    files = {host: lines[1] for host, lines in logs(jobs, name).items()}
    assert files == {"algo-1": "files: a", "algo-2": "files: a c", "algo-3": "files: b"}
    config = json.loads(jobs.archive(name, "output.tar.gz")["algo-2.json"])
    assert (config["current_group_name"], config["current_instance_type"]) == ("train", "ml.m5.large")
    assert config["instance_groups"] == [
        {"instance_group_name": "prepare", "instance_type": "ml.t3.medium", "hosts": ["algo-1"]},
        {"instance_group_name": "train", "instance_type": "ml.m5.large", "hosts": ["algo-2", "algo-3"]},
    ]
    assert config["network_interface_name"] == "eth0"


def test_one_host_that_fails_ends_the_job_with_its_reason(jobs: Jobs) -> None:
    name = jobs.create("fails", ResourceConfig=hosts(3), HyperParameters={"fails": "algo-2"})
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"] == "AlgorithmError: [algo-2] the gradients are not finite, exit code: 3"
    told = [each["StatusMessage"] for each in job["SecondaryStatusTransitions"]]
    assert any(each.endswith("algo-2 has failed, the others are stopped") for each in told)


def test_stopping_reaches_every_host(jobs: Jobs) -> None:
    name = jobs.create("stops", ResourceConfig=hosts(2), HyperParameters={"fails": "nobody"})
    wait_for(lambda: all("sum=11;" in lines for lines in two(logs(jobs, name))), "both hosts have met")
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    assert jobs.end(name)["TrainingJobStatus"] == "Stopped"


def two(said: dict[str, list[str]]) -> list[list[str]]:
    return [said.get(f"algo-{number}", []) for number in (1, 2)]


def test_isolated_hosts_meet_and_have_no_keys(jobs: Jobs) -> None:
    name = jobs.create("isolated", ResourceConfig=hosts(2), EnableNetworkIsolation=True)
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert {lines[2] for lines in logs(jobs, name).values()} == {"keys: False, platform: False"}


@pytest.mark.docker
def test_a_job_s_network_goes_with_it_and_a_killed_server_goes_on(own_server: Server) -> None:
    own_server.start()
    jobs = Jobs(own_server, image_of("docker", own_server), "killed")
    name = jobs.create("hosts", ResourceConfig=hosts(2), HyperParameters={"fails": "nobody"})
    wait_for(lambda: all("sum=11;" in lines for lines in two(logs(jobs, name))), "both hosts have met")
    assert len(networks(f"training-job-{name}")) == 1
    own_server.kill_everything()
    own_server.start()
    jobs = Jobs(own_server, jobs.image, "killed-again")
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Stopped", job.get("FailureReason")
    wait_for(lambda: not containers(f"training-job-{name}") and not networks(f"training-job-{name}"), "all is gone")


@pytest.mark.docker
@pytest.mark.sdk
def test_sdk_2_trains_on_two_hosts_and_on_groups(server: Server, tmp_path: Path) -> None:
    printed, result = run_script(
        sdk_python("sdk2"), "train_hosts_sdk2.py", image_of("docker", server), str(tmp_path), env=server.env()
    )
    assert result["model"] == {"algo-1.txt": "11", "algo-2.txt": "11"}
    assert result["groups"] == ["fast", "slow"]
    assert "algo-2 of ['algo-1', 'algo-2'], a ml.m5.large of homogeneousCluster" in printed
    assert "algo-2 of ['algo-1', 'algo-2'], a ml.c5.xlarge of slow" in printed
