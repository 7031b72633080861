"""A job whose image only our registry holds: first log line at most 0.3 s after what `docker pull`, `docker run` take.

The same image, 100 MB that do not compress, from the same registry; it is removed from the engine before each.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_first_line import line_readable
from common import finish, paired, server, spread, verdict

from support.registry import make_repository, password

ROUNDS = 5
SIZE = 100 * 1000 * 1000  # bytes
NAME = "bench/pulled"
BASE = "sagewright-test/busybox:1"


def main() -> None:
    with server() as running, tempfile.TemporaryDirectory(prefix="bench-pull-") as scratch:
        address, config = running.url.removeprefix("http://"), Path(scratch, "config")
        make_repository(running.data, NAME)
        docker(config, "login", "-u", "AWS", "--password-stdin", address, given=password(running.data))
        there = push(config, Path(scratch, "context"), f"{address}/{NAME}:1")
        s3, sagemaker, logs = (running.client(name) for name in ("s3", "sagemaker", "logs"))
        s3.create_bucket(Bucket="bench")
        numbers = iter(range(10_000))

        def job() -> float:
            name = f"job-{next(numbers)}"
            begun = time.monotonic()
            sagemaker.create_training_job(
                TrainingJobName=name,
                AlgorithmSpecification={"TrainingImage": f"{address}/{NAME}:1", "TrainingInputMode": "File"},
                RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
                OutputDataConfig={"S3OutputPath": "s3://bench/out"},
                ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
                StoppingCondition={"MaxRuntimeInSeconds": 60},
            )
            while not (taken := line_readable(logs, name, begun)):
                time.sleep(0.005)
            while sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "InProgress":
                time.sleep(0.02)
            time.sleep(0.3)  # let the engine finish removing
            docker(config, "rmi", "-f", there)
            return taken

        def by_hand() -> float:
            begun = time.monotonic()
            docker(config, "pull", "-q", there)
            with subprocess.Popen(["docker", "run", "--rm", there, "train"], stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                assert process.stdout.readline().startswith(b"hello")
                taken = time.monotonic() - begun
                process.wait()
            docker(config, "rmi", "-f", there)
            return taken

        job(), by_hand()  # warm
        ours, theirs = paired(job, by_hand, ROUNDS)
    print(f"CreateTrainingJob to first line, ms (min / median / max):       {spread(ours)}")
    print(f"docker pull, docker run to first line, ms (min / median / max): {spread(theirs)}")
    more = statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
    finish(verdict("a job's start beyond the pull and docker run (median of differences)", more, 0.3, unit=" s"))


def push(config: Path, context: Path, tag: str) -> str:
    """The image is in the registry only; its name there, by digest."""
    context.mkdir()
    with (context / "data").open("wb") as file:
        for _ in range(SIZE // 1_000_000):
            file.write(os.urandom(1_000_000))
    entry = '["/bin/sh", "-c", "echo hello; sleep 1", "hello"]'
    (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY data /data\nENTRYPOINT {entry}\n")
    built = docker(config, "build", "-q", "-t", tag, str(context)).strip()
    digest = docker(config, "push", tag).rpartition("digest: ")[2].split()[0]
    docker(config, "rmi", tag)
    docker(config, "rmi", "-f", built, check=False)
    return f"{tag.rpartition(':')[0]}@{digest}"


def docker(config: Path, *arguments: str, given: str = "", check: bool = True) -> str:
    command = ["docker", "--config", str(config), *arguments]
    environment = {**os.environ, "DOCKER_BUILDKIT": "0"}
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode:
        sys.exit(f"docker {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
