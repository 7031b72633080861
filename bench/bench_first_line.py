"""CreateTrainingJob to the container's first log line, image present: at most 1.5 times `docker run` to its first line.

Ours ends when GetLogEvents returns the line; docker's when the line is on its standard output.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import Any

from common import finish, paired, server, spread, verdict

IMAGE = "sagewright-bench/hello:1"
ROUNDS = 10


def main() -> None:
    build()
    with server() as running:
        s3, sagemaker, logs = (running.client(name) for name in ("s3", "sagemaker", "logs"))
        s3.create_bucket(Bucket="bench")
        numbers = iter(range(10_000))
        job_first_line(sagemaker, logs, f"warm-{next(numbers)}")
        docker_first_line()
        ours, theirs = paired(
            lambda: job_first_line(sagemaker, logs, f"job-{next(numbers)}"), docker_first_line, ROUNDS
        )
    print(f"CreateTrainingJob to first line, ms (min / median / max): {spread(ours)}")
    print(f"docker run to first line, ms (min / median / max):        {spread(theirs)}")
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    finish(verdict("first line against docker run (median of paired ratios)", ratio, 1.5, unit="x"))


def build() -> None:
    dockerfile = b'FROM sagewright-test/busybox:1\nENTRYPOINT ["/bin/echo", "hello"]\n'
    subprocess.run(["docker", "build", "-q", "-t", IMAGE, "-"], input=dockerfile, check=True, capture_output=True)


def docker_first_line() -> float:
    begun = time.monotonic()
    with subprocess.Popen(["docker", "run", "--rm", IMAGE, "train"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"hello")
        taken = time.monotonic() - begun
        process.wait()
    return taken


def job_first_line(sagemaker: Any, logs: Any, name: str) -> float:
    begun = time.monotonic()
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        OutputDataConfig={"S3OutputPath": "s3://bench/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    while not (taken := line_readable(logs, name, begun)):
        time.sleep(0.005)
    while sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "InProgress":
        time.sleep(0.02)
    time.sleep(0.3)  # let the engine finish removing, so that the next measurement starts from rest
    return taken


def line_readable(logs: Any, name: str, begun: float) -> float | None:
    group = "/aws/sagemaker/TrainingJobs"
    try:
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return None
    if not streams:
        return None
    page = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"], startFromHead=True)
    return time.monotonic() - begun if page["events"] else None


if __name__ == "__main__":
    main()
