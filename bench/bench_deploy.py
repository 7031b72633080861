"""CreateEndpoint to InService: at most 0.3 s more than `docker run` of the same container to its first good /ping.

Both end when a client knows: ours when DescribeEndpoint says InService, docker's when /ping has answered 200.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import time
from pathlib import Path
from typing import Any

from common import finish, paired, server, spread, verdict

IMAGE = "sagewright-bench/model:1"
PROGRAM = Path(__file__).resolve().parents[1] / "tests" / "e2e" / "program"
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
ROUNDS = 8
LOOK = 0.01  # seconds between looks, on both sides


def main() -> None:
    build = ["docker", "build", "-q", "-t", IMAGE, "--build-arg", "BASE=sagewright-test/python:3.11", str(PROGRAM)]
    subprocess.run(build, check=True, capture_output=True)
    with server() as running:
        sagemaker = running.client("sagemaker")
        sagemaker.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer={"Image": IMAGE})
        variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
        numbers = iter(range(10_000))
        in_service(sagemaker, f"warm-{next(numbers)}")
        first_ping()
        ours, theirs = paired(lambda: in_service(sagemaker, f"e-{next(numbers)}"), first_ping, ROUNDS)
    print(f"CreateEndpoint to InService, ms (min / median / max):       {spread(ours)}")
    print(f"docker run to the first good /ping, ms (min / median / max): {spread(theirs)}")
    more = statistics.median(a - b for a, b in zip(ours, theirs, strict=True))
    finish(
        verdict("InService after docker run's first good /ping (median of paired differences)", more, 0.3, unit=" s")
    )


def in_service(sagemaker: Any, name: str) -> float:
    begun = time.monotonic()
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="c")
    while (status := sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"]) == "Creating":
        time.sleep(LOOK)
    taken = time.monotonic() - begun
    assert status == "InService", status
    sagemaker.delete_endpoint(EndpointName=name)
    while sagemaker.list_endpoints(NameContains=name)["Endpoints"]:
        time.sleep(0.05)
    time.sleep(0.3)  # let the engine come to rest
    return taken


def first_ping() -> float:
    begun = time.monotonic()
    run = ["docker", "run", "-d", "--rm", "-p", "127.0.0.1::8080", IMAGE, "serve"]
    container = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
    asked = subprocess.run(["docker", "port", container, "8080"], check=True, capture_output=True, text=True).stdout
    port = int(asked.strip().rpartition(":")[2])
    while not answers(port):
        time.sleep(LOOK)
    taken = time.monotonic() - begun
    subprocess.run(["docker", "rm", "-f", container], check=True, capture_output=True)
    time.sleep(0.3)
    return taken


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as connection:
            connection.sendall(b"GET /ping HTTP/1.1\r\nHost: model\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


if __name__ == "__main__":
    main()
