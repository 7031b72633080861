"""More jobs than the machine holds: real containers, one after the other, none lost and none doubled."""

from __future__ import annotations

import json

import pytest

from e2e.test_jobs import BUCKET, Jobs
from sagewright.store.kinds.training_job import TERMINAL
from support.server import Server, wait_for

COUNT = 10


@pytest.mark.docker
def test_jobs_beyond_the_machine_wait_in_order_and_all_run_once(server: Server, docker_image: str) -> None:
    jobs = Jobs(server, docker_image, "queue")
    holder = jobs.create("sleep", ResourceConfig=whole_machine())
    names = [jobs.create("ok", ResourceConfig=whole_machine()) for _ in range(COUNT)]
    jobs.running(holder)
    shown = [jobs.sagemaker.describe_training_job(TrainingJobName=name) for name in names]
    assert {job["SecondaryStatus"] for job in shown} == {"Pending"}
    assert all("Waiting for capacity - " in job["SecondaryStatusTransitions"][-1]["StatusMessage"] for job in shown)
    listed = {
        job.get("TrainingJobName"): job for job in json.loads(server.run("jobs", "--json", "--limit", "20").stdout)
    }
    assert set(names) <= set(listed)
    queued = [listed[name]["QueuePosition"] for name in names]
    assert queued == sorted(queued), "the line is in the order of creation"
    assert " in line - " in server.run("jobs").stdout
    jobs.sagemaker.stop_training_job(TrainingJobName=holder)

    def ended() -> list[dict[str, object]] | None:
        found = [jobs.sagemaker.describe_training_job(TrainingJobName=name) for name in names]
        return found if all(job["TrainingJobStatus"] in TERMINAL for job in found) else None

    done = wait_for(ended, "all have ended", 120, 1.0)
    assert {job["TrainingJobStatus"] for job in done} == {"Completed"}
    starts = [job["TrainingStartTime"] for job in done]
    assert starts == sorted(starts), "they begin in the order in which they were created"
    objects = jobs.s3.list_objects_v2(Bucket=BUCKET, Prefix="out/queue-ok-")["Contents"]
    assert len([each for each in objects if each["Key"].endswith("model.tar.gz")]) == COUNT


def whole_machine() -> dict[str, object]:
    return {"InstanceType": "ml.m5.24xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}
