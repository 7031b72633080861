"""The way of a log line from a container to GetLogEvents.

- 100,000 lines/s from one container, none lost: a container prints 500,000 numbered lines as fast as the engine takes
  them; the clock stops when the last one can be read through the API. The peer is the engine alone: its own client
  reads the same log, with times, as it is written. Most of the work is the engine's: the ratio says more than the rate.
- The first line can be read within 0.3 s of being printed: the container prints the time, and both share one clock.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import Any

from common import finish, server, spread, verdict

IMAGE = "sagewright-test/python:3.11"
GROUP = "/aws/sagemaker/TrainingJobs"
LINES = 500_000
ROUNDS = 3
FIRST_LINES = 15
STORM = (
    "import sys\n"
    "text = 'epoch 7: loss=0.123456 accuracy=0.98765 throughput=1234.5 images/s'\n"
    f"for begin in range(0, {LINES}, 1000):\n"
    "    sys.stdout.write(''.join(f'{begin + n} {text}\\n' for n in range(1000)))\n"
)
CLOCK = "import time\nprint(time.time(), flush=True)\ntime.sleep(1)\n"


def main() -> None:
    with server() as running:
        running.client("s3").create_bucket(Bucket="bench")
        sagemaker, logs = running.client("sagemaker"), running.client("logs")
        create(sagemaker, "warm", CLOCK)
        first_line(logs, "warm")
        rates, theirs = [], []
        for number in range(ROUNDS):
            rates.append(LINES / storm(sagemaker, logs, f"storm-{number}"))
            theirs.append(LINES / docker_storm())
        ages = []
        for number in range(FIRST_LINES):
            create(sagemaker, f"first-{number}", CLOCK)
            ages.append(first_line(logs, f"first-{number}"))
            ended(sagemaker, f"first-{number}")
    print(f"lines/s readable through the API (min / median / max): {spread(rates, 1)}")
    print(f"lines/s of docker logs --follow (min / median / max):   {spread(theirs, 1)}")
    print(f"age of the first line when it is readable, ms (min / median / max): {spread(ages)}")
    ratio = statistics.median(a / b for a, b in zip(rates, theirs, strict=True))
    finish(
        verdict(
            "lines/s against the engine's own client (median of paired ratios)", ratio, 0.8, at_most=False, unit="x"
        ),
        verdict("lines/s from one container, none lost (median)", statistics.median(rates), 100_000, at_most=False),
        verdict("age of the first line when it is readable (worst)", max(ages), 0.3, unit=" s"),
    )


def storm(sagemaker: Any, logs: Any, name: str) -> float:
    """Seconds from the container's start until its last line is readable. Every line is there, once, in order."""
    create(sagemaker, name, STORM)
    last = f"{LINES - 1} "
    while not (tail := events(logs, name, limit=1)) or not tail[-1]["message"].startswith(last):
        time.sleep(0.02)
    readable = time.time()
    begun = training_began(sagemaker, name)
    count, token = 0, {}
    while page := logs.get_log_events(**stream(logs, name), startFromHead=True, **token):
        if not page["events"]:
            break
        for event in page["events"]:
            assert event["message"].startswith(f"{count} "), f"line {count} is {event['message']!r}"
            count += 1
        token = {"nextToken": page["nextForwardToken"]}
    assert count == LINES, f"{count} of {LINES} lines"
    ended(sagemaker, name)
    return readable - begun


def docker_storm() -> float:
    """Seconds from the container's start until the engine's own client has read the last line."""
    run = ["docker", "run", "--detach", "--log-driver", "local", "--entrypoint", "python3", IMAGE, "-c", STORM]
    begun = time.monotonic()
    container = subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip()
    try:
        while (count := docker_read(container)) < LINES:
            pass  # the engine stops following when the container ends, wherever it has come to: it is asked again
        assert count == LINES
        return time.monotonic() - begun
    finally:
        subprocess.run(["docker", "rm", "--force", container], check=True, capture_output=True)


def docker_read(container: str) -> int:
    command = ["docker", "logs", "--follow", "--timestamps", container]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=1 << 20) as process:
        assert process.stdout is not None
        return sum(block.count(b"\n") for block in iter(lambda: process.stdout.read(1 << 20), b""))


def first_line(logs: Any, name: str) -> float:
    """How old the first line is when a client first reads it."""
    while not (found := events(logs, name, startFromHead=True)):
        time.sleep(0.005)
    return time.time() - float(found[0]["message"])


def training_began(sagemaker: Any, name: str) -> float:
    transitions = sagemaker.describe_training_job(TrainingJobName=name)["SecondaryStatusTransitions"]
    return float(next(each["StartTime"] for each in transitions if each["Status"] == "Training").timestamp())


def create(sagemaker: Any, name: str, program: str) -> None:
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": IMAGE,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python3", "-c", "import os; exec(os.environ['PROGRAM'])"],
        },
        Environment={"PROGRAM": program},
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        OutputDataConfig={"S3OutputPath": "s3://bench/out"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 300},
    )


def events(logs: Any, name: str, **more: Any) -> list[dict[str, Any]]:
    where = stream(logs, name)
    return list(logs.get_log_events(**where, **more)["events"]) if where else []


def stream(logs: Any, name: str) -> dict[str, str]:
    """Empty until it is there."""
    try:
        found = logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix=f"{name}/")["logStreams"]
    except logs.exceptions.ResourceNotFoundException:
        return {}
    return {"logGroupName": GROUP, "logStreamName": found[0]["logStreamName"]} if found else {}


def ended(sagemaker: Any, name: str) -> None:
    while (job := sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "InProgress":
        time.sleep(0.02)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")


if __name__ == "__main__":
    main()
