"""Model operations over a real store: what is accepted, what is shown, what is refused."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from sagewright.services.sagemaker.service import service
from sagewright.store.db import Database
from sagewright.store.kinds import image as folder_images
from sagewright.store.kinds import model as kind
from sagewright.store.kinds import role as roles
from sagewright.wire.faults import ApiFault
from support.hosting import ARTIFACT, ROLE, add_artifact, model
from unit.services.conftest import NOW, Call

SAGEMAKER = service(b"secret")
ARN = "arn:aws:sagemaker:us-east-1:000000000000:model/model"


@pytest.fixture(autouse=True)
def bucket(store: Database) -> None:
    add_artifact(store, NOW, "files/a.bin", "files/b/c.bin")


def source(uri: str, kind_: str = "S3Object", compression: str = "None", **more: Any) -> dict[str, Any]:
    return {"S3DataSource": {"S3Uri": uri, "S3DataType": kind_, "CompressionType": compression, **more}}


def pipeline(*names: str | None, mode: str = "Serial") -> dict[str, Any]:
    containers = [{"Image": "i", **({"ContainerHostname": name} if name else {})} for name in names]
    return {"PrimaryContainer": None, "Containers": containers, "InferenceExecutionConfig": {"Mode": mode}}


def test_what_was_asked_is_shown(call: Call) -> None:
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    image_config = {"RepositoryAccessMode": "Platform"}
    container = {"Image": "i", "ModelDataUrl": ARTIFACT, "ImageConfig": image_config}
    asked = model(PrimaryContainer=container, VpcConfig=vpc, EnableNetworkIsolation=True)
    assert call(SAGEMAKER, "CreateModel", **asked) == {"ModelArn": ARN}
    assert call(SAGEMAKER, "DescribeModel", ModelName="model") == {
        "ModelName": "model",
        "ModelArn": ARN,
        "CreationTime": NOW,
        "ExecutionRoleArn": ROLE,
        "PrimaryContainer": {**container, "Mode": "SingleModel", "Environment": {}},
        "VpcConfig": vpc,
        "EnableNetworkIsolation": True,
    }


def test_what_is_shown_can_be_created_again(call: Call) -> None:
    call(SAGEMAKER, "CreateModel", **model(**pipeline("one", "two", mode="Direct")))
    shown = dict(call(SAGEMAKER, "DescribeModel", ModelName="model"))
    for member in ("ModelArn", "CreationTime"):
        del shown[member]
    call(SAGEMAKER, "CreateModel", **{**shown, "ModelName": "again"})
    again = call(SAGEMAKER, "DescribeModel", ModelName="again")
    assert {**shown, "ModelName": "again"}.items() <= again.items()


def test_a_name_is_taken_once(call: Call) -> None:
    call(SAGEMAKER, "CreateModel", **model())
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateModel", **model())
    assert caught.value.message == f'Cannot create already existing model "{ARN}".'


def test_a_deleted_model_is_gone_at_once_with_its_tags(call: Call) -> None:
    call(SAGEMAKER, "CreateModel", **model(Tags=[{"Key": "a", "Value": "1"}]))
    call(SAGEMAKER, "DeleteModel", ModelName="model")
    for name in ("DescribeModel", "DeleteModel"):
        with pytest.raises(ApiFault) as caught:
            call(SAGEMAKER, name, ModelName="model")
        assert (caught.value.code, caught.value.message) == ("ValidationException", f'Could not find model "{ARN}".')
    call(SAGEMAKER, "CreateModel", **model())
    assert call(SAGEMAKER, "ListTags", ResourceArn=ARN)["Tags"] == []


@pytest.mark.parametrize(
    "container",
    [
        {"Image": "i"},
        {"Image": "i", "ModelDataUrl": ARTIFACT},
        {"Image": "i", "ModelDataSource": source(ARTIFACT, compression="Gzip")},
        {"Image": "i", "ModelDataSource": source("s3://bucket/files/a.bin", ETag='"e1"')},
        {"Image": "i", "ModelDataSource": source("s3://bucket/files/", "S3Prefix")},
        {"Image": "i", "ModelDataSource": source(ARTIFACT, ModelAccessConfig={"AcceptEula": True})},
        {"Image": "i", "ContainerHostname": "ignored", "Mode": "SingleModel"},
    ],
)
def test_every_form_of_a_model_is_accepted(call: Call, container: dict[str, Any]) -> None:
    call(SAGEMAKER, "CreateModel", **model(PrimaryContainer=container))
    shown = call(SAGEMAKER, "DescribeModel", ModelName="model")["PrimaryContainer"]
    assert container.items() <= shown.items()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PrimaryContainer": None}, "Give PrimaryContainer"),
        ({"PrimaryContainer": None, "Containers": []}, "Give PrimaryContainer"),
        ({"Containers": [{"Image": "i"}]}, "either PrimaryContainer or Containers"),
        ({"PrimaryContainer": {"ModelDataUrl": ARTIFACT}}, "no Image"),
        ({"PrimaryContainer": {}}, "no Image"),
        ({"PrimaryContainer": {"ModelPackageName": "p"}}, "ModelPackageName is not supported"),
        ({"PrimaryContainer": {"Image": "i", "Mode": "MultiModel"}}, "MultiModel is not supported"),
        (
            {"PrimaryContainer": {"Image": "i", "MultiModelConfig": {"ModelCacheSetting": "Enabled"}}},
            "MultiModelConfig is not supported",
        ),
        ({"PrimaryContainer": {"Image": "i", "AdditionalModelDataSources": [{}]}}, "into the model's own archive"),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataUrl": ARTIFACT, "ModelDataSource": source(ARTIFACT)}},
            "both ModelDataUrl and ModelDataSource",
        ),
        ({"PrimaryContainer": {"Image": "i", "ModelDataSource": {}}}, "ModelDataSource is empty"),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataUrl": "s3://bucket/none"}},
            "Could not find model data at s3://bucket/none",
        ),
        ({"PrimaryContainer": {"Image": "i", "ModelDataUrl": "s3://other/x"}}, "no bucket named 'other'"),
        ({"PrimaryContainer": {"Image": "i", "ModelDataUrl": "https://bucket/x"}}, "is not an S3 URI"),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataSource": source("s3://bucket/files", "S3Prefix")}},
            "ends in '/': write s3://bucket/files/",
        ),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataSource": source("s3://bucket/none/", "S3Prefix")}},
            "No object's key starts with 'none/'",
        ),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataSource": source("s3://bucket/files/", "S3Prefix", "Gzip")}},
            "CompressionType None",
        ),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataSource": source(ARTIFACT, ManifestS3Uri="s3://bucket/m")}},
            "ManifestS3Uri is not supported",
        ),
        (
            {"PrimaryContainer": {"Image": "i", "ModelDataSource": source(ARTIFACT, ETag="e0")}},
            "has the ETag e1 now, not e0",
        ),
        ({"PrimaryContainer": {"Image": "i", "Environment": {"A": "x" * (32 * 1024)}}}, "at most 32768"),
        ({"PrimaryContainer": {"Image": "i", "Environment": {"A=B": "x"}}}, "'A=B'"),
        ({"PrimaryContainer": {"Image": "i", "Environment": {"A": "a\0b"}}}, "'A'"),
        ({"ExecutionRoleArn": "arn:aws:iam::000000000000:role/none"}, "Could not assume role"),
        (pipeline("one", None), "to every container of the pipeline, or to none"),
        (pipeline("one", "One"), "the same ContainerHostname"),
        (pipeline("one", None, mode="Direct"), "every container needs a ContainerHostname"),
        ({"InferenceExecutionConfig": {"Mode": "Direct"}}, "Direct needs Containers"),
        ({"Tags": [{"Key": "a", "Value": ""}, {"Key": "a", "Value": ""}]}, "Duplicate tag key"),
    ],
)
def test_what_cannot_work_is_refused_with_what_to_change(call: Call, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ApiFault, match="ValidationException") as caught:
        call(SAGEMAKER, "CreateModel", **model(**changes))
    assert words in caught.value.message
    with pytest.raises(ApiFault, match="Could not find model"):
        call(SAGEMAKER, "DescribeModel", ModelName="model")


def test_a_role_that_does_not_trust_sagemaker_is_refused(call: Call, store: Database) -> None:
    row = {**roles.default_spec(), "trust": {"Statement": []}}
    store.write(lambda tx: tx.insert(roles.key("000000000000", "other"), row, {}, "", now=NOW, wake=False))
    with pytest.raises(ApiFault, match="its trust policy does not allow that"):
        call(SAGEMAKER, "CreateModel", **model(ExecutionRoleArn="arn:aws:iam::000000000000:role/other"))


def test_what_an_image_means_is_decided_once(call: Call, store: Database) -> None:
    folder = {"name": "mine", "digest": "sha256:1", "path": "/x", "entrypoint": ["python"], "requirements": ""}
    row = folder_images.key("000000000000", "us-east-1", "mine")
    store.write(lambda tx: tx.insert(row, folder, {}, "", now=NOW, wake=False))
    containers = [{"Image": "mine:latest"}, {"Image": "other"}]
    call(SAGEMAKER, "CreateModel", **model(PrimaryContainer=None, Containers=containers))
    key = kind.key("000000000000", "us-east-1", "model")
    kept = kind.ModelSpec.from_row(store.read(lambda tx: tx.get(key)).spec)
    assert kept.images == ({"name": "mine:latest", "folder": folder}, {"name": "other", "folder": None})
    assert "Tags" not in kept.request


def names(call: Call, **filters: Any) -> list[str]:
    found: list[str] = []
    token: dict[str, str] = {}
    while True:
        page = call(SAGEMAKER, "ListModels", **filters, **token)
        found += [summary["ModelName"] for summary in page["Models"]]
        if page["NextToken"] is None:
            return found
        token = {"NextToken": page["NextToken"]}


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, ["b-two", "e-one", "a-two", "c-one"]),
        ({"SortOrder": "Ascending"}, ["c-one", "a-two", "e-one", "b-two"]),
        ({"SortBy": "Name"}, ["e-one", "c-one", "b-two", "a-two"]),
        ({"NameContains": "one"}, ["e-one", "c-one"]),
        ({"CreationTimeAfter": NOW + timedelta(seconds=2)}, ["b-two", "e-one"]),
        ({"CreationTimeBefore": NOW + timedelta(seconds=2)}, ["a-two", "c-one"]),
    ],
)
def test_lists_filter_sort_and_page(call: Call, filters: dict[str, Any], expected: list[str], size: int) -> None:
    for second, name in enumerate(("c-one", "a-two", "e-one", "b-two")):
        call(SAGEMAKER, "CreateModel", second=second, **model(name))
    assert names(call, MaxResults=size, **filters) == expected


def test_a_token_belongs_to_its_operation(call: Call) -> None:
    for name in ("a", "b"):
        call(SAGEMAKER, "CreateModel", **model(name))
    token = call(SAGEMAKER, "ListModels", MaxResults=1)["NextToken"]
    assert len(call(SAGEMAKER, "ListModels", MaxResults=5, NextToken=token)["Models"]) == 1
    for operation in ("ListEndpointConfigs", "ListEndpoints", "ListTrainingJobs"):
        with pytest.raises(ApiFault, match="Invalid NextToken"):
            call(SAGEMAKER, operation, NextToken=token)
