"""ECR as boto3 sees it, on a real server. Images come by docker's own protocol in tests/e2e/test_images.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from botocore.exceptions import ClientError

from support.server import Server

OCI_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("ecr"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def ecr(server: Server) -> Any:
    return server.client("ecr")


@pytest.fixture
def name(ecr: Any) -> str:
    made = f"team/{uuid4().hex[:10]}"
    ecr.create_repository(repositoryName=made)
    return made


def index(mark: str, *digests: str) -> str:
    """A manifest that needs no layers: an index, empty but for a mark."""
    listed = [{"mediaType": OCI_INDEX, "digest": each, "size": 2} for each in digests]
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": listed, "annotations": {"mark": mark}}
    return json.dumps(document)


def put(ecr: Any, name: str, mark: str, *digests: str, **options: Any) -> str:
    """The digest."""
    image = ecr.put_image(repositoryName=name, imageManifest=index(mark, *digests), **options)["image"]
    return str(image["imageId"]["imageDigest"])


def refusal(call: Any, **request: Any) -> tuple[str, str]:
    with pytest.raises(ClientError) as refused:
        call(**request)
    return refused.value.response["Error"]["Code"], refused.value.response["Error"]["Message"]


def test_a_repository_is_on_our_own_address_and_its_name_is_taken_once(server: Server, ecr: Any, name: str) -> None:
    found = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    assert found["repositoryUri"] == f"{server.url.removeprefix('http://')}/{name}"
    assert found["repositoryArn"] == f"arn:aws:ecr:us-east-1:000000000000:repository/{name}"
    assert found["imageTagMutability"] == "MUTABLE"
    again = refusal(ecr.create_repository, repositoryName=name)
    assert again == (
        "RepositoryAlreadyExistsException",
        f"The repository with name '{name}' already exists in the registry with id '000000000000'",
    )
    assert refusal(ecr.create_repository, repositoryName="Not-Lower/Case")[0] == "InvalidParameterException"


def test_every_operation_on_a_missing_repository_says_so(ecr: Any) -> None:
    text = "The repository with name 'no/such' does not exist in the registry with id '000000000000'"
    for call in (ecr.list_images, ecr.describe_images, ecr.delete_repository, ecr.get_lifecycle_policy):
        assert refusal(call, repositoryName="no/such") == ("RepositoryNotFoundException", text)
    assert refusal(ecr.describe_repositories, repositoryNames=["no/such"])[0] == "RepositoryNotFoundException"


def test_images_by_tag_and_digest(ecr: Any, name: str) -> None:
    first, second = put(ecr, name, "1", imageTag="a"), put(ecr, name, "2")
    assert put(ecr, name, "1", imageTag="b") == first
    assert refusal(ecr.put_image, repositoryName=name, imageManifest=index("1"), imageTag="a")[0] == (
        "ImageAlreadyExistsException"
    )
    ids = ecr.list_images(repositoryName=name)["imageIds"]
    assert sorted((each["imageDigest"], each.get("imageTag")) for each in ids if "imageTag" in each) == [
        (first, "a"),
        (first, "b"),
    ]
    assert {"imageDigest": second} in ids
    untagged = ecr.list_images(repositoryName=name, filter={"tagStatus": "UNTAGGED"})["imageIds"]
    assert untagged == [{"imageDigest": second}]
    got = ecr.batch_get_image(repositoryName=name, imageIds=[{"imageTag": "a"}, {"imageTag": "zz"}])
    assert [each["imageManifest"] for each in got["images"]] == [index("1")]
    assert [each["failureCode"] for each in got["failures"]] == ["ImageNotFound"]
    code, text = refusal(ecr.describe_images, repositoryName=name, imageIds=[{"imageTag": "zz"}])
    assert code == "ImageNotFoundException"
    assert "{imageDigest:'null', imageTag:'zz'}" in text


def test_pages_of_images_and_repositories(ecr: Any, name: str) -> None:
    digests = {put(ecr, name, str(number)) for number in range(5)}
    pages = list(ecr.get_paginator("describe_images").paginate(repositoryName=name, PaginationConfig={"PageSize": 2}))
    assert [len(page["imageDetails"]) for page in pages] == [2, 2, 1]
    assert {each["imageDigest"] for page in pages for each in page["imageDetails"]} == digests
    listed = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 1})
    assert name in [each["repositoryName"] for page in listed for each in page["repositories"]]
    wrong = refusal(ecr.list_images, repositoryName=name, nextToken="made-up")
    assert wrong[0] == "InvalidParameterException"


def test_deleting_a_tag_the_last_tag_and_a_digest(ecr: Any, name: str) -> None:
    digest = put(ecr, name, "1", imageTag="a")
    put(ecr, name, "1", imageTag="b")
    outer = put(ecr, name, "outer", digest)
    assert ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageTag": "a"}])["imageIds"] == [
        {"imageDigest": digest, "imageTag": "a"}
    ]
    held = ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageDigest": digest}])
    assert [each["failureCode"] for each in held["failures"]] == ["ImageReferencedByManifestList"]
    assert refusal(ecr.delete_repository, repositoryName=name)[0] == "RepositoryNotEmptyException"
    ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageDigest": outer}])
    ecr.batch_delete_image(repositoryName=name, imageIds=[{"imageTag": "b"}])
    assert ecr.list_images(repositoryName=name)["imageIds"] == []
    ecr.delete_repository(repositoryName=name)
    assert refusal(ecr.delete_repository, repositoryName=name)[0] == "RepositoryNotFoundException"


def test_immutable_tags_stay_where_they_are(ecr: Any, name: str) -> None:
    put(ecr, name, "1", imageTag="v1")
    ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="IMMUTABLE")
    refused = refusal(ecr.put_image, repositoryName=name, imageManifest=index("2"), imageTag="v1")
    assert refused[0] == "ImageTagAlreadyExistsException"
    assert ecr.list_images(repositoryName=name, filter={"tagStatus": "UNTAGGED"})["imageIds"] == []


def test_what_a_manifest_needs_must_be_there(ecr: Any, name: str) -> None:
    layer = "sha256:" + "1" * 64
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": layer, "size": 2},
        "layers": [],
    }
    refused = refusal(ecr.put_image, repositoryName=name, imageManifest=json.dumps(manifest))
    assert refused[0] == "LayersNotFoundException"
    assert layer in refused[1]
    assert refusal(ecr.put_image, repositoryName=name, imageManifest=index("x", layer))[0] == (
        "ReferencedImagesNotFoundException"
    )
    assert refusal(ecr.put_image, repositoryName=name, imageManifest="{")[0] == "InvalidParameterException"
    found = ecr.batch_check_layer_availability(repositoryName=name, layerDigests=[layer])
    assert [each["layerAvailability"] for each in found["layers"]] == ["UNAVAILABLE"]


def test_policies_are_kept_shown_and_forgotten(ecr: Any, name: str) -> None:
    assert refusal(ecr.get_repository_policy, repositoryName=name)[0] == "RepositoryPolicyNotFoundException"
    text = json.dumps({"Version": "2012-10-17", "Statement": []})
    ecr.set_repository_policy(repositoryName=name, policyText=text)
    assert ecr.get_repository_policy(repositoryName=name)["policyText"] == text
    ecr.delete_repository_policy(repositoryName=name)
    assert refusal(ecr.get_repository_policy, repositoryName=name)[0] == "RepositoryPolicyNotFoundException"
    assert refusal(ecr.get_lifecycle_policy, repositoryName=name) == (
        "LifecyclePolicyNotFoundException",
        f"Lifecycle policy does not exist for the repository with name '{name}' in the registry with id '000000000000'",
    )
    assert refusal(
        ecr.put_lifecycle_policy,
        repositoryName=name,
        lifecyclePolicyText=json.dumps({"rules": [], "padding": "x" * 100}),
    )[0] == ("InvalidParameterException")
    chosen = {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 3}
    rules = json.dumps({"rules": [{"rulePriority": 1, "selection": chosen, "action": {"type": "expire"}}]})
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=rules)
    assert ecr.get_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"] == rules
    assert ecr.delete_lifecycle_policy(repositoryName=name)["lifecyclePolicyText"] == rules
    assert refusal(ecr.get_lifecycle_policy, repositoryName=name)[0] == "LifecyclePolicyNotFoundException"
    assert refusal(ecr.get_registry_policy)[0] == "RegistryPolicyNotFoundException"


def test_tags_scanning_and_registry(ecr: Any, name: str) -> None:
    arn = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryArn"]
    ecr.tag_resource(resourceArn=arn, tags=[{"Key": "team", "Value": "x"}, {"Key": "b", "Value": "y"}])
    ecr.untag_resource(resourceArn=arn, tagKeys=["b"])
    assert ecr.list_tags_for_resource(resourceArn=arn)["tags"] == [{"Key": "team", "Value": "x"}]
    ecr.put_image_scanning_configuration(repositoryName=name, imageScanningConfiguration={"scanOnPush": True})
    found = ecr.describe_repositories(repositoryNames=[name])["repositories"][0]
    assert found["imageScanningConfiguration"] == {"scanOnPush": True}
    assert ecr.describe_registry()["registryId"] == "000000000000"
    assert refusal(ecr.get_download_url_for_layer, repositoryName=name, layerDigest="sha256:" + "0" * 64)[0] == (
        "NotImplemented"
    )


def test_a_lifecycle_policy_is_tried_before_it_is_set(ecr: Any, name: str) -> None:
    assert refusal(ecr.start_lifecycle_policy_preview, repositoryName=name)[0] == "LifecyclePolicyNotFoundException"
    assert refusal(ecr.get_lifecycle_policy_preview, repositoryName=name)[0] == (
        "LifecyclePolicyPreviewNotFoundException"
    )
    kept = put(ecr, name, "kept", imageTag="v1")
    old = sorted(put(ecr, name, f"old {number}") for number in range(3))
    chosen = {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1}
    rules = json.dumps({"rules": [{"rulePriority": 7, "selection": chosen, "action": {"type": "expire"}}]})
    ecr.start_lifecycle_policy_preview(repositoryName=name, lifecyclePolicyText=rules)
    ecr.get_waiter("lifecycle_policy_preview_complete").wait(repositoryName=name)
    seen = ecr.get_lifecycle_policy_preview(repositoryName=name)
    assert seen["summary"]["expiringImageTotalCount"] == 2
    assert {each["appliedRulePriority"] for each in seen["previewResults"]} == {7}
    going = {each["imageDigest"] for each in seen["previewResults"]}
    assert (going < set(old), kept in going) == (True, False)
    pages = ecr.get_paginator("get_lifecycle_policy_preview").paginate(
        repositoryName=name, PaginationConfig={"PageSize": 1}
    )
    assert {each["imageDigest"] for one in pages for each in one["previewResults"]} == going
    one = ecr.get_lifecycle_policy_preview(repositoryName=name, imageIds=[{"imageDigest": sorted(going)[0]}])
    assert [each["imageDigest"] for each in one["previewResults"]] == sorted(going)[:1]
    assert ecr.get_lifecycle_policy_preview(repositoryName=name, filter={"tagStatus": "TAGGED"})["previewResults"] == []
    assert refusal(ecr.get_lifecycle_policy, repositoryName=name)[0] == "LifecyclePolicyNotFoundException"
    assert len(ecr.list_images(repositoryName=name)["imageIds"]) == 4


def test_scans_are_asked_for_and_there_are_none(ecr: Any, name: str) -> None:
    digest = put(ecr, name, "one", imageTag="v1")
    said = refusal(ecr.describe_image_scan_findings, repositoryName=name, imageId={"imageTag": "v1"})
    assert said[0] == "ScanNotFoundException"
    assert digest in said[1]
    assert refusal(ecr.describe_image_scan_findings, repositoryName=name, imageId={"imageTag": "v2"})[0] == (
        "ImageNotFoundException"
    )
    assert refusal(ecr.start_image_scan, repositoryName=name, imageId={"imageTag": "v1"})[0] == "NotImplemented"
    assert ecr.get_registry_scanning_configuration()["scanningConfiguration"]["scanType"] == "BASIC"
    found = ecr.batch_get_repository_scanning_configuration(repositoryNames=[name, "none"])
    assert [each["scanFrequency"] for each in found["scanningConfigurations"]] == ["MANUAL"]
    assert [each["failureCode"] for each in found["failures"]] == ["REPOSITORY_NOT_FOUND"]


def test_what_is_about_an_image(ecr: Any, name: str) -> None:
    subject = put(ecr, name, "subject", imageTag="v1")
    about = {"mediaType": OCI_INDEX, "digest": subject, "size": 2}
    for kind in ("a/signature", "a/sbom"):
        document = json.loads(index(kind)) | {"subject": about, "artifactType": kind}
        ecr.put_image(repositoryName=name, imageManifest=json.dumps(document))
    found = ecr.list_image_referrers(repositoryName=name, subjectId={"imageDigest": subject})["referrers"]
    assert {each["artifactType"]: each["annotations"]["mark"] for each in found} == {
        "a/signature": "a/signature",
        "a/sbom": "a/sbom",
    }
    some = ecr.list_image_referrers(
        repositoryName=name, subjectId={"imageDigest": subject}, filter={"artifactTypes": ["a/sbom"]}
    )
    assert [each["artifactType"] for each in some["referrers"]] == ["a/sbom"]
