"""A full disk fails what needs the space, says so, and loses nothing that was accepted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from e2e.test_crash import create
from support.server import Server, wait_for_job

MEGABYTE = 2**20


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[Server]:
    """A server whose data directory is a disk of 96 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk here: {mounted.stderr.strip()}")
    made = Server(disk / "data")
    made.start()
    yield made
    made.stop()
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_uploads_are_refused_and_what_was_stored_stays(small_server: Server) -> None:
    s3 = small_server.client("s3")
    s3.create_bucket(Bucket="bucket")
    stored: list[int] = []

    def fill() -> None:
        for number in range(20):
            s3.put_object(Bucket="bucket", Key=f"part-{number}", Body=bytes([number]) * (10 * MEGABYTE))
            stored.append(number)

    with pytest.raises(ClientError) as caught:
        fill()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    assert "space" in caught.value.response["Error"]["Message"]
    assert [item["Key"] for item in s3.list_objects_v2(Bucket="bucket")["Contents"]] == [f"part-{n}" for n in stored]
    for number in stored:
        body = s3.get_object(Bucket="bucket", Key=f"part-{number}")["Body"].read()
        assert body == bytes([number]) * (10 * MEGABYTE)
    s3.delete_object(Bucket="bucket", Key="part-0")
    s3.put_object(Bucket="bucket", Key="again", Body=b"x" * (5 * MEGABYTE))


@pytest.mark.process
def test_a_job_whose_model_does_not_fit_fails_with_that_reason(
    small_server: Server, folder_image: Callable[[Server], str]
) -> None:
    create(small_server, "too-big", folder_image(small_server), behaviour="big", megabytes="60")
    job = wait_for_job(small_server.client("sagemaker"), "too-big")
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: Artifact upload failed")
    assert "space" in job["FailureReason"]
    create(small_server, "fits", folder_image(small_server), behaviour="big", megabytes="5")
    assert wait_for_job(small_server.client("sagemaker"), "fits")["TrainingJobStatus"] == "Completed"
