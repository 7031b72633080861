"""What a beginner's first images do wrong, and what is said: the tutorial's run.sh in images that do not work.

More of them, on the smallest image: test_failures.
"""

from __future__ import annotations

import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from support.deployments import Deployments
from support.server import Server, wait_for, wait_for_job
from support.tutorial import EXAMPLE

pytestmark = pytest.mark.docker
BASE = "sagewright-test/python:3.11"
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
RUN_SH = (EXAMPLE / "run.sh").read_bytes()
EXEC_FORM = 'ENTRYPOINT ["./run.sh"]'
NOT_STARTED = "ClientError: The program could not be started (./run.sh train)"

Build = Callable[..., str]


@pytest.fixture(scope="module")
def build() -> Iterator[Build]:
    """An image of a run.sh, named by its test."""
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        pytest.skip(f"no Docker engine with {BASE} (scripts/engine, scripts/images)")
    made: list[str] = []

    def one(name: str, run_sh: bytes | None = RUN_SH, *, mode: int = 0o755, entrypoint: str = EXEC_FORM) -> str:
        files = {"Dockerfile": f"FROM {BASE}\nWORKDIR /app\nCOPY . ./\n{entrypoint}\n".encode()}
        if run_sh is not None:
            files["run.sh"] = run_sh
        image = f"sagewright-test/beginner-{os.getpid()}:{name}"
        context = _tar(files, mode)
        built = subprocess.run(
            ["docker", "build", "-q", "-t", image, "-"], input=context, capture_output=True, env=_classic()
        )
        assert built.returncode == 0, built.stderr.decode()
        made.append(image)
        return image

    yield one
    subprocess.run(["docker", "rmi", "-f", *made], capture_output=True)


def _classic() -> dict[str, str]:
    return {**os.environ, "DOCKER_BUILDKIT": "0"}


def _tar(files: dict[str, bytes], mode: int) -> bytes:
    target = BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, BytesIO(content))
    return target.getvalue()


def train(server: Server, image: str) -> Any:
    name = image.rpartition(":")[2]
    bucket = f"beginner-{name}"
    server.client("s3").create_bucket(Bucket=bucket)
    sagemaker = server.client("sagemaker")
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": f"s3://{bucket}/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
    )
    return sagemaker


def reason(server: Server, image: str) -> str:
    ended = wait_for_job(train(server, image), image.rpartition(":")[2])
    assert ended["TrainingJobStatus"] == "Failed"
    return str(ended["FailureReason"])


def test_run_sh_is_not_executable(server: Server, build: Build) -> None:
    told = reason(server, build("not-executable", mode=0o644))
    assert told.startswith(NOT_STARTED)
    assert "permission denied" in told
    assert told.endswith("RUN chmod +x ./run.sh")


def test_run_sh_has_windows_line_ends(server: Server, build: Build) -> None:
    told = reason(server, build("windows", RUN_SH.replace(b"\n", b"\r\n")))
    assert told.startswith(f"{NOT_STARTED}: the lines of /app/run.sh end the Windows way (CRLF)")
    assert "exec ./run.sh: no such file or directory" in told
    assert "run.sh text eol=lf" in told


def test_run_sh_was_never_copied(server: Server, build: Build) -> None:
    told = reason(server, build("not-copied", None))
    assert told.startswith(f"{NOT_STARTED}: there is no /app/run.sh in the image: check COPY and WORKDIR")


def test_the_interpreter_is_not_in_the_image(server: Server, build: Build) -> None:
    told = reason(server, build("no-zsh", RUN_SH.replace(b"/bin/sh", b"/bin/zsh")))
    assert told.startswith(f"{NOT_STARTED}: the first line of /app/run.sh names /bin/zsh, which is not in the image.")


def test_an_entrypoint_in_shell_form_that_goes_on_for_ever_says_so_while_it_runs(server: Server, build: Build) -> None:
    """The tutorial's own script would start its web server, and the job would never end."""
    serves = RUN_SH.replace(b"exec python app.py", b"exec python -m http.server 8080")
    image = build("shell-form", serves, entrypoint="ENTRYPOINT ./run.sh")
    sagemaker = train(server, image)

    def running() -> Any:
        found = sagemaker.describe_training_job(TrainingJobName="shell-form")
        return found if found["SecondaryStatus"] == "Training" else None

    found = wait_for(running, "the job trains")
    message = found["SecondaryStatusTransitions"][-1]["StatusMessage"]
    assert message.startswith("Training image download completed. Training in progress. - The image's ENTRYPOINT is")
    assert "so `train` never reached it" in message
    assert message.endswith('ENTRYPOINT ["./run.sh"].')
    shown = server.run("jobs").stdout
    assert "shell form" in " ".join(shown.split())
    ids = subprocess.run(["docker", "ps", "-q", "--filter", f"ancestor={image}"], capture_output=True, text=True).stdout
    subprocess.run(["docker", "kill", *ids.split()], capture_output=True, check=True)
    ended = wait_for_job(sagemaker, "shell-form")
    assert ended["FailureReason"].startswith("AlgorithmError: The image's ENTRYPOINT is in shell form")
    assert "shell form" in str(ended["SecondaryStatusTransitions"])


def test_an_exception_comes_first(server: Server, build: Build, tmp_path: Path) -> None:
    program = b"#!/usr/bin/env python3\ndef main():\n    raise ValueError('no rows in train.csv')\nmain()\n"
    told = reason(server, build("exception", program))
    assert told.startswith("AlgorithmError: ValueError: no rows in train.csv (run.sh, line 3). Last log lines:\n")
    assert told.endswith(", exit code: 1")


def test_an_endpoint_fails_at_once_for_the_same_reason(server: Server, build: Build) -> None:
    """A container that ends is started again for eight minutes; one that cannot be started is not."""
    made = Deployments(server, build("windows-serve", RUN_SH.replace(b"\n", b"\r\n")), "beginner")
    found = made.settled(made.create(made.config(made.model())))
    made.close()
    assert found["EndpointStatus"] == "Failed"
    assert "The program could not be started (./run.sh serve): the lines of /app/run.sh end" in found["FailureReason"]
