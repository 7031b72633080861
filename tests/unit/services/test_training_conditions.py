"""Spot training and UpdateTrainingJob: what is taken, what is refused, what is shown afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from sagewright.services.sagemaker.service import service
from sagewright.store.db import Database
from sagewright.wire.faults import ApiFault
from unit.services.conftest import Call
from unit.services.test_training_jobs import bucket, request, set_state  # noqa: F401 (bucket is a fixture)

SAGEMAKER = service(b"secret")


def test_spot_training_is_taken_and_shown(call: Call) -> None:
    condition = {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 120}
    asked = request(
        EnableManagedSpotTraining=True, StoppingCondition=condition, RetryStrategy={"MaximumRetryAttempts": 2}
    )
    call(SAGEMAKER, "CreateTrainingJob", **asked)
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")
    assert shown["EnableManagedSpotTraining"] is True
    assert shown["StoppingCondition"] == condition
    assert shown["RetryStrategy"] == {"MaximumRetryAttempts": 2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 59},
            },
            "must be at least MaxRuntimeInSeconds (60)",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 90}}, "is only for spot training"),
        (
            {"EnableNetworkIsolation": True, "RemoteDebugConfig": {"EnableRemoteDebug": True}},
            "does not go with EnableNetworkIsolation",
        ),
        (
            {
                "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "KeepAlivePeriodInSeconds": 60},
                "EnableManagedSpotTraining": True,
                "StoppingCondition": {"MaxRuntimeInSeconds": 60, "MaxWaitTimeInSeconds": 60},
            },
            "does not go with EnableManagedSpotTraining",
        ),
        ({"StoppingCondition": {"MaxRuntimeInSeconds": 28 * 86400 + 1}}, "28 days"),
    ],
)
def test_times_that_contradict_each_other_are_refused(call: Call, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateTrainingJob", **request(**changes))
    assert words in caught.value.message


def test_a_running_job_is_updated(call: Call, store: Database) -> None:
    made = call(SAGEMAKER, "CreateTrainingJob", **request(ProfilerConfig={"S3OutputPath": "s3://bucket/p"}))
    set_state(store, "job", "InProgress", secondary="Training")
    profiler = {"ProfilingIntervalInMilliseconds": 500}
    assert call(SAGEMAKER, "UpdateTrainingJob", TrainingJobName="job", ProfilerConfig=profiler) == made
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")
    assert shown["ProfilerConfig"] == {"S3OutputPath": "s3://bucket/p", "ProfilingIntervalInMilliseconds": 500}


@pytest.mark.parametrize(
    ("where", "changes", "words"),
    [
        ("InProgress Starting", {"ProfilerConfig": {"DisableProfiler": True}}, "Downloading or Training"),
        ("Completed Completed", {"RemoteDebugConfig": {"EnableRemoteDebug": True}}, "has ended"),
        ("InProgress Training", {"RemoteDebugConfig": {"EnableRemoteDebug": True}}, "EnableNetworkIsolation"),
        ("Completed Completed", {"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}}, "has no warm pool"),
        ("InProgress Training", {"ResourceConfig": {"KeepAlivePeriodInSeconds": 60}}, "without a warm pool"),
    ],
)
def test_what_cannot_be_changed_is_said(
    call: Call, store: Database, where: str, changes: dict[str, Any], words: str
) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request(EnableNetworkIsolation=True))
    state, step = where.split()
    set_state(store, "job", state, secondary=step)
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "UpdateTrainingJob", TrainingJobName="job", **changes)
    assert words in caught.value.message


def pooled(call: Call, store: Database, **pool: Any) -> None:
    config = {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1, "KeepAlivePeriodInSeconds": 60}
    call(SAGEMAKER, "CreateTrainingJob", **request(ResourceConfig=config))
    set_state(store, "job", "Completed", secondary="Completed", pool={"cache": "c", "from": None, **pool})


def test_a_job_with_a_warm_pool_shows_it(call: Call, store: Database) -> None:
    pooled(call, store, status="Reused", retained=7, reused_by="next")
    wanted = {"Status": "Reused", "ResourceRetainedBillableTimeInSeconds": 7, "ReusedByJob": "next"}
    assert call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")["WarmPoolStatus"] == wanted
    (listed,) = call(SAGEMAKER, "ListTrainingJobs", WarmPoolStatusEquals="Reused")["TrainingJobSummaries"]
    assert listed["WarmPoolStatus"] == wanted
    assert call(SAGEMAKER, "ListTrainingJobs", WarmPoolStatusEquals="Available")["TrainingJobSummaries"] == []


def test_a_warm_pool_that_waits_is_changed_and_keeps_its_job(call: Call, store: Database) -> None:
    pooled(call, store, status="Available", since="2026-01-02T03:04:05.000000Z")
    with pytest.raises(ApiFault, match="ResourceInUse"):
        call(SAGEMAKER, "DeleteTrainingJob", TrainingJobName="job")
    for seconds in (600, 0):
        config = {"KeepAlivePeriodInSeconds": seconds}
        call(SAGEMAKER, "UpdateTrainingJob", TrainingJobName="job", ResourceConfig=config)
        shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")["ResourceConfig"]
        assert shown["KeepAlivePeriodInSeconds"] == seconds


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("ServerlessJobConfig", {"BaseModelArn": "arn", "JobType": "FineTuning"}),
        ("ModelPackageConfig", {"ModelPackageGroupArn": "arn"}),
        ("MlflowConfig", {"MlflowResourceArn": "arn"}),
        ("SessionChainingConfig", {"EnableSessionTagChaining": True}),
        ("TrainingPlanArn", "arn"),
        ("InstancePlacementConfig", {"EnableMultipleJobs": True}),
        ("InstancePreferences", [{"InstanceType": "ml.m5.large"}]),
    ],
)
def test_what_is_not_there_is_refused_by_name(call: Call, member: str, value: Any) -> None:
    asked = request()
    (asked["ResourceConfig"] if member[0] in "TI" else asked)[member] = value
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateTrainingJob", **asked)
    assert f"{member}" in caught.value.message
    assert "not supported" in caught.value.message


def test_what_asks_for_nothing_is_taken(call: Call) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request(SessionChainingConfig={"EnableSessionTagChaining": False}))
