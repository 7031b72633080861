"""Pipe input mode, for real: a program reads its channels from FIFOs while the server does what servers do."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e.test_jobs import BUCKET, Jobs
from support.server import Server, wait_for

BIG = os.urandom(1 << 20) * 24
BACKENDS = [pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]


def made(request: pytest.FixtureRequest, server: Server) -> Jobs:
    register: Callable[[Server], str] = request.getfixturevalue("folder_image")
    image = register(server) if request.param == "process" else request.getfixturevalue("docker_image")
    if not server.url:
        server.start()
    return Jobs(server, image, f"{request.param}-{request.node.name.split('[')[0][5:].replace('_', '-')}"[:50])


@pytest.fixture(params=BACKENDS)
def jobs(request: pytest.FixtureRequest, server: Server) -> Jobs:
    return made(request, server)


@pytest.fixture(params=BACKENDS)
def own_jobs(request: pytest.FixtureRequest, own_server: Server) -> Jobs:
    """On a server of its own, to be killed."""
    return made(request, own_server)


def channel(
    name: str, uri: str, kind: str = "S3Prefix", attributes: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    source: dict[str, Any] = {"S3DataType": kind, "S3Uri": uri}
    if attributes:
        source["AttributeNames"] = list(attributes)
    return {"ChannelName": name, "InputMode": "Pipe", "DataSource": {"S3DataSource": source}, **more}


def start(jobs: Jobs, *channels: dict[str, Any], **parameters: str) -> str:
    return jobs.create("pipe", InputDataConfig=list(channels), HyperParameters={"behaviour": "pipe", **parameters})


def told(content: bytes) -> list[Any]:
    return [len(content), hashlib.sha256(content).hexdigest()]


def read_by(jobs: Jobs, name: str, host: str = "algo-1") -> dict[str, Any]:
    job = jobs.end(name)
    assert job["TrainingJobStatus"] == "Completed", job.get("FailureReason")
    return dict(json.loads(jobs.archive(name)[f"read-{host}.json"]))


def feeder(server: Server) -> int:
    """The pid of the one feeder there is."""
    found = wait_for(lambda: list((server.data / "workloads").glob("[!.]*/pipes/lock")), "a feeder is there")
    return int(wait_for(found[0].read_text, "it says who it is"))


def test_files_and_pipes_side_by_side_over_several_epochs(jobs: Jobs) -> None:
    for key, body in (
        ("p/a", b"first,"),
        ("p/b", b"second"),
        ("j.json", b'{"x-ref": "s3://%s/p/b", "y": 5}' % BUCKET.encode()),
    ):
        jobs.s3.put_object(Bucket=BUCKET, Key=key, Body=body)
    manifest = channel(
        "lines", f"s3://{BUCKET}/j.json", "AugmentedManifestFile", ("y", "x-ref"), RecordWrapperType="RecordIO"
    )
    files = {**channel("files", f"s3://{BUCKET}/p/"), "InputMode": "File"}
    name = start(jobs, channel("plain", f"s3://{BUCKET}/p/"), manifest, files, epochs="2")
    whole = told(b"first,second")
    wrapped = told(struct.pack("<II1s3x", 0xCED7230A, 1, b"5") + struct.pack("<II6s2x", 0xCED7230A, 6, b"second"))
    assert read_by(jobs, name) == {"plain_0": whole, "lines_0": wrapped, "plain_1": whole, "lines_1": wrapped}


def test_two_hosts_share_a_channel_and_share_it_anew_in_each_epoch(jobs: Jobs) -> None:
    for number in range(8):
        jobs.s3.put_object(Bucket=BUCKET, Key=f"shared/{number}", Body=b"%d" % number * 2**number)
    shared = channel("shared", f"s3://{BUCKET}/shared/", ShuffleConfig={"Seed": 3})
    shared["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    name = jobs.create(
        "pipe",
        InputDataConfig=[shared],
        HyperParameters={"behaviour": "pipe", "epochs": "3"},
        ResourceConfig={"InstanceType": "ml.t3.medium", "InstanceCount": 2, "VolumeSizeInGB": 1},
    )
    sizes = [[read_by(jobs, name, host)[f"shared_{epoch}"][0] for host in ("algo-1", "algo-2")] for epoch in range(3)]
    assert [sum(each) for each in sizes] == [255] * 3, "sizes are powers of two: together they are every object once"
    assert all(bin(size).count("1") == 4 for each in sizes for size in each)
    assert len({tuple(each) for each in sizes}) > 1


def test_a_reader_that_leaves_early_and_a_program_that_never_reads(jobs: Jobs) -> None:
    jobs.s3.put_object(Bucket=BUCKET, Key="big/a", Body=BIG)
    early = start(jobs, channel("big", f"s3://{BUCKET}/big/"), epochs="3", limit="70000")
    never = start(jobs, channel("big", f"s3://{BUCKET}/big/"), epochs="0")
    assert read_by(jobs, early) == {f"big_{epoch}": told(BIG[:70000]) for epoch in range(3)}
    assert read_by(jobs, never) == {}
    wait_for(lambda: not feeders_of(jobs), "no feeder is left")


def test_a_stop_in_the_middle_of_an_epoch(jobs: Jobs) -> None:
    jobs.s3.put_object(Bucket=BUCKET, Key="big/a", Body=BIG)
    name = start(jobs, channel("big", f"s3://{BUCKET}/big/"), pause="0.05")
    wait_for(lambda: "reading big_0" in jobs.server.run("logs", name).stdout, "it reads")
    jobs.sagemaker.stop_training_job(TrainingJobName=name)
    assert jobs.end(name)["TrainingJobStatus"] == "Stopped"
    wait_for(lambda: not feeders_of(jobs), "no feeder is left")


def test_data_that_cannot_be_streamed_fails_the_job_by_name(jobs: Jobs) -> None:
    jobs.s3.put_object(Bucket=BUCKET, Key="not-gzip/a", Body=BIG)
    job = jobs.end(start(jobs, channel("big", f"s3://{BUCKET}/not-gzip/", CompressionType="Gzip")))
    assert job["TrainingJobStatus"] == "Failed"
    assert job["FailureReason"].startswith(
        f"ClientError: Data download failed: Object s3://{BUCKET}/not-gzip/a cannot be unpacked"
    )


def test_kill_minus_9_of_the_server_is_not_seen_by_the_reader(own_jobs: Jobs) -> None:
    server = own_jobs.server
    own_jobs.s3.put_object(Bucket=BUCKET, Key="big/a", Body=BIG)
    name = start(own_jobs, channel("big", f"s3://{BUCKET}/big/"), epochs="2", pause="0.005")
    wait_for(lambda: "reading big_0" in server.run("logs", name).stdout, "it reads")
    for _ in range(2):
        server.kill_everything()
        time.sleep(0.7)
        server.start()
    jobs = Jobs(server, own_jobs.image, own_jobs.prefix)
    assert read_by(jobs, name) == {"big_0": told(BIG), "big_1": told(BIG)}


def test_a_killed_feeder_is_never_silently_wrong_data(own_jobs: Jobs) -> None:
    own_jobs.s3.put_object(Bucket=BUCKET, Key="big/a", Body=BIG)
    name = start(own_jobs, channel("big", f"s3://{BUCKET}/big/"), pause="0.1")
    wait_for(lambda: "reading big_0" in own_jobs.server.run("logs", name).stdout, "it reads")
    os.kill(feeder(own_jobs.server), signal.SIGKILL)
    job = own_jobs.end(name)
    assert job["TrainingJobStatus"] == "Failed"
    assert "was killed within epoch 0" in job["FailureReason"]


def feeders_of(jobs: Jobs) -> list[str]:
    """Command lines of the feeders of this server that live."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if str(jobs.server.data) in str((folder / "cwd").readlink()):
                words = (folder / "cmdline").read_bytes()
                found += [words.decode()] if b"code/run.py" in words else []
        except OSError:
            continue
    return found
