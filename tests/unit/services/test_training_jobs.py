"""Training job operations over a real store: what is accepted, what is shown, how lists page."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sagewright.core.clock import to_text
from sagewright.services.sagemaker.service import service
from sagewright.store import object_rows
from sagewright.store.db import Database
from sagewright.store.kinds import training_job as kind
from sagewright.store.object_rows import ObjectRow
from sagewright.wire.faults import ApiFault
from unit.services.conftest import NOW, Call

SAGEMAKER = service(b"secret")


@pytest.fixture(autouse=True)
def bucket(store: Database) -> None:
    def make(tx: Any) -> None:
        object_rows.insert_bucket(tx, name="bucket", account="000000000000", region="us-east-1", now=NOW, settings={})
        made = object_rows.find_bucket(tx, "bucket")
        assert made is not None
        row = ObjectRow(key="data/a.csv", content_id="c1", size=1, etag="e", modified_at=NOW, attributes={})
        object_rows.put(tx, made, row, old=None)

    store.write(make)


def request(name: str = "job", **changes: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {"TrainingImage": "image", "TrainingInputMode": "File"},
        "RoleArn": "arn:aws:iam::000000000000:role/SageMakerRole",
        "OutputDataConfig": {"S3OutputPath": "s3://bucket/out/"},
        "ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": 60},
        **changes,
    }


def channel(name: str = "training", uri: str = "s3://bucket/data", **source: Any) -> dict[str, Any]:
    return {"ChannelName": name, "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri, **source}}}


def metric(regex: str) -> dict[str, Any]:
    definitions = [{"Name": "loss", "Regex": regex}]
    return {"TrainingImage": "image", "TrainingInputMode": "File", "MetricDefinitions": definitions}


def set_state(store: Database, name: str, state: str, at: Any = NOW, **status: Any) -> None:
    key = kind.key("000000000000", "us-east-1", name)
    store.write(lambda tx: tx.update_status(row := tx.get(key), {**row.status, **status}, state, now=at, wake_at=None))


def test_what_was_asked_is_shown_with_defaults_filled_in(call: Call) -> None:
    arn = call(SAGEMAKER, "CreateTrainingJob", **request(InputDataConfig=[channel()], HyperParameters={"a": "1"}))
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")
    assert (
        shown["TrainingJobArn"] == arn["TrainingJobArn"] == "arn:aws:sagemaker:us-east-1:000000000000:training-job/job"
    )
    assert shown["TrainingJobStatus"] == "InProgress"
    assert shown["OutputDataConfig"] == {
        "KmsKeyId": "",
        "CompressionType": "GZIP",
        "S3OutputPath": "s3://bucket/out/",
    }
    assert shown["ModelArtifacts"] == {"S3ModelArtifacts": "s3://bucket/out/job/output/model.tar.gz"}
    assert shown["HyperParameters"] == {"a": "1"}
    assert shown["CreationTime"] == NOW


def test_times_are_whole_seconds_and_at_least_one(call: Call, store: Database) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request())
    started = to_text(NOW)
    ended = to_text(NOW + timedelta(milliseconds=200))
    set_state(store, "job", "Completed", training_started_at=started, training_ended_at=ended)
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")
    assert shown["TrainingTimeInSeconds"] == shown["BillableTimeInSeconds"] == 1


def test_a_name_is_taken_once(call: Call) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request())
    with pytest.raises(ApiFault, match="ResourceInUse"):
        call(SAGEMAKER, "CreateTrainingJob", **request())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"RoleArn": "arn:aws:iam::000000000000:role/other/SageMakerRole"}, "Could not assume role"),
        ({"InputDataConfig": [channel(), channel()]}, "two channels named 'training'"),
        ({"InputDataConfig": [channel("..")]}, "cannot be a channel name"),
        ({"InputDataConfig": [channel(uri="https://bucket/data")]}, "is not an S3 URI"),
        ({"InputDataConfig": [channel(uri="s3://bucket/data/b")]}, "No S3 objects found under S3 URL"),
        ({"InputDataConfig": [{**channel(S3DataType="ManifestFile"), "InputMode": "FastFile"}]}, "S3Prefix only"),
        ({"InputDataConfig": [channel(S3DataType="AugmentedManifestFile")]}, "needs Pipe input mode"),
        (
            {"InputDataConfig": [{**channel(S3DataType="AugmentedManifestFile"), "InputMode": "Pipe"}]},
            "no AttributeNames",
        ),
        ({"InputDataConfig": [channel(AttributeNames=["a"])]}, "needs S3DataType AugmentedManifestFile"),
        (
            {"InputDataConfig": [{**channel(), "InputMode": "Pipe"}, channel("training_1")]},
            "has the name of a pipe of channel 'training'",
        ),
        ({"InputDataConfig": [{**channel(), "CompressionType": "Gzip"}]}, "needs Pipe input mode"),
        ({"InputDataConfig": [{"ChannelName": "x", "DataSource": {"FileSystemDataSource": {}}}]}, "Put the data into"),
        ({"CheckpointConfig": {"S3Uri": "s3://none/c"}}, "The bucket of CheckpointConfig.S3Uri 's3://none/c' does"),
        (
            {"CheckpointConfig": {"S3Uri": "s3://bucket/c", "LocalPath": "/opt/ml/input/x"}},
            "not the program's own",
        ),
        ({"CheckpointConfig": {"S3Uri": "s3://bucket/c", "LocalPath": "/opt/ml/"}}, "'/opt/ml/' holds more than that"),
        ({"TensorBoardOutputConfig": {"S3OutputPath": "s3://none/t"}}, "TensorBoardOutputConfig.S3OutputPath"),
        ({"EnableManagedSpotTraining": True}, "needs StoppingCondition.MaxWaitTimeInSeconds"),
        ({"OutputDataConfig": {"S3OutputPath": "s3://none/x"}}, "aws s3 mb s3://none"),
        ({"ResourceConfig": {"InstanceType": "ml.m5.large", "InstanceCount": 0}}, "at least 1"),
        ({"AlgorithmSpecification": {"AlgorithmName": "x", "TrainingInputMode": "File"}}, "no algorithm resource"),
        ({"AlgorithmSpecification": metric("loss=(")}, "cannot be read"),
        ({"AlgorithmSpecification": metric("loss=[0-9]+")}, "has no group"),
        ({"Tags": [{"Key": "aws:x", "Value": ""}]}, "reserved"),
        ({"Tags": [{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]}, "Duplicate tag key"),
        ({"HyperParameters": {f"k{i}": "x" * 2500 for i in range(110)}}, "at most 262144"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_change(call: Call, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateTrainingJob", **request(**changes))
    assert words in caught.value.message
    with pytest.raises(ApiFault, match="Requested resource not found"):
        call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")


def test_manifests_shares_and_fast_files_are_taken(call: Call) -> None:
    listed = channel("a", S3DataType="ManifestFile", S3DataDistributionType="ShardedByS3Key")
    fast = {**channel("b"), "InputMode": "FastFile", "ShuffleConfig": {"Seed": 1}}
    call(SAGEMAKER, "CreateTrainingJob", **request(InputDataConfig=[listed, fast]))
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")
    assert [each["ChannelName"] for each in shown["InputDataConfig"]] == ["a", "b"]


def test_without_compression_the_model_is_a_prefix(call: Call) -> None:
    call(
        SAGEMAKER,
        "CreateTrainingJob",
        **request(OutputDataConfig={"S3OutputPath": "s3://bucket/o/", "CompressionType": "NONE"}),
    )
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")
    assert shown["ModelArtifacts"]["S3ModelArtifacts"] == "s3://bucket/o/job/output/model"


def test_a_folder_image_is_frozen_into_the_job(call: Call, store: Database) -> None:
    from sagewright.store.kinds import image

    folder = {"name": "mine", "digest": "sha256:1", "path": "/x", "entrypoint": ["python"], "requirements": ""}
    row = image.key("000000000000", "us-east-1", "mine")
    store.write(lambda tx: tx.insert(row, folder, {}, "", now=NOW, wake=False))
    for number, name in enumerate(("mine", "mine:latest", "000000000000.dkr.ecr.us-east-1.amazonaws.com/mine:latest")):
        algorithm = {"TrainingImage": name, "TrainingInputMode": "File"}
        call(SAGEMAKER, "CreateTrainingJob", **request(f"job{number}", AlgorithmSpecification=algorithm))
        key = kind.key("000000000000", "us-east-1", f"job{number}")
        assert store.read(lambda tx, key=key: tx.get(key)).spec["image"] == {"name": name, "folder": folder}


@pytest.mark.parametrize(
    ("image", "digest"),
    [
        ({"name": "x", "folder": {"digest": "sha256:1"}}, "sha256:1"),
        ({"name": "x", "folder": None, "own": "x@sha256:2"}, "sha256:2"),
        ({"name": "x", "folder": None}, "sha256:3"),
    ],
)
def test_the_first_step_says_the_images_digest(call: Call, store: Database, image: dict[str, Any], digest: str) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request())
    key = kind.key("000000000000", "us-east-1", "job")
    store.write(lambda tx: tx.update_spec(row := tx.get(key), {**row.spec, "image": image}, now=NOW))
    steps = [
        {"Status": "Starting", "StartTime": to_text(NOW), "StatusMessage": "Starting the training job"},
        {"Status": "Downloading", "StartTime": to_text(NOW), "StatusMessage": "Downloading input data"},
    ]
    set_state(store, "job", "InProgress", transitions=steps, image_digest="sha256:3")
    shown = call(SAGEMAKER, "DescribeTrainingJob", TrainingJobName="job")["SecondaryStatusTransitions"]
    assert [each["StatusMessage"] for each in shown] == [
        f"Starting the training job - image {digest}",
        "Downloading input data",
    ]


def test_stopping_is_a_wish_that_can_be_repeated(call: Call, store: Database) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request())
    call(SAGEMAKER, "StopTrainingJob", second=1, TrainingJobName="job")
    call(SAGEMAKER, "StopTrainingJob", second=2, TrainingJobName="job")
    key = kind.key("000000000000", "us-east-1", "job")
    assert store.read(lambda tx: tx.get(key)).spec["stop_requested_at"] == to_text(NOW + timedelta(seconds=1))
    set_state(store, "job", "Stopped")
    with pytest.raises(ApiFault, match="is in status Stopped"):
        call(SAGEMAKER, "StopTrainingJob", TrainingJobName="job")


def test_only_an_ended_job_can_be_deleted(call: Call, store: Database) -> None:
    call(SAGEMAKER, "CreateTrainingJob", **request(Tags=[{"Key": "a", "Value": "1"}]))
    with pytest.raises(ApiFault, match="ResourceInUse"):
        call(SAGEMAKER, "DeleteTrainingJob", TrainingJobName="job")
    set_state(store, "job", "Failed")
    call(SAGEMAKER, "DeleteTrainingJob", TrainingJobName="job")
    for name in ("DescribeTrainingJob", "StopTrainingJob", "DeleteTrainingJob"):
        with pytest.raises(ApiFault, match="Requested resource not found"):
            call(SAGEMAKER, name, TrainingJobName="job")


def names(call: Call, **filters: Any) -> list[str]:
    """Every name of a list, over as many pages as it has."""
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = call(SAGEMAKER, "ListTrainingJobs", **filters, **token)
        found += [summary["TrainingJobName"] for summary in page["TrainingJobSummaries"]]
        if page["NextToken"] is None:
            return found
        token = {"NextToken": page["NextToken"]}


@pytest.fixture
def five(call: Call, store: Database) -> None:
    for second, name in enumerate(("c-one", "a-two", "e-one", "b-two", "d-one")):
        call(SAGEMAKER, "CreateTrainingJob", second=second, **request(name))
    set_state(store, "a-two", "Failed", at=NOW + timedelta(seconds=20))
    set_state(store, "e-one", "Completed", at=NOW + timedelta(seconds=10))


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["c-one", "a-two", "e-one", "b-two", "d-one"]),
        ({"SortOrder": "Descending"}, ["d-one", "b-two", "e-one", "a-two", "c-one"]),
        ({"SortBy": "Name"}, ["a-two", "b-two", "c-one", "d-one", "e-one"]),
        ({"SortBy": "Status"}, ["e-one", "a-two", "b-two", "c-one", "d-one"]),
        ({"NameContains": "one", "SortBy": "Name"}, ["c-one", "d-one", "e-one"]),
        ({"NameContains": "%"}, []),
        ({"StatusEquals": "InProgress"}, ["c-one", "b-two", "d-one"]),
        ({"CreationTimeAfter": NOW + timedelta(seconds=2)}, ["b-two", "d-one"]),
        ({"CreationTimeBefore": NOW + timedelta(seconds=2)}, ["c-one", "a-two"]),
        ({"LastModifiedTimeAfter": NOW + timedelta(seconds=10)}, ["a-two"]),
        ({"LastModifiedTimeBefore": NOW + timedelta(seconds=4)}, ["c-one", "b-two"]),
        ({"WarmPoolStatusEquals": "Available"}, []),
    ],
)
@pytest.mark.parametrize("size", [1, 2, 100])
def test_lists_filter_sort_and_page(call: Call, filters: dict[str, Any], expected: list[str], size: int) -> None:
    found = names(call, MaxResults=size, **filters)
    assert sorted(found) == sorted(expected)
    if filters.get("SortBy") != "Status":
        assert found == expected
    else:
        assert found[:2] == ["e-one", "a-two"]


@pytest.mark.usefixtures("five")
def test_a_token_belongs_to_its_filters(call: Call) -> None:
    token = call(SAGEMAKER, "ListTrainingJobs", MaxResults=1)["NextToken"]
    for request_ in ({"StatusEquals": "Failed", "NextToken": token}, {"NextToken": "nonsense"}):
        with pytest.raises(ApiFault, match="ValidationException"):
            call(SAGEMAKER, "ListTrainingJobs", **request_)


def test_tags_are_added_listed_in_pages_and_removed(call: Call) -> None:
    arn = call(SAGEMAKER, "CreateTrainingJob", **request(Tags=[{"Key": "a", "Value": "1"}]))["TrainingJobArn"]
    call(SAGEMAKER, "AddTags", ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "3"}])
    first = call(SAGEMAKER, "ListTags", ResourceArn=arn, MaxResults=1)
    rest = call(SAGEMAKER, "ListTags", ResourceArn=arn, NextToken=first["NextToken"])
    assert [*first["Tags"], *rest["Tags"]] == [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}]
    assert rest["NextToken"] is None
    with pytest.raises(ApiFault, match="at most 50"):
        call(SAGEMAKER, "AddTags", ResourceArn=arn, Tags=[{"Key": f"k{i}", "Value": ""} for i in range(50)])
    call(SAGEMAKER, "DeleteTags", ResourceArn=arn, TagKeys=["a", "b", "none"])
    assert call(SAGEMAKER, "ListTags", ResourceArn=arn)["Tags"] == []


@pytest.mark.parametrize(
    "arn",
    ["arn:aws:sagemaker:us-east-1:000000000000:training-job/none", "arn:aws:s3:us-east-1:000000000000:training-job/x"],
)
def test_tags_need_a_resource(call: Call, arn: str) -> None:
    with pytest.raises(ApiFault, match="Could not find resource"):
        call(SAGEMAKER, "ListTags", ResourceArn=arn)


def test_a_row_that_nobody_decoded_is_never_needed(call: Callable[..., Any], store: Database) -> None:
    """The spec is plain JSON: what was stored is what the controller reads in its own process."""
    call(SAGEMAKER, "CreateTrainingJob", **request(InputDataConfig=[channel()]))
    key = kind.key("000000000000", "us-east-1", "job")
    row = store.read(lambda tx: tx.get(key))
    assert kind.TrainingSpec.from_row(row.spec).request["InputDataConfig"] == [channel()]
    assert kind.TrainingStatus.from_row(row.status).secondary == "Starting"
    assert row.wake_at is not None
