"""Debugger and profiler of a real job: their configuration files inside, what they write outside."""

from __future__ import annotations

import json
import subprocess

import pytest

from e2e.test_jobs import BUCKET, Jobs
from support.images import BUSYBOX
from support.server import Server

pytestmark = pytest.mark.docker

IMAGE = "sagewright-test/debugged:1"
PROGRAM = (
    f'FROM {BUSYBOX}\nENTRYPOINT ["/bin/sh", "-c", "cd /opt/ml; cat input/config/debughookconfig.json; echo; '
    "cat input/config/profilerconfig.json; echo; echo t > output/tensors/events; mkdir -p output/profiler/system; "
    'echo p > output/profiler/system/cpu", "sh"]\n'
)


def test_the_hook_finds_its_configuration_and_its_files_are_published(server: Server, docker_image: str) -> None:
    subprocess.run(["docker", "build", "-q", "-t", IMAGE, "-"], input=PROGRAM.encode(), check=True, capture_output=True)
    jobs = Jobs(server, IMAGE, "debug")
    profiler = {"S3OutputPath": f"s3://{BUCKET}/prof", "ProfilingIntervalInMilliseconds": 500}
    rule = {"RuleConfigurationName": "loss", "RuleEvaluatorImage": "rules:1"}
    name = jobs.create(
        "ok",
        DebugHookConfig={"S3OutputPath": f"s3://{BUCKET}/hook", "HookParameters": {"save_interval": "5"}},
        ProfilerConfig=profiler,
        DebugRuleConfigurations=[rule],
        ProfilerRuleConfigurations=[rule],
    )
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    hook, profiled = (json.loads(line) for line in server.run("logs", name).stdout.strip().splitlines()[:2])
    assert hook["LocalPath"] == "/opt/ml/output/tensors/"
    assert hook["HookParameters"] == {"save_interval": "5"}
    assert profiled == profiler
    for key, body in (
        (f"hook/{name}/debug-output/events", b"t\n"),
        (f"prof/{name}/profiler-output/system/cpu", b"p\n"),
    ):
        assert jobs.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
    for member in ("DebugRuleEvaluationStatuses", "ProfilerRuleEvaluationStatuses"):
        (status,) = job[member]
        assert (status["RuleConfigurationName"], status["RuleEvaluationStatus"]) == ("loss", "Stopped")
        assert "not evaluated" in status["StatusDetails"]
