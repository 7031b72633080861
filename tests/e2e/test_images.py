"""The tutorial's shell lines: repository, login, build, tag, push, and a job from an image that only we hold."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from e2e.conftest import sdk_python
from support.registry import OCI_IMAGE, Client, digest, make_repository, password
from support.server import Server, plain_environment, wait_for, wait_for_job

pytestmark = pytest.mark.docker
BASE = "sagewright-test/busybox:1"
ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
DOCKERFILE = f"""FROM {BASE}
COPY run.sh /opt/run.sh
RUN chmod +x /opt/run.sh
ENTRYPOINT ["/opt/run.sh"]
"""
RUN = "#!/bin/sh\necho word is $1 {mark}\nmkdir -p /opt/ml/model && echo {mark} > /opt/ml/model/mark\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    if subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode:
        pytest.skip(f"no Docker engine with {BASE} (scripts/engine, scripts/images)")
    made = Server(tmp_path_factory.mktemp("images"))
    made.start()
    yield made
    made.stop()
    remove_images(made)


def remove_images(server: Server) -> None:
    """From the engine: those that it pulled from the server, which has gone."""
    listed = sh("docker images --digests --format '{{.Repository}}@{{.Digest}} {{.Repository}}:{{.Tag}}'", {})
    host = server.url.removeprefix("http://")
    ours = {each for line in listed.splitlines() if line.startswith(host) for each in line.split()}
    subprocess.run(["docker", "rmi", "-f", *ours], capture_output=True)


@pytest.fixture
def shell(server: Server, tmp_path: Path) -> dict[str, str]:
    """The environment of a user's shell: our keys, the AWS command, a Docker configuration of its own."""
    bin_folder = sdk_python("awscli").parent
    path = f"{bin_folder}:{os.environ['PATH']}"
    return {**server.env("--no-proxy"), "PATH": path, "DOCKER_CONFIG": str(tmp_path / "docker"), "DOCKER_BUILDKIT": "0"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "Dockerfile").write_text(DOCKERFILE)
    (folder / "run.sh").write_text(RUN.format(mark=tmp_path.name))
    return folder


def sh(script: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        capture_output=True,
        text=True,
        timeout=120,
        env={**plain_environment(), **env},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train(server: Server, image: str, name: str) -> Any:
    s3, sagemaker = server.client("s3"), server.client("sagemaker")
    s3.create_bucket(Bucket=f"{name}-out")
    sagemaker.create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        RoleArn=ROLE,
        OutputDataConfig={"S3OutputPath": f"s3://{name}-out/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    return wait_for_job(sagemaker, name)


def test_the_tutorials_lines_and_a_job_from_an_image_that_only_we_hold(
    server: Server, shell: dict[str, str], project: Path
) -> None:
    sh(
        f"""
        aws ecr describe-repositories --repository-names tutorial/image 2>/dev/null \
          || aws ecr create-repository --repository-name tutorial/image
        uri=$(aws ecr describe-repositories --repository-names tutorial/image \
          --query 'repositories[0].repositoryUri' --output text)
        aws ecr get-login-password | docker login --username AWS --password-stdin "${{uri%%/*}}"
        docker build -t "$uri:v1" {project}
        docker push "$uri:v1"
        docker rmi -f "$uri:v1"
        """,
        shell,
    )
    ecr = server.client("ecr")
    pushed = ecr.describe_images(repositoryName="tutorial/image")["imageDetails"]
    assert [each["imageTags"] for each in pushed] == [["v1"]]
    literal = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/tutorial/image:v1"
    ended = train(server, literal, "only-here")
    assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")
    assert ended["AlgorithmSpecification"]["TrainingImage"] == literal
    assert ended["SecondaryStatusTransitions"][0]["StatusMessage"].endswith(f" - image {pushed[0]['imageDigest']}")
    used = f"{server.url.removeprefix('http://')}/tutorial/image@{pushed[0]['imageDigest']}"
    assert sh(f"docker image inspect {used} --format x", shell) == "x\n"


def test_the_old_login_form(server: Server, shell: dict[str, str]) -> None:
    """AWS CLI v1 has `get-login`; it prints the docker command."""
    line = sh("aws ecr get-login --no-include-email", shell)
    assert line.startswith("docker login -u AWS -p ")
    assert "Login Succeeded" in sh(line, shell)
    assert server.url.removeprefix("http://") in (Path(shell["DOCKER_CONFIG"]) / "config.json").read_text()


def test_build_and_push_by_our_own_command(server: Server, project: Path) -> None:
    (project / "secret.txt").write_text("not for the image")
    (project / ".dockerignore").write_text("*.txt\n")
    name = f"sagewright-test/own-{os.getpid()}:2"
    try:
        built = server.run("build", str(project), "-t", name)
        assert "Step 1/4" in built.stdout
        pushed = server.run("push", name)
        assert "Made the repository" in pushed.stdout
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True)
    repository = name.partition(":")[0]
    found = server.client("ecr").describe_images(repositoryName=repository, imageIds=[{"imageTag": "2"}])
    assert found["imageDetails"][0]["imageDigest"] in pushed.stdout
    ended = train(server, f"{server.url.removeprefix('http://')}/{repository}:2", "own-command")
    assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")


def test_a_build_that_fails_says_the_engines_words(server: Server, project: Path) -> None:
    (project / "Dockerfile").write_text(f"FROM {BASE}\nRUN exit 3\n")
    done = server.run("build", str(project), "-t", "sagewright-test/never:1", check=False)
    assert done.returncode == 1
    assert "returned a non-zero code: 3" in done.stderr
    assert "There is no image" in server.run("push", "sagewright-test/never:1", check=False).stderr
    repositories = server.client("ecr").describe_repositories()["repositories"]
    assert "sagewright-test/never" not in [each["repositoryName"] for each in repositories]


def test_a_closed_algorithm_is_refused_at_once_unless_the_table_names_another(server: Server) -> None:
    closed = "174872318107.dkr.ecr.us-west-2.amazonaws.com/kmeans:1"
    with pytest.raises(ClientError) as refused:
        train(server, closed, "closed-one")
    assert refused.value.response["Error"]["Code"] == "ValidationException"
    assert "AWS's own algorithm kmeans" in refused.value.response["Error"]["Message"]
    server.client("s3").delete_bucket(Bucket="closed-one-out")
    (server.data / "images.json").write_text(json.dumps({"kmeans:*": BASE}))
    ended = train(server, closed, "closed-one")
    assert ended["TrainingJobStatus"] == "Failed"  # busybox has no program for it: but it was started
    assert "kmeans" not in ended["FailureReason"].partition("\n")[0]


def test_login_tokens_open_the_registry_and_nothing_else_does(server: Server) -> None:
    data = server.client("ecr").get_authorization_token()["authorizationData"][0]
    assert data["proxyEndpoint"] == server.url
    user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
    assert (user, bool(password)) == ("AWS", True)


def test_an_endpoint_shows_the_digest_that_its_image_was_pinned_to(server: Server, project: Path) -> None:
    (project / "run.sh").write_text(
        "#!/bin/sh\ntrap 'exit 0' TERM\n"  # the first process of a container is waited for 30 s otherwise
        "mkdir -p /tmp/www && echo ok > /tmp/www/ping\nhttpd -f -p 8080 -h /tmp/www &\nwait\n"
    )
    name = f"sagewright-test/serving-{os.getpid()}:1"
    try:
        server.run("build", str(project), "-t", name)
        server.run("push", name)
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True)
    repository = name.partition(":")[0]
    literal = f"000000000000.dkr.ecr.us-east-1.amazonaws.com/{repository}:1"
    sagemaker = server.client("sagemaker")
    sagemaker.create_model(ModelName="pinned", PrimaryContainer={"Image": literal}, ExecutionRoleArn=ROLE)
    variant = {
        "VariantName": "v",
        "ModelName": "pinned",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="pinned", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="pinned", EndpointConfigName="pinned")

    def settled() -> Any:
        found = sagemaker.describe_endpoint(EndpointName="pinned")
        return found if found["EndpointStatus"] != "Creating" else None

    found = wait_for(settled, "the endpoint is made or failed")
    assert found["EndpointStatus"] == "InService", found.get("FailureReason")
    digest = server.client("ecr").describe_images(repositoryName=repository)["imageDetails"][0]["imageDigest"]
    image = found["ProductionVariants"][0]["DeployedImages"][0]
    assert image["SpecifiedImage"] == literal
    assert image["ResolvedImage"].endswith(digest)
    sagemaker.delete_endpoint(EndpointName="pinned")
    wait_for(lambda: not sagemaker.list_endpoints()["Endpoints"], "the endpoint is gone")


def test_an_image_for_other_processors_is_refused_before_it_starts(server: Server) -> None:
    make_repository(server.data, "foreign")
    registry = Client(server.url, password(server.data), "foreign")
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w"):
        pass
    layer, kind = gzip.compress(plain.getvalue()), "application/vnd.oci.image"
    rootfs = {"type": "layers", "diff_ids": [digest(plain.getvalue())]}
    config = json.dumps({"architecture": "s390x", "os": "linux", "config": {"Cmd": ["x"]}, "rootfs": rootfs}).encode()
    parts = [
        {"mediaType": f"{kind}.{what}", "digest": registry.push_blob(data), "size": len(data)}
        for what, data in (("config.v1+json", config), ("layer.v1.tar+gzip", layer))
    ]
    document = {"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": parts[0], "layers": parts[1:]}
    assert registry.push_manifest(document, "v1").status_code == 201
    ended = train(server, "000000000000.dkr.ecr.us-east-1.amazonaws.com/foreign:v1", "foreign")
    assert ended["TrainingJobStatus"] == "Failed"
    assert "is for s390x processors" in ended["FailureReason"]
    assert "docker build --platform linux/" in ended["FailureReason"]
    assert "Training" not in [each["Status"] for each in ended["SecondaryStatusTransitions"]]


def test_a_name_is_first_ours_then_the_engines_then_pulled(server: Server, tmp_path: Path) -> None:
    name = "111122223333.dkr.ecr.eu-west-1.amazonaws.com/order:v1"

    def build(mark: str, tag: str) -> None:
        (tmp_path / "Dockerfile").write_text(DOCKERFILE)
        (tmp_path / "run.sh").write_text(RUN.format(mark=mark))
        server.run("build", str(tmp_path), "-t", tag)

    def mark_of(job: str) -> str:
        ended = train(server, name, job)
        assert ended["TrainingJobStatus"] == "Completed", ended.get("FailureReason")
        archive = server.client("s3").get_object(Bucket=f"{job}-out", Key=f"{job}/output/model.tar.gz")["Body"].read()
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            found = tar.extractfile("mark")
            assert found is not None
            return found.read().decode().strip()

    try:
        build("ours", name)
        server.run("push", name)
        build("the-engines", name)
        assert mark_of("order-ours") == "ours"
        server.client("ecr").delete_repository(repositoryName="order", force=True)
        assert mark_of("order-engines") == "the-engines"
    finally:
        subprocess.run(["docker", "rmi", "-f", name], capture_output=True)
    ended = train(server, name, "order-pulled")
    assert ended["TrainingJobStatus"] == "Failed"
    host = name.partition("/")[0]
    assert f"is not in the local engine, and pulling it from {host} failed" in ended["FailureReason"]
