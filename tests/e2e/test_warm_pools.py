"""Warm pools of real jobs: the persistent cache moves on from job to job, and ends with its pool."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from e2e.test_jobs import Jobs
from support.images import BUSYBOX
from support.server import Server, wait_for

IMAGE = "sagewright-test/warm:2"
PROGRAM = (
    'FROM {base}\nENTRYPOINT ["/bin/sh", "-c", "c=$SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY; '
    'echo found $(cat $c/jobs 2>/dev/null); echo $TRAINING_JOB_NAME >> $c/jobs; echo m > /opt/ml/model/m", "sh"]\n'
)


FOLDER_PROGRAM = """\
import os, pathlib, tempfile
cache = pathlib.Path(os.environ.get("SAGEMAKER_MANAGED_WARMPOOL_CACHE_DIRECTORY") or tempfile.mkdtemp(), "jobs")
print("found", cache.read_text() if cache.exists() else "", flush=True)
with cache.open("a") as file:
    print(os.environ["TRAINING_JOB_NAME"], file=file)
"""


@pytest.fixture(
    params=[pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
)
def jobs(server: Server, request: pytest.FixtureRequest, tmp_path: Path) -> Jobs:
    prefix = f"warm-{'moves' if 'moves' in request.node.name else 'ends'}-{request.param}"
    if request.param == "process":
        (tmp_path / "main.py").write_text(FOLDER_PROGRAM)
        server.run("image", "add", str(tmp_path), "--name", "warm", "--entrypoint", "python main.py")
        return Jobs(server, "warm", prefix)
    request.getfixturevalue("docker_image")
    build = ["docker", "build", "-q", "-t", IMAGE, "-"]
    subprocess.run(build, input=PROGRAM.format(base=BUSYBOX).encode(), check=True, capture_output=True)
    return Jobs(server, IMAGE, prefix)


def config(keep: int, volume: int) -> dict[str, Any]:
    """`volume` keeps the tests' pools apart."""
    kept = {"KeepAlivePeriodInSeconds": keep} if keep else {}
    return {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": volume, **kept}


def pool(jobs: Jobs, name: str) -> dict[str, Any]:
    return dict(jobs.sagemaker.describe_training_job(TrainingJobName=name).get("WarmPoolStatus", {}))


def run(jobs: Jobs, keep: int, volume: int) -> tuple[str, str]:
    """A job's name, and what its program found in the cache."""
    name = jobs.create("ok", ResourceConfig=config(keep, volume))
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    return name, jobs.server.run("logs", name).stdout.partition("found")[2].strip()


def caches(jobs: Jobs) -> list[str]:
    return [each.name for each in (jobs.server.data / "workloads").glob("*.warm")]


def test_the_cache_moves_on_and_ends_with_the_pool(jobs: Jobs) -> None:
    first, found = run(jobs, 600, 11)
    assert found == ""
    assert pool(jobs, first)["Status"] == "Available"
    other, found = run(jobs, 0, 12)
    assert found == "", "another volume size is another configuration"
    assert pool(jobs, other) == {}
    second, found = run(jobs, 600, 11)
    assert found.split() == [first]
    wait_for(lambda: pool(jobs, first)["Status"] == "Reused", "its owner knows")
    assert pool(jobs, first)["ReusedByJob"] == second
    listed = jobs.sagemaker.list_training_jobs(WarmPoolStatusEquals="Available", NameContains=jobs.prefix)
    assert [each["TrainingJobName"] for each in listed["TrainingJobSummaries"]] == [second]
    with pytest.raises(jobs.sagemaker.exceptions.ResourceInUse):
        jobs.sagemaker.delete_training_job(TrainingJobName=second)
    third, found = run(jobs, 0, 11)
    assert found.split() == [first, second]
    wait_for(lambda: pool(jobs, second)["Status"] == "Reused", "its owner knows")
    assert pool(jobs, third)["Status"] == "Terminated"
    wait_for(lambda: not caches(jobs), "the cache is removed")
    _, found = run(jobs, 0, 11)
    assert found == ""


def test_a_pool_is_ended_by_its_time_and_by_its_owner(jobs: Jobs) -> None:
    short, _ = run(jobs, 1, 13)
    wait_for(lambda: pool(jobs, short)["Status"] == "Terminated", "its time is up")
    long, _ = run(jobs, 3600, 14)
    assert pool(jobs, long)["Status"] == "Available"
    jobs.sagemaker.update_training_job(TrainingJobName=long, ResourceConfig={"KeepAlivePeriodInSeconds": 0})
    wait_for(lambda: pool(jobs, long)["Status"] == "Terminated", "it was ended")
    assert pool(jobs, long)["ResourceRetainedBillableTimeInSeconds"] >= 0
    wait_for(lambda: not caches(jobs), "the caches are removed")
    jobs.sagemaker.delete_training_job(TrainingJobName=long)
