"""What a job's end looks like to its owner: artifacts, metrics, reasons, stops and limits."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from typing import Any

import pytest

from support.server import Server, wait_for, wait_for_job

ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
BUCKET = "job-tests"


class Jobs:
    """Creates jobs with one image."""

    def __init__(self, server: Server, image: str, prefix: str) -> None:
        self.server, self.image, self.prefix = server, image, prefix
        self.sagemaker, self.s3 = server.client("sagemaker"), server.client("s3")
        self.s3.create_bucket(Bucket=BUCKET)
        self.count = 0

    def create(self, behaviour: str, *, channels: tuple[str, ...] = (), **more: Any) -> str:
        self.count += 1
        name = f"{self.prefix}-{behaviour}-{self.count}"
        request: dict[str, Any] = {
            "TrainingJobName": name,
            "AlgorithmSpecification": {
                "TrainingImage": self.image,
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": "loss=([0-9.]+);"}],
            },
            "RoleArn": ROLE,
            "HyperParameters": {"behaviour": behaviour},
            "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/out/"},
            "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        }
        if channels:
            request["InputDataConfig"] = [
                {"ChannelName": f"c{i}", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}}}
                for i, uri in enumerate(channels)
            ]
        self.sagemaker.create_training_job(**{**request, **more})
        return name

    def end(self, name: str) -> Any:
        return wait_for_job(self.sagemaker, name)

    def running(self, name: str) -> None:
        wait_for(
            lambda: self.sagemaker.describe_training_job(TrainingJobName=name)["SecondaryStatus"] == "Training", name
        )

    def archive(self, name: str, artifact: str = "model.tar.gz") -> dict[str, bytes]:
        body = self.s3.get_object(Bucket=BUCKET, Key=f"out/{name}/output/{artifact}")["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(body)) as tar:
            return {member.name.removeprefix("./"): tar.extractfile(member).read() for member in tar if member.isfile()}


@pytest.fixture(
    params=[pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
)
def jobs(request: pytest.FixtureRequest, server: Server, folder_image: Callable[[Server], str]) -> Jobs:
    image = folder_image(server) if request.param == "process" else request.getfixturevalue("docker_image")
    return Jobs(server, image, f"{request.param}-{request.node.name.split('[')[0].replace('_', '-')}"[:40].rstrip("-"))


def test_a_completed_job_leaves_artifacts_metrics_and_its_story(jobs: Jobs) -> None:
    jobs.s3.put_object(Bucket=BUCKET, Key="data/train/a.csv", Body=b"1,2\n")
    name = jobs.create("ok", channels=(f"s3://{BUCKET}/data/train/",))
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert job["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://{BUCKET}/out/{name}/output/model.tar.gz"
    assert jobs.archive(name) == {"model.txt": b'{"behaviour": "ok"}'}
    assert jobs.archive(name, "output.tar.gz") == {"report.txt": b"fine"}
    assert job["FinalMetricDataList"][0]["Value"] == 0.25
    statuses = [entry["Status"] for entry in job["SecondaryStatusTransitions"]]
    assert [statuses[0], *statuses[-3:]] == ["Starting", "Training", "Uploading", "Completed"]
    assert all(entry["StatusMessage"] for entry in job["SecondaryStatusTransitions"])
    assert job["TrainingStartTime"] <= job["TrainingEndTime"]
    stored = jobs.s3.get_object(Bucket=BUCKET, Key="data/train/a.csv")["Body"].read()
    assert stored == b"1,2\n", "what the container wrote into its channel must not reach the stored object"


def test_manifest_and_fast_file_channels_in_and_plain_files_out(jobs: Jobs) -> None:
    for key, body in (("m/a", b"a"), ("m/b", b"b"), ("m.json", b'[{"prefix": "s3://%s/m/"}, "b"]' % BUCKET.encode())):
        jobs.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    listed = {
        "S3DataType": "ManifestFile",
        "S3Uri": f"s3://{BUCKET}/m.json",
        "S3DataDistributionType": "ShardedByS3Key",
    }
    fast = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/m/"}
    channels = [
        {"ChannelName": "listed", "DataSource": {"S3DataSource": listed}},
        {"ChannelName": "fast", "InputMode": "FastFile", "DataSource": {"S3DataSource": fast}},
    ]
    output = {"S3OutputPath": f"s3://{BUCKET}/out/", "CompressionType": "NONE"}
    name = jobs.create("ok", InputDataConfig=channels, OutputDataConfig=output)
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    model = job["ModelArtifacts"]["S3ModelArtifacts"]
    assert model == f"s3://{BUCKET}/out/{name}/output/model"
    prefix = model.removeprefix(f"s3://{BUCKET}/") + "/"
    assert [each["Key"] for each in jobs.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]] == [
        prefix + "model.txt"
    ]


def test_a_failing_program_is_explained_by_its_last_words(jobs: Jobs) -> None:
    job = jobs.end(jobs.create("fail"))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: ")
    assert "exit code: 3" in job["FailureReason"]
    assert "the last words of a failing program" in job["FailureReason"]


def test_the_failure_file_is_the_reason(jobs: Jobs) -> None:
    job = jobs.end(jobs.create("fail-file"))
    assert job["FailureReason"].startswith("AlgorithmError: the learning rate must be positive, exit code: 1")


def test_a_stopped_job_saves_what_it_has(jobs: Jobs) -> None:
    name = jobs.create("sleep")
    jobs.running(name)
    wait_for(lambda: "ready" in jobs.server.run("logs", name).stdout, "the handler is installed")
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    job = jobs.end(name)
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "Stopped")
    assert jobs.archive(name) == {"model.txt": b"half trained"}
    with pytest.raises(jobs.sagemaker.exceptions.ClientError, match="is in status Stopped"):
        jobs.sagemaker.stop_training_job(TrainingJobName=name)


def test_a_job_over_its_time_is_stopped(jobs: Jobs) -> None:
    job = jobs.end(jobs.create("sleep", StoppingCondition={"MaxRuntimeInSeconds": 2}))
    assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


def test_a_signal_is_named(jobs: Jobs) -> None:
    job = jobs.end(jobs.create("signal"))
    assert "139" in job["FailureReason"]
    assert "SIGSEGV" in job["FailureReason"]


def test_deleting_frees_the_name(jobs: Jobs) -> None:
    name = jobs.create("fail")
    with pytest.raises(jobs.sagemaker.exceptions.ResourceInUse):
        jobs.sagemaker.delete_training_job(TrainingJobName=name)
    jobs.end(name)
    jobs.sagemaker.delete_training_job(TrainingJobName=name)
    with pytest.raises(jobs.sagemaker.exceptions.ClientError, match="Requested resource not found"):
        jobs.sagemaker.describe_training_job(TrainingJobName=name)


@pytest.mark.docker
def test_a_missing_docker_image_is_said(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, "no-such-image:v1", "missing")
    job = jobs.end(jobs.create("ok"))
    assert job["TrainingJobStatus"] == "Failed"
    assert "no-such-image:v1" in job["FailureReason"]


@pytest.mark.docker
def test_an_image_without_a_train_program_is_explained(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, "sagewright-test/busybox:1", "no-train")
    job = jobs.end(jobs.create("ok"))
    assert job["TrainingJobStatus"] == "Failed"
    assert "train" in job["FailureReason"]
    assert "ENTRYPOINT" in job["FailureReason"]


@pytest.mark.docker
def test_out_of_memory_is_said(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, docker_image, "memory")
    job = jobs.end(
        jobs.create("memory", ResourceConfig={"InstanceType": "ml.t3.medium", "InstanceCount": 1, "VolumeSizeInGB": 1})
    )
    assert job["TrainingJobStatus"] == "Failed"
    assert "memory" in job["FailureReason"]


@pytest.mark.docker
def test_a_container_uses_aws_as_its_execution_role(server: Server, boto3_image: str) -> None:
    jobs = Jobs(server, boto3_image, "inside")
    name = jobs.create("s3", HyperParameters={"behaviour": "s3", "bucket": BUCKET})
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    assert "assumed-role/SageMakerRole/SageMaker" in server.run("logs", name).stdout
    assert jobs.s3.get_object(Bucket=BUCKET, Key="from-inside")["Body"].read() == b"hello"


@pytest.mark.docker
def test_an_isolated_container_has_no_keys_and_no_network(server: Server, boto3_image: str) -> None:
    jobs = Jobs(server, boto3_image, "isolated")
    job = jobs.end(
        jobs.create("s3", HyperParameters={"behaviour": "s3", "bucket": BUCKET}, EnableNetworkIsolation=True)
    )
    assert job["TrainingJobStatus"] == "Failed"
    assert "Unable to locate credentials" in job["FailureReason"]
