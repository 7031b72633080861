"""Describe and Create at least 4 times moto server's rate through the same boto3 loop, in one run, in turn.

The controller is paused (SIGSTOP) for the measurement: it is the API's rate that is compared, and moto runs nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from common import client_python, finish, server, verdict

ROUNDS, CALLS = 7, 200


def main() -> None:
    with moto() as moto_url, server() as running:
        env = running.env("--no-proxy")
        keys = (env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"], env["AWS_SESSION_TOKEN"])
        ours, theirs = client(running.url, *keys), client(moto_url, "a", "b", "c")
        running.client("s3").create_bucket(Bucket="bench")
        os.kill(running.status()["processes"]["controller"], signal.SIGSTOP)
        try:
            rates: dict[str, list[tuple[float, float]]] = {"create": [], "describe": []}
            for number in range(ROUNDS):
                rates["create"].append((create(ours, number), create(theirs, number)))
                rates["describe"].append((describe(ours), describe(theirs)))
        finally:
            os.kill(running.status()["processes"]["controller"], signal.SIGCONT)
    holds = []
    for name, pairs in rates.items():
        mine, other = (statistics.median(column) for column in zip(*pairs, strict=True))
        print(f"{name}: {mine:.0f}/s here, {other:.0f}/s moto server")
        ratio = statistics.median(a / b for a, b in pairs[1:])
        holds.append(verdict(f"{name} rate against moto server", ratio, 4.0, at_most=False, unit="x"))
    finish(*holds)


def client(url: str, key: str, secret: str, token: str) -> Any:
    return boto3.client(
        "sagemaker",
        region_name="us-east-1",
        endpoint_url=url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(proxies={}, retries={"total_max_attempts": 1}),
    )


def create(sagemaker: Any, round_: int) -> float:
    begun = time.monotonic()
    for number in range(CALLS):
        sagemaker.create_training_job(
            TrainingJobName=f"job-{round_}-{number}",
            AlgorithmSpecification={"TrainingImage": "bench-image", "TrainingInputMode": "File"},
            RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
            HyperParameters={"epochs": "3", "rate": "0.1"},
            OutputDataConfig={"S3OutputPath": "s3://bench/out"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
            StoppingCondition={"MaxRuntimeInSeconds": 60},
        )
    return CALLS / (time.monotonic() - begun)


def describe(sagemaker: Any) -> float:
    begun = time.monotonic()
    for number in range(CALLS):
        sagemaker.describe_training_job(TrainingJobName=f"job-0-{number}")
    return CALLS / (time.monotonic() - begun)


@contextmanager
def moto() -> Iterator[str]:
    python = client_python("moto", "moto[server]==5.2.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(python.with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
