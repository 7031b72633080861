"""Transform job operations over a real store: what is accepted, refused, shown and listed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagewright.core.clock import to_text
from sagewright.services.sagemaker.service import service
from sagewright.store import object_rows
from sagewright.store.db import Database
from sagewright.store.kinds import transform_job as kind
from sagewright.wire.faults import ApiFault
from support import hosting
from support.hosting import model
from unit.services.conftest import NOW, Call

SAGEMAKER = service(b"secret")
BUCKET = "bucket"


@pytest.fixture(autouse=True)
def world(call: Call, store: Database) -> None:
    hosting.add_artifact(store, NOW, "files/a")
    call(SAGEMAKER, "CreateModel", **model())


def request(name: str = "job", **changes: Any) -> dict[str, Any]:
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/files/"}}}
    return {
        "TransformJobName": name,
        "ModelName": "model",
        "TransformInput": {**source, "ContentType": "text/csv", **changes.pop("TransformInput", {})},
        "TransformOutput": {"S3OutputPath": f"s3://{BUCKET}/out", **changes.pop("TransformOutput", {})},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
        **changes,
    }


def set_state(store: Database, name: str, state: str, at: Any = NOW, **status: Any) -> None:
    key = kind.key("000000000000", "us-east-1", name)
    store.write(lambda tx: tx.update_status(row := tx.get(key), {**row.status, **status}, state, now=at, wake_at=None))


def test_what_was_asked_is_shown(call: Call, store: Database) -> None:
    asked = request(
        MaxConcurrentTransforms=4,
        MaxPayloadInMB=0,
        BatchStrategy="SingleRecord",
        ModelClientConfig={"InvocationsTimeoutInSeconds": 5, "InvocationsMaxRetries": 0},
        Environment={"A": "b"},
        DataCaptureConfig={"DestinationS3Uri": f"s3://{BUCKET}/cap", "GenerateInferenceId": True},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input"},
        ExperimentConfig={"ExperimentName": "e", "TrialName": "t"},
        Tags=[{"Key": "team", "Value": "x"}],
    )
    arn = call(SAGEMAKER, "CreateTransformJob", **asked)["TransformJobArn"]
    assert arn == "arn:aws:sagemaker:us-east-1:000000000000:transform-job/job"
    shown = call(SAGEMAKER, "DescribeTransformJob", TransformJobName="job")
    for name in set(asked) - {"Tags", "TransformInput", "TransformOutput", "DataProcessing"}:
        assert shown[name] == asked[name], name
    assert shown["TransformInput"]["SplitType"] == shown["TransformInput"]["CompressionType"] == "None"
    assert shown["TransformOutput"] == {"AssembleWith": "None", "KmsKeyId": "", "S3OutputPath": f"s3://{BUCKET}/out"}
    assert shown["DataProcessing"] == {"InputFilter": "$[1:]", "OutputFilter": "$", "JoinSource": "Input"}
    assert (shown["TransformJobStatus"], shown["CreationTime"]) == ("InProgress", NOW)
    assert "TransformStartTime" not in shown
    assert call(SAGEMAKER, "ListTags", ResourceArn=arn)["Tags"] == [{"Key": "team", "Value": "x"}]
    set_state(store, "job", "Failed", began_at=to_text(NOW), ended_at=to_text(NOW), failure_reason="because")
    shown = call(SAGEMAKER, "DescribeTransformJob", TransformJobName="job")
    assert (shown["TransformStartTime"], shown["TransformEndTime"], shown["FailureReason"]) == (NOW, NOW, "because")


def test_a_name_is_taken_for_good(call: Call, store: Database) -> None:
    call(SAGEMAKER, "CreateTransformJob", **request())
    set_state(store, "job", "Completed")
    with pytest.raises(ApiFault, match="already exists") as caught:
        call(SAGEMAKER, "CreateTransformJob", **request())
    assert caught.value.code == "ResourceInUse"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"ModelName": "no-such"}, "Could not find model"),
        ({"MaxPayloadInMB": 100, "MaxConcurrentTransforms": 2}, "at most 100 MB"),
        ({"MaxConcurrentTransforms": 17}, "is 102 MB"),
        ({"TransformResources": {"InstanceType": "ml.m5.large"}}, "TransformResources.InstanceCount"),
        ({"TransformInput": {"DataSource": {}}}, "S3DataSource"),
        ({"TransformOutput": {"S3OutputPath": "s3://nowhere/out"}}, "Create it first"),
        ({"TransformOutput": {"S3OutputPath": "https://x"}}, "not an S3 URI"),
        ({"Environment": {"A=B": "c"}}, "Rename it"),
        ({"Environment": {"SAGEWRIGHT_TRANSFORM_ON_ERROR": "x"}}, "Set it to skip or fail"),
        ({"DataProcessing": {"InputFilter": "x"}}, "does not begin with"),
        ({"DataProcessing": {"InputFilter": "$.a"}}, "have no names"),
        ({"DataProcessing": {"JoinSource": "Input"}, "TransformInput": {"ContentType": "image/png"}}, "works on"),
        ({"DataProcessing": {"JoinSource": "Input"}, "TransformInput": {"SplitType": "Line"}}, "AssembleWith must be"),
        ({"DataProcessing": {"JoinSource": "Input"}, "TransformInput": {"SplitType": "TFRecord"}}, "Line or None"),
        ({"DataProcessing": {"JoinSource": "Input"}, "TransformOutput": {"Accept": "application/json"}}, "Accept must"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "s3://nowhere/c"}}, "Create it first: aws s3 mb s3://nowhere"),
        ({"DataCaptureConfig": {"DestinationS3Uri": "https://x/y"}}, "not an S3 URI"),
        (
            {
                "DataCaptureConfig": {"DestinationS3Uri": f"s3://{BUCKET}/c", "GenerateInferenceId": True},
                "TransformOutput": {"Accept": "image/png"},
            },
            "GenerateInferenceId works on",
        ),
    ],
)
def test_what_cannot_work_is_refused(call: Call, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ApiFault, match=why) as caught:
        call(SAGEMAKER, "CreateTransformJob", **request(**changes))
    assert caught.value.code == "ValidationException"


@pytest.mark.parametrize(
    "changes",
    [
        {"MaxPayloadInMB": 0, "MaxConcurrentTransforms": 50},
        {"MaxPayloadInMB": 100, "MaxConcurrentTransforms": 1},
        {"DataProcessing": {"InputFilter": "$", "JoinSource": "None"}, "TransformInput": {"ContentType": "image/png"}},
        {"DataCaptureConfig": {"DestinationS3Uri": f"s3://{BUCKET}", "KmsKeyId": "alias/mine"}},
    ],
)
def test_what_looks_odd_and_works(call: Call, changes: dict[str, Any]) -> None:
    call(SAGEMAKER, "CreateTransformJob", **request(**changes))


def test_stopping(call: Call, store: Database) -> None:
    with pytest.raises(ApiFault, match="Could not find requested job with name: job"):
        call(SAGEMAKER, "StopTransformJob", TransformJobName="job")
    call(SAGEMAKER, "CreateTransformJob", **request())
    for state in ("InProgress", "Stopping"):
        set_state(store, "job", state)
        assert call(SAGEMAKER, "StopTransformJob", TransformJobName="job") == {}
    for number, state in enumerate(("Completed", "Failed", "Stopped")):
        call(SAGEMAKER, "CreateTransformJob", **request(f"job-{number}"))
        set_state(store, f"job-{number}", state)
        with pytest.raises(ApiFault, match=f"is in status {state}"):
            call(SAGEMAKER, "StopTransformJob", TransformJobName=f"job-{number}")


def test_the_model_may_go_while_the_job_runs(call: Call) -> None:
    call(SAGEMAKER, "CreateTransformJob", **request())
    call(SAGEMAKER, "DeleteModel", ModelName="model")
    assert call(SAGEMAKER, "DescribeTransformJob", TransformJobName="job")["ModelName"] == "model"


@pytest.fixture
def four(call: Call, store: Database) -> None:
    for second, name in enumerate(("c-one", "a-two", "e-one", "b-two")):
        call(SAGEMAKER, "CreateTransformJob", second=second, **request(name))
    set_state(store, "a-two", "Completed", NOW + timedelta(seconds=20))
    set_state(store, "e-one", "Failed", NOW + timedelta(seconds=10), failure_reason="because")


@pytest.mark.usefixtures("four")
@pytest.mark.parametrize("size", [1, 3, 100])
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["b-two", "e-one", "a-two", "c-one"]),
        ({"SortOrder": "Ascending"}, ["c-one", "a-two", "e-one", "b-two"]),
        ({"SortBy": "Name", "SortOrder": "Ascending"}, ["a-two", "b-two", "c-one", "e-one"]),
        ({"SortBy": "Status", "SortOrder": "Ascending"}, ["a-two", "e-one", "b-two", "c-one"]),
        ({"NameContains": "two", "SortBy": "Name"}, ["b-two", "a-two"]),
        ({"StatusEquals": "InProgress"}, ["b-two", "c-one"]),
        ({"StatusEquals": "Stopping"}, []),
        ({"CreationTimeAfter": NOW + timedelta(seconds=2)}, ["b-two", "e-one"]),
        ({"CreationTimeBefore": NOW + timedelta(seconds=1)}, ["c-one"]),
        ({"LastModifiedTimeAfter": NOW + timedelta(seconds=10)}, ["a-two"]),
        ({"LastModifiedTimeBefore": NOW + timedelta(seconds=4)}, ["b-two", "c-one"]),
    ],
)
def test_lists_filter_sort_and_page(call: Call, filters: dict[str, Any], expected: list[str], size: int) -> None:
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = call(SAGEMAKER, "ListTransformJobs", MaxResults=size, **filters, **token)
        found += [summary["TransformJobName"] for summary in page["TransformJobSummaries"]]
        if page["NextToken"] is None:
            break
        token = {"NextToken": page["NextToken"]}
    assert found == expected


@pytest.mark.usefixtures("four")
def test_a_summary(call: Call) -> None:
    (shown,) = call(SAGEMAKER, "ListTransformJobs", StatusEquals="Failed")["TransformJobSummaries"]
    assert shown == {
        "TransformJobName": "e-one",
        "TransformJobArn": "arn:aws:sagemaker:us-east-1:000000000000:transform-job/e-one",
        "CreationTime": NOW + timedelta(seconds=2),
        "LastModifiedTime": NOW + timedelta(seconds=10),
        "TransformJobStatus": "Failed",
        "FailureReason": "because",
    }


def test_a_bucket_without_objects(call: Call, store: Database) -> None:
    def make(tx: Any) -> None:
        made = {"name": "empty", "account": "000000000000", "region": "us-east-1", "settings": {}}
        object_rows.insert_bucket(tx, now=NOW, **made)

    store.write(make)
    source = {"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://empty/in"}}}
    with pytest.raises(ApiFault, match='No S3 objects found under S3 URL "s3://empty/in"'):
        call(SAGEMAKER, "CreateTransformJob", **request(TransformInput=source))
