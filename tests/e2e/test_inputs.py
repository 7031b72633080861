"""What a program may do to its inputs, and what that does to the stored objects: nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.server import Server, wait_for, wait_for_job

ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
BUCKET = "input-tests"
PROGRAM = """
import json, os, pathlib, shutil, time
train, fast = pathlib.Path("/opt/ml/input/data/train"), pathlib.Path("/opt/ml/input/data/fast")
found = {}
with open(train / "grown", "a") as file:
    file.write("more")
open(train / "cut", "w").close()
os.chmod(train / "closed", 0o755)
os.remove(train / "gone")
shutil.rmtree(train / "deep")
os.mkdir(train / "deep")
(train / "deep" / "own").write_text("own")
os.rename(train / "folder", train / "renamed")
found["train"] = {str(p.relative_to(train)): p.read_text() for p in sorted(train.rglob("*")) if p.is_file()}
try:
    (fast / "one").write_text("changed")
except OSError as error:
    found["fast"] = error.strerror
print("waits", flush=True)
deadline = time.time() + 60
while not os.path.exists("/opt/ml/output/go") and time.time() < deadline:
    time.sleep(0.05)
found["later"] = (fast / "one").read_text()
pathlib.Path("/opt/ml/model/found.json").write_text(json.dumps(found))
"""
OBJECTS = {
    "grown": b"g|",
    "cut": b"cut",
    "closed": b"c",
    "gone": b"gone",
    "deep/a": b"a",
    "deep/b/c": b"c",
    "folder/x": b"x",
}


def channel(name: str, prefix: str, **more: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/{prefix}"}
    return {"ChannelName": name, "DataSource": {"S3DataSource": source}, **more}


@pytest.fixture(
    params=[pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
)
def image(request: pytest.FixtureRequest, server: Server, folder_image: Callable[[Server], str]) -> str:
    return folder_image(server) if request.param == "process" else str(request.getfixturevalue("docker_image"))


def test_a_program_may_change_its_inputs_and_no_object_changes(
    server: Server, image: str, request: pytest.FixtureRequest
) -> None:
    sagemaker, s3 = server.client("sagemaker"), server.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key, body in OBJECTS.items():
        s3.put_object(Bucket=BUCKET, Key=f"data/{key}", Body=body)
    s3.put_object(Bucket=BUCKET, Key="fast/one", Body=b"one")
    s3.put_object(Bucket=BUCKET, Key="code/main.py", Body=PROGRAM.encode())
    s3.put_object(Bucket=BUCKET, Key="large/zeros", Body=bytes(8 << 20))
    name = "inputs-" + request.node.name.partition("[")[2].rstrip("]")
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/main.py"],
        },
        RoleArn=ROLE,
        InputDataConfig=[
            channel("code", "code/"),
            channel("train", "data/"),
            channel("fast", "fast/", InputMode="FastFile"),
            channel("large", "large/"),
        ],
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": "NONE"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    own = wait_for(lambda: _waiting(server), "the program has changed its inputs", 120)
    assert _bytes_of_its_own(own) < 1 << 20, "the channel of 8 MiB costs nothing"
    s3.delete_object(Bucket=BUCKET, Key="fast/one")
    (own / "ml/output/go").touch()
    job = wait_for_job(sagemaker, name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    found = json.loads(s3.get_object(Bucket=BUCKET, Key=f"out/{name}/output/model/found.json")["Body"].read())
    assert found["train"] == {
        "closed": "c",
        "cut": "",
        "deep/own": "own",
        "grown": "g|more",
        "renamed/x": "x",
    }
    assert (found["fast"], found["later"]) == ("Read-only file system", "one")
    for key, body in OBJECTS.items():
        assert s3.get_object(Bucket=BUCKET, Key=f"data/{key}")["Body"].read() == body
    wait_for(lambda: not own.exists(), "the job's folder is gone")


def _waiting(server: Server) -> Path | None:
    """The folder of the one job whose program waits."""
    found = [path for path in (server.data / "workloads").glob("*/changes/train/upper/deep/own") if path.exists()]
    return found[0].parents[4] if found else None


def _bytes_of_its_own(folder: Path) -> int:
    found = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum(each.st_size for each in found if each.st_nlink == 1)
