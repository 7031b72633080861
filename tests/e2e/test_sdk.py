"""The official SDKs, unmodified, train the user's own image."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.conftest import run_script, sdk_python
from support.server import Server, plain_environment

pytestmark = [pytest.mark.sdk]


@pytest.mark.docker
def test_sdk_2_trains_a_docker_image_and_streams_its_log(server: Server, docker_image: str, tmp_path: Path) -> None:
    printed, result = run_script(sdk_python("sdk2"), "train_sdk2.py", docker_image, str(tmp_path), env=server.env())
    assert result["role"] == "arn:aws:iam::000000000000:role/SageMakerRole"
    assert result["model"] == f"s3://sagemaker-us-east-1-000000000000/{result['job']}/output/model.tar.gz"
    assert "training: a.csv 6 bytes" in printed
    assert "training: b.csv 4 bytes" in printed
    assert "Training job completed" in printed or "Completed - Training job completed" in printed
    assert {"model.tar.gz", "output.tar.gz"} <= set(result["files"])
    with tarfile.open(tmp_path / "model.tar.gz") as archive:
        assert archive.extractfile("model.txt").read() == b'{"behaviour": "ok", "depth": "3"}'
    described = server.client("sagemaker").describe_training_job(TrainingJobName=result["job"])
    assert [(metric["MetricName"], metric["Value"]) for metric in described["FinalMetricDataList"]] == [("loss", 0.25)]


@pytest.mark.process
def test_sdk_2_trains_a_folder_image(server: Server, folder_image: Callable[[Server], str], tmp_path: Path) -> None:
    printed, result = run_script(
        sdk_python("sdk2"), "train_sdk2.py", folder_image(server), str(tmp_path), env=server.env()
    )
    assert "training: a.csv 6 bytes" in printed
    assert {"model.tar.gz", "output.tar.gz"} <= set(result["files"])


@pytest.mark.docker
def test_sdk_1_72_reaches_us_through_the_proxy(server: Server, docker_image: str, tmp_path: Path) -> None:
    """It asks https://sts.us-east-1.amazonaws.com, whatever AWS_ENDPOINT_URL says."""
    printed, result = run_script(sdk_python("sdk172"), "train_sdk172.py", docker_image, str(tmp_path), env=server.env())
    assert result["account"] == "000000000000"
    assert result["model"].endswith(f"/output/{result['job']}/output/model.tar.gz")
    assert "training: a.csv 6 bytes" in printed


def test_the_aws_cli_copies_lists_and_describes(server: Server, tmp_path: Path) -> None:
    aws = sdk_python("awscli").with_name("aws")
    env = {**plain_environment(), **server.env()}
    (tmp_path / "up").mkdir()
    (tmp_path / "up" / "small.txt").write_text("small")
    (tmp_path / "up" / "big.bin").write_bytes(bytes(range(256)) * 80_000)  # 20 MB: multipart

    def run(*words: str) -> str:
        done = subprocess.run([str(aws), *words], capture_output=True, text=True, env=env, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("s3", "mb", "s3://cli-bucket")
    run("s3", "sync", str(tmp_path / "up"), "s3://cli-bucket/folder")
    listed = run("s3", "ls", "s3://cli-bucket/folder/")
    assert "small.txt" in listed
    assert "20480000 big.bin" in listed
    run("s3", "cp", "s3://cli-bucket/folder/", str(tmp_path / "down"), "--recursive")
    assert (tmp_path / "down" / "big.bin").read_bytes() == (tmp_path / "up" / "big.bin").read_bytes()
    assert "assumed-role/SageMakerRole" in run("sts", "get-caller-identity")
    assert "TrainingJobSummaries" in run("sagemaker", "list-training-jobs", "--max-results", "1")
    run("s3", "rb", "s3://cli-bucket", "--force")
