"""Many short jobs through the API against the engine alone.

- 50 jobs of one second each, against 50 `docker run` of the same with the same number at once: at most 1.25 times the
  wall time. Ours goes from the first CreateTrainingJob until the last job is Completed, artifacts and all.
- 200 jobs that do nothing, created at once: starts per second at least 0.8 of what the engine alone does, given
  its containers by as many callers as run here at once. None is lost, none runs twice.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

from common import finish, server, spread, verdict

IMAGE = "sagewright-bench/short:1"
GROUP = "/aws/sagemaker/TrainingJobs"
AT_ONCE = 8
JOBS, SHORT = 50, 200
ROUNDS = 1


def main() -> None:
    build()
    with server("--jobs-at-once", str(AT_ONCE)) as running:
        running.client("s3").create_bucket(Bucket="bench")
        sagemaker, logs = running.client("sagemaker", max_pool_connections=AT_ONCE), running.client("logs")
        jobs(sagemaker, "warm", 4, "0")
        docker_runs(4, "0")
        ours, theirs = [], []
        for number in range(ROUNDS):
            ours.append(jobs(sagemaker, f"second-{number}", JOBS, "1")[0])
            theirs.append(docker_runs(JOBS, "1"))
        short, names = jobs(sagemaker, "short", SHORT, "0")
        check_each_once(logs, names)
        alone = docker_runs(SHORT, "0")
        rates = [rate(sagemaker, names), SHORT / alone]
    print(ours, theirs, flush=True)
    print(f"{JOBS} one-second jobs, s (min / median / max):       {spread(ours, 1)}")
    print(f"{JOBS} one-second docker run, s (min / median / max): {spread(theirs, 1)}")
    print(
        f"{SHORT} short jobs: {short:.1f} s, {rates[0]:.1f} starts/s; docker run alone: {alone:.1f} s, {rates[1]:.1f}/s"
    )
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    finish(
        verdict("one-second jobs against docker run (median of paired ratios)", ratio, 1.25, unit="x"),
        verdict("starts of short jobs against the engine alone", rates[0] / rates[1], 0.8, at_most=False, unit="x"),
    )


def build() -> None:
    program = b'ENTRYPOINT ["/bin/sh", "-c", "echo ran; sleep $SECONDS_TO_RUN; echo m > /opt/ml/model/m", "short"]\n'
    dockerfile = b"FROM sagewright-test/busybox:1\n" + program
    subprocess.run(["docker", "build", "-q", "-t", IMAGE, "-"], input=dockerfile, check=True, capture_output=True)


def jobs(sagemaker: Any, prefix: str, count: int, seconds: str) -> tuple[float, list[str]]:
    """Seconds until all have completed, and their names."""
    names = [f"{prefix}-{number}" for number in range(count)]
    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        list(threads.map(lambda name: create(sagemaker, name, seconds), names))
    left = set(names)
    while left:
        time.sleep(0.1)
        newest = sagemaker.list_training_jobs(MaxResults=100, NameContains=f"{prefix}-", StatusEquals="InProgress")
        if not newest["TrainingJobSummaries"]:
            left.clear()
    taken = time.monotonic() - begun
    for name in names:
        assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Completed", name
    return taken, names


def docker_runs(count: int, seconds: str) -> float:
    """Seconds for as many `docker run`, `AT_ONCE` at a time."""
    variables = ["--env", f"SECONDS_TO_RUN={seconds}", "--tmpfs", "/opt/ml/model"]
    command = ["docker", "run", "--rm", "--log-driver", "local", *variables, IMAGE, "train"]
    begun = time.monotonic()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        done = threads.map(lambda _: subprocess.run(command, check=True, capture_output=True), range(count))
        assert all(each.stdout == b"ran\n" for each in done)
    return time.monotonic() - begun


def rate(sagemaker: Any, names: list[str]) -> float:
    """Starts per second: from the creation of the first until the last one trained."""
    described = [sagemaker.describe_training_job(TrainingJobName=name) for name in names]
    first = min(job["CreationTime"] for job in described)
    return len(names) / (max(map(trained, described)) - first).total_seconds()


def trained(job: Any) -> datetime:
    began: datetime = next(each for each in job["SecondaryStatusTransitions"] if each["Status"] == "Training")[
        "StartTime"
    ]
    return began


def check_each_once(logs: Any, names: list[str]) -> None:
    """Every job has one stream, with the one line that its program prints."""
    printed: Counter[str] = Counter()
    found = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, logStreamNamePrefix="short-")
    for page in found:
        printed.update(event["logStreamName"].partition("/")[0] for event in page["events"])
    assert printed == Counter(names), (Counter(names) - printed, printed - Counter(names))


def create(sagemaker: Any, name: str, seconds: str) -> None:
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
        Environment={"SECONDS_TO_RUN": seconds},
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        OutputDataConfig={"S3OutputPath": "s3://bench/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )


if __name__ == "__main__":
    main()
