"""Failures that explain themselves, on real containers: images as their authors get them wrong."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable

import pytest

from e2e.test_jobs import BUCKET, Jobs
from support.images import BUSYBOX
from support.server import Server, wait_for

pytestmark = pytest.mark.docker

Build = Callable[..., str]


@pytest.fixture(scope="module")
def build(docker_image: str) -> Build:
    """Builds an image from a Dockerfile's lines after FROM, and files (name → text, mode)."""

    def make(*lines: str, **files: tuple[str, int]) -> str:
        dockerfile = "\n".join((f"FROM {BUSYBOX}", *lines, ""))
        context = io.BytesIO()
        with tarfile.open(fileobj=context, mode="w") as tar:
            for name, (text, mode) in {"Dockerfile": (dockerfile, 0o644), **files}.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(text.encode()), mode
                tar.addfile(entry, io.BytesIO(text.encode()))
        name = f"sagewright-test/wrong:{hashlib.sha256(repr((lines, files)).encode()).hexdigest()[:12]}"
        command = ["docker", "build", "-q", "-t", name, "-"]
        built = subprocess.run(command, input=context.getvalue(), capture_output=True)
        assert built.returncode == 0, built.stderr
        return name

    return make


def reason_of(server: Server, image: str, prefix: str) -> str:
    jobs = Jobs(server, image, prefix)
    job = jobs.end(jobs.create("ok"))
    assert job["TrainingJobStatus"] == "Failed"
    assert len(job["FailureReason"]) <= 1024
    return str(job["FailureReason"])


def test_a_program_that_may_not_be_executed(server: Server, build: Build) -> None:
    image = build("COPY train /usr/bin/train", 'ENTRYPOINT ["/usr/bin/train"]', train=("#!/bin/sh\n", 0o644))
    reason = reason_of(server, image, "mode")
    assert reason.startswith("ClientError: ")
    assert "chmod +x /usr/bin/train" in reason


def test_a_program_that_calls_one_that_is_not_executable(server: Server, build: Build) -> None:
    image = build("COPY inner /inner", 'ENTRYPOINT ["/bin/sh", "-c", "/inner", "sh"]', inner=("#!/bin/sh\n", 0o644))
    reason = reason_of(server, image, "inner")
    assert "exit code: 126" in reason
    assert "chmod +x" in reason


def test_a_program_that_calls_one_that_is_missing(server: Server, build: Build) -> None:
    image = build('ENTRYPOINT ["/bin/sh", "-c", "python3 train.py", "sh"]')
    reason = reason_of(server, image, "calls-missing")
    assert reason.startswith("AlgorithmError: ")
    assert "exit code: 127" in reason
    assert "was not found in the container" in reason
    assert "python3" in reason


def test_an_entrypoint_in_shell_form_never_sees_train(server: Server, build: Build) -> None:
    reason = reason_of(server, build('ENTRYPOINT test "$1" = train'), "shell")
    assert "shell form" in reason
    assert "exit code: 1" in reason


def test_a_script_whose_first_line_ends_as_on_windows(server: Server, build: Build) -> None:
    script = "#!/bin/sh\r\necho hello\r\n"
    image = build("COPY train /train", 'ENTRYPOINT ["/train"]', train=(script, 0o755))
    assert "CRLF" in reason_of(server, image, "crlf-first")


def test_a_script_without_a_first_line_that_names_its_interpreter(server: Server, build: Build) -> None:
    image = build("COPY train /train", 'ENTRYPOINT ["/train"]', train=("echo hello\n", 0o755))
    assert "without a #! line" in reason_of(server, image, "no-shebang")


def test_a_script_whose_lines_end_as_on_windows(server: Server, build: Build) -> None:
    script = "set -e\r\nmodel_trainer --epochs 1\r\n"
    image = build("COPY train /train", 'ENTRYPOINT ["/bin/sh", "/train"]', train=(script, 0o755))
    assert "CRLF" in reason_of(server, image, "crlf")


def test_a_script_whose_interpreter_name_ends_as_on_windows(server: Server, build: Build) -> None:
    image = build(
        "COPY train /train", 'ENTRYPOINT ["/bin/sh", "-c", "/train", "sh"]', train=("#!/usr/bin/env sh\r\n", 0o755)
    )
    assert "CRLF" in reason_of(server, image, "crlf-env")


def test_a_program_that_somebody_killed(server: Server, build: Build) -> None:
    jobs = Jobs(server, build('ENTRYPOINT ["/bin/sh", "-c", "echo up; sleep 60", "sh"]'), "killed")
    name = jobs.create("ok")
    wait_for(lambda: "up" in server.run("logs", name).stdout, "it runs")
    listed = ["docker", "ps", "-q", "--filter", f"name=training-job-{name}-"]
    container = subprocess.run(listed, capture_output=True, text=True).stdout.strip()
    subprocess.run(["docker", "kill", container], check=True, capture_output=True)
    reason = jobs.end(name)["FailureReason"]
    assert "exit code: 137 (SIGKILL)" in reason
    assert "killed from outside" in reason


def test_a_model_written_elsewhere_is_missed(server: Server, build: Build) -> None:
    """As on AWS the job completes and there is no artifact; here it says so."""
    jobs = Jobs(server, build('ENTRYPOINT ["/bin/sh", "-c", "mkdir /out; echo weights > /out/model.bin", "sh"]'), "out")
    name = jobs.create("ok")
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed"
    message = job["SecondaryStatusTransitions"][-1]["StatusMessage"]
    assert message.startswith("Training job completed - ")
    assert "/opt/ml/model" in message
    assert not jobs.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"out/{name}/output/").get("Contents")
    assert "/opt/ml/model" in server.run("jobs").stdout


def test_the_whole_log_is_there_from_the_first_byte_to_the_last(server: Server, build: Build) -> None:
    words = (
        "printf 'first\\n'; echo warned >&2; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf end"
    )
    jobs = Jobs(
        server, build(f'ENTRYPOINT ["/bin/sh", "-c", "{words.replace(chr(92), chr(92) * 2)}; exit 3", "sh"]'), "log"
    )
    name = jobs.create("ok")
    reason = jobs.end(name)["FailureReason"]
    assert "exit code: 3" in reason
    assert "end" in reason
    logs = server.client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    stream = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"][0]
    page = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True)
    lines = [event["message"] for event in page["events"]]
    assert sorted(lines) == sorted(["first", "warned", *(f"line {n}" for n in range(2000)), "end"])
    assert [line for line in lines if line != "warned"] == ["first", *(f"line {n}" for n in range(2000)), "end"]
