"""The `sagewright` command as its user types it."""

from __future__ import annotations

import json
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from support.server import Server, wait_for_job


def test_up_status_down(own_server: Server) -> None:
    assert own_server.status()["running"] is False
    own_server.start()
    status = own_server.status()
    assert status["healthy"]
    assert status["data"] == str(own_server.data)
    assert len(status["pids"]) == 3
    again = own_server.run("up", "--detach", check=False)
    assert again.returncode == 1
    assert f"already runs on {own_server.data}" in again.stderr
    own_server.run("down")
    assert own_server.status()["running"] is False
    assert "No server runs" in own_server.run("down").stdout


def test_a_taken_port_is_said(own_server: Server) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        done = own_server.run("up", "--detach", "--port", port, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in done.stderr
    assert "--port" in done.stderr


@pytest.mark.parametrize(("name", "why"), [("a-file", "File exists"), ("a-file/below", "Not a directory")])
def test_a_data_directory_that_cannot_be_made_is_said(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "a-file").touch()
    for command in (("up", "--detach", "--port", "0"), ("doctor",), ("image", "list")):
        done = Server(tmp_path / name).run(*command, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"sagewright: {tmp_path / name} cannot be used as data directory: ")
        assert why in done.stderr
        assert done.stderr.count("\n") == 1, "one line, no traceback"


def test_env_prints_exports_and_keys_stay_private(own_server: Server) -> None:
    refused = own_server.run("env", check=False)
    assert refused.returncode == 1
    assert f"sagewright up --detach --data {own_server.data}\n" in refused.stderr
    own_server.start()
    env = own_server.env()
    assert env["AWS_ENDPOINT_URL"] == env["HTTPS_PROXY"] == own_server.url
    assert "127.0.0.1" in env["NO_PROXY"]
    assert set(own_server.env("--no-proxy")).isdisjoint({"HTTPS_PROXY", "NO_PROXY"})
    for path in (own_server.data / "keys").iterdir():
        if path.suffix in {".key", ".json"}:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    keys = own_server.env()["AWS_ACCESS_KEY_ID"]
    own_server.run("down")
    own_server.start()
    assert own_server.env()["AWS_ACCESS_KEY_ID"] == keys, "keys outlive the server"


@pytest.mark.process
def test_jobs_and_logs_tell_what_happened(server: Server, folder_image: Callable[[Server], str]) -> None:
    image = folder_image(server)
    server.client("s3").create_bucket(Bucket="cli")
    sagemaker = server.client("sagemaker")
    sagemaker.create_training_job(
        TrainingJobName="cli-fails",
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        HyperParameters={"behaviour": "fail"},
        OutputDataConfig={"S3OutputPath": "s3://cli/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    followed = server.run("logs", "-f", "cli-fails", check=False)
    assert followed.returncode == 1
    assert "the last words of a failing program" in followed.stdout
    assert "cli-fails failed: AlgorithmError" in followed.stderr
    wait_for_job(sagemaker, "cli-fails")
    assert "cli-fails" in server.run("jobs").stdout
    found = [
        job for job in json.loads(server.run("jobs", "--json").stdout) if job.get("TrainingJobName") == "cli-fails"
    ]
    assert found[0]["TrainingJobStatus"] == "Failed"
    told = server.run("jobs", "cli-fails").stdout
    assert told.startswith(f"cli-fails: Failed\n  image    {image}\n  on       1 x ml.m5.large\n")
    assert "the last words of a failing program" in told
    assert told.endswith(f"  log      sagewright logs cli-fails --data {server.data}\n")
    unknown = server.run("logs", "no-such-job", check=False)
    assert unknown.returncode == 1
    assert "no training or transform job named 'no-such-job'" in unknown.stderr


def test_images_are_added_listed_and_removed(own_server: Server, folder_image: Callable[[Server], str]) -> None:
    name = folder_image(own_server)
    listed = json.loads(own_server.run("image", "list", "--json").stdout)
    assert [(image["name"], image["entrypoint"]) for image in listed] == [(name, ["python", "main.py"])]
    own_server.run("image", "remove", name)
    assert json.loads(own_server.run("image", "list", "--json").stdout) == []
    assert own_server.run("image", "remove", name, check=False).returncode == 1


def test_doctor_finds_what_works(server: Server) -> None:
    found = json.loads(server.run("doctor", "--json").stdout)
    names = {check["name"] for check in found["checks"]}
    assert {"server", "disk", "backend process", "backend docker"} <= names
    assert "CreateTrainingJob" in found["operations"]["sagemaker"]
