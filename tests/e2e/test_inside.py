"""AWS clients of several ages in a container reach us as its role, and everybody else is reached as before."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from e2e.test_jobs import BUCKET, Jobs
from support.server import Server
from support.wheels import image_with

INSIDE = Path(__file__).parent / "inside"
BASE = "sagewright-test/sklearn:1"
PIP = "RUN python3 -m pip install -q --no-index --no-deps --root-user-action=ignore --find-links /wheels"
OLD = f"{PIP} --target /old -r /requirements && rm -rf /wheels"
CODE = "/opt/ml/input/data/code"


@pytest.fixture(scope="session")
def image() -> str:
    """A boto3 of today, and in /old one of 2021 and the AWS CLI of its time."""
    return image_with("sagewright-test/clients", BASE, "old-boto3", "RUN ls /wheels/*.whl > /requirements", OLD)


def run(jobs: Jobs, script: str, **more: object) -> str:
    """The log of a job that runs a shell script with the test's own code as a channel."""
    for path in INSIDE.iterdir():
        jobs.s3.put_object(Bucket=BUCKET, Key=f"code/{path.name}", Body=path.read_bytes())
    algorithm = {
        "TrainingImage": jobs.image,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["/bin/bash", "-ec"],
        "ContainerArguments": [script],
    }
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/code/"}
    code = {"ChannelName": "code", "DataSource": {"S3DataSource": source}}
    name = jobs.create("inside", AlgorithmSpecification=algorithm, InputDataConfig=[code], **more)
    job = jobs.end(name)
    log = jobs.server.run("logs", name).stdout
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason", "") + log
    return log


@pytest.mark.docker
@pytest.mark.parametrize("hosts", [1, 2])
def test_boto3_old_and_new_and_the_cli_use_s3_as_the_role(server: Server, image: str, hosts: int) -> None:
    """On the engine's own network, and on that of a job with several hosts."""
    jobs = Jobs(server, image, f"clients-{hosts}")
    check = f"python3 {CODE}/check_aws.py {BUCKET}"
    config = {"InstanceType": "ml.m5.large", "InstanceCount": hosts, "VolumeSizeInGB": 1}
    log = run(jobs, f"{check} new; PYTHONPATH=/old {check} old", ResourceConfig=config)
    for name in ("new", "old"):
        assert f"{name} is arn:aws:sts::000000000000:assumed-role/SageMakerRole/SageMaker" in log
        assert jobs.s3.head_object(Bucket=BUCKET, Key=f"{name}/body")["ContentLength"] == 9 << 20
    assert "old has boto3 1.17.112" in log
    assert f"old signs https://{BUCKET}.s3.amazonaws.com/old/body" in log, "it has not heard of us"
    assert "9437184 body" in log


@pytest.mark.docker
def test_pip_reaches_its_index_through_the_proxy(server: Server, image: str) -> None:
    try:
        urllib.request.urlopen("https://pypi.org/simple/six/", timeout=20).close()
    except OSError as error:
        pytest.skip(f"this machine does not reach pypi.org itself: {error}")
    install = "python3 -m pip install -q --target /tmp/six six"
    use = "PYTHONPATH=/tmp/six python3 -c 'import six; print(six.__file__)'"
    assert "/tmp/six/six.py" in run(Jobs(server, image, "pip"), f"{install}; {use}")


@pytest.mark.docker
def test_what_the_user_sets_wins(server: Server, image: str) -> None:
    own = {"HTTPS_PROXY": "http://proxy.corp:3128", "AWS_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt"}
    log = run(Jobs(server, image, "wins"), "env; ls -l /opt/sagewright", Environment=own)
    assert "HTTPS_PROXY=http://proxy.corp:3128\n" in log
    assert "AWS_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt\n" in log
    assert "NO_PROXY=" not in log
    assert "REQUESTS_CA_BUNDLE=/opt/sagewright/ca-bundle.pem\n" in log


@pytest.mark.process
def test_a_process_trusts_us_too(server: Server, folder_image: Callable[[Server], str]) -> None:
    log = run(Jobs(server, folder_image(server), "process-inside"), f"python3 {CODE}/check_tls.py")
    assert "answered 403" in log, "by us, and with a certificate that it trusts"
