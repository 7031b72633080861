"""Programs that leave odd things where the platform looks: their jobs end all the same, and so do those after them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable

import pytest

from support.server import Server, wait_for, wait_for_job

BUCKET = "odd-programs"
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
PROGRAM = """
import os, sys
os.chdir("/opt/ml/model")
os.symlink("/" + "n" * 300, "nowhere")
os.symlink("loop", "loop")
os.mkfifo("pipe")
open(b"no \\xff text", "w").close()
with open("sparse", "wb") as file:
    file.truncate(8 << 20)
for _ in range(1100):
    os.mkdir("d")
    os.chdir("d")
open("end", "w").close()
os.mkdir("/opt/ml/output/failure")
sys.exit(5)
"""


@pytest.fixture(
    params=[pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
)
def image(request: pytest.FixtureRequest, server: Server, folder_image: Callable[[Server], str]) -> str:
    return folder_image(server) if request.param == "process" else str(request.getfixturevalue("docker_image"))


def test_its_job_ends_with_its_exit_code_its_outputs_are_saved_and_its_folder_goes(
    server: Server, image: str, request: pytest.FixtureRequest
) -> None:
    sagemaker, s3 = server.client("sagemaker"), server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="code//main.py", Body=PROGRAM.encode())  # as joined by hand: prefix + "/" + name
    name = "odd-" + request.node.name.partition("[")[2].rstrip("]")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/code/"}
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/main.py"],
        },
        RoleArn=ROLE,
        InputDataConfig=[{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    job = wait_for_job(sagemaker, name)
    assert job["FailureReason"].startswith("AlgorithmError: The program ended with an error")
    assert job["FailureReason"].endswith("exit code: 5")
    packed = s3.get_object(Bucket=BUCKET, Key=f"out/{name}/output/model.tar.gz")["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        found = {each.name: each for each in tar}
    assert {each for each in found if "/" not in each} == {"d", "loop", "no \udcff text", "nowhere", "sparse"}
    assert found["sparse"].size == 8 << 20
    assert "/".join(["d"] * 1100 + ["end"]) in found
    trash = server.data / "workloads" / ".trash"
    wait_for(lambda: not any(name in each.name for each in trash.iterdir()), "the job's folder is gone")
