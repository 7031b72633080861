"""Checkpoints and TensorBoard's files: restored, published while a job runs, kept through `kill -9` and a stop."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from support.server import Server, wait_for, wait_for_job

ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
BUCKET = "checkpoint-tests"
PROGRAM = """
import json, os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["CHECKPOINTS"])
board = pathlib.Path("/opt/ml/output/tensorboard")
found = sorted(str(path.relative_to(home)) for path in home.rglob("*"))
print("found", json.dumps(found), flush=True)


def leave(*_):
    (home / "at-the-stop.pt").write_text("saved within the grace")
    sys.exit(0)


signal.signal(signal.SIGTERM, leave)
(home / "epoch-1.pt").write_text("one")
(home / "deep").mkdir(exist_ok=True)
(home / "deep" / "epoch-2.pt").write_text("two")
if (home / "old.pt").exists():
    (home / "old.pt").unlink()
if board.exists():
    (board / "events").write_text("scalars")
deadline = time.time() + 120
while time.time() < deadline and not (home / "leave").exists():
    time.sleep(0.05)
(home / "epoch-1.pt").write_text("one, better")
(home / "last.pt").write_text("last")
"""


class Checkpoints:
    def __init__(self, server: Server, image: str, name: str) -> None:
        self.server, self.image, self.name = server, image, name
        self.sagemaker, self.s3 = server.client("sagemaker"), server.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.s3.put_object(Bucket=BUCKET, Key="code/main.py", Body=PROGRAM.encode())

    def create(self, suffix: str = "", path: str = "/opt/ml/checkpoints", **more: Any) -> str:
        name = f"{self.name}{suffix}"
        source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/code/"}
        config = {"S3Uri": f"s3://{BUCKET}/{self.name}/ckpt", "LocalPath": path}
        self.sagemaker.create_training_job(
            **{
                "TrainingJobName": name,
                "AlgorithmSpecification": {
                    "TrainingImage": self.image,
                    "TrainingInputMode": "File",
                    "ContainerEntrypoint": ["python3", "/opt/ml/input/data/code/main.py"],
                },
                "RoleArn": ROLE,
                "InputDataConfig": [{"ChannelName": "code", "DataSource": {"S3DataSource": source}}],
                "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out"},
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                "StoppingCondition": {"MaxRuntimeInSeconds": 600},
                "CheckpointConfig": config,
                "Environment": {"CHECKPOINTS": path},
                **more,
            }
        )
        return name

    def objects(self, prefix: str = "ckpt/") -> dict[str, str]:
        whole = f"{self.name}/{prefix}"
        listed = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=whole).get("Contents", ())
        bodies = {}
        for each in listed:
            with suppress(self.s3.exceptions.NoSuchKey):  # deleted since it was listed
                body = self.s3.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
                bodies[each["Key"].removeprefix(whole)] = body.decode()
        return bodies

    def put(self, name: str, body: str = "") -> None:
        self.s3.put_object(Bucket=BUCKET, Key=f"{self.name}/ckpt/{name}", Body=body.encode())

    def let_go(self) -> None:
        """Nothing that is put into the bucket later reaches the program, so it is told on its disk."""
        found = list((self.server.data / "workloads").glob("*/ml/checkpoints"))
        assert found
        for home in found:
            (home / "leave").touch()

    def found(self, job: str) -> list[list[str]]:
        """What each attempt found at its start."""
        logs = self.server.client("logs")
        group = "/aws/sagemaker/TrainingJobs"
        events = logs.filter_log_events(logGroupName=group, logStreamNamePrefix=f"{job}/")["events"]
        return [json.loads(each["message"][6:]) for each in events if each["message"].startswith("found ")]


@pytest.fixture(
    params=[pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
)
def checkpoints(request: pytest.FixtureRequest, server: Server, folder_image: Callable[[Server], str]) -> Checkpoints:
    image = folder_image(server) if request.param == "process" else request.getfixturevalue("docker_image")
    test = request.node.name.partition("[")[0].removeprefix("test_")
    return Checkpoints(server, image, f"{request.param}-{test.replace('_', '-')}"[:50].rstrip("-"))


def test_restored_published_while_it_runs_and_at_its_end(checkpoints: Checkpoints) -> None:
    checkpoints.put("old.pt", "old")
    checkpoints.put("kept.pt", "kept")
    board = {"S3OutputPath": f"s3://{BUCKET}/{checkpoints.name}/board/"}
    name = checkpoints.create(TensorBoardOutputConfig=board)
    running = {"epoch-1.pt": "one", "deep/epoch-2.pt": "two", "kept.pt": "kept"}
    wait_for(lambda: checkpoints.objects() == running, "published while it runs, and the deleted one is gone", 90)
    events = f"board/{name}/tensorboard-output/"
    wait_for(lambda: checkpoints.objects(events) == {"events": "scalars"}, "TensorBoard's files", 60)
    checkpoints.put("of-others", "not fetched, not deleted")
    checkpoints.let_go()
    job = wait_for_job(checkpoints.sagemaker, name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["CheckpointConfig"]["S3Uri"].endswith("/ckpt")
    assert checkpoints.objects() == running | {
        "epoch-1.pt": "one, better",
        "last.pt": "last",
        "leave": "",
        "of-others": "not fetched, not deleted",
    }
    assert checkpoints.found(name) == [["kept.pt", "old.pt"]]


def test_a_stopped_job_publishes_what_it_saved_in_its_grace(checkpoints: Checkpoints) -> None:
    name = checkpoints.create(path="/ckpt") if "docker" in checkpoints.name else checkpoints.create()
    wait_for(lambda: "deep/epoch-2.pt" in checkpoints.objects(), "it runs", 90)
    checkpoints.sagemaker.stop_training_job(TrainingJobName=name)
    assert wait_for_job(checkpoints.sagemaker, name)["TrainingJobStatus"] == "Stopped"
    assert checkpoints.objects()["at-the-stop.pt"] == "saved within the grace"


def test_an_interrupted_spot_job_finds_its_checkpoints_again(checkpoints: Checkpoints) -> None:
    name = checkpoints.create(
        EnableManagedSpotTraining=True,
        StoppingCondition={"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 1200},
    )
    wait_for(lambda: "deep/epoch-2.pt" in checkpoints.objects(), "the first attempt runs", 90)
    checkpoints.server.run("interrupt", name)
    wait_for(lambda: len(checkpoints.found(name)) == 2, "the second attempt runs", 120)
    checkpoints.let_go()
    assert wait_for_job(checkpoints.sagemaker, name)["TrainingJobStatus"] == "Completed"
    assert checkpoints.found(name) == [[], ["at-the-stop.pt", "deep", "deep/epoch-2.pt", "epoch-1.pt"]]


@pytest.mark.process
def test_a_killed_server_goes_on_publishing(own_server: Server, folder_image: Callable[[Server], str]) -> None:
    own_server.start()
    checkpoints = Checkpoints(own_server, folder_image(own_server), "killed")
    checkpoints.put("old.pt", "old")
    name = checkpoints.create()
    wait_for(lambda: "deep/epoch-2.pt" in checkpoints.objects(), "it runs", 90)
    (home,) = (own_server.data / "workloads").glob("*/ml/checkpoints")
    own_server.kill_everything()
    (home / "deep" / "epoch-2.pt").unlink()
    (home / "while-away.pt").write_text("written while nobody looked")
    own_server.start()
    again = Checkpoints(own_server, checkpoints.image, "killed")
    expected = {"epoch-1.pt": "one", "while-away.pt": "written while nobody looked"}
    wait_for(lambda: again.objects() == expected, "what happened meanwhile", 60)
    again.let_go()
    assert wait_for_job(again.sagemaker, name)["TrainingJobStatus"] == "Completed"
    assert again.objects() == expected | {"epoch-1.pt": "one, better", "last.pt": "last", "leave": ""}
