"""Batch transform with real containers: record formats, streams, capture, what commands and metrics tell, what goes
wrong in the middle."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.hosting import image_of, prefix_of
from support.server import Server, wait_for
from support.transform_runs import record_io, tf_record
from support.transforms import BUCKET, Transforms

BACKENDS = [pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
PROCESS = pytest.mark.parametrize("made", BACKENDS[:1], indirect=True)


@pytest.fixture(params=BACKENDS)
def made(request: pytest.FixtureRequest, server: Server) -> Iterator[Transforms]:
    return Transforms(server, image_of(request, request.param, server), prefix_of(request, request.param))


def completed(made: Transforms, full: str) -> Any:
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    return job


@PROCESS
@pytest.mark.parametrize(("kind", "framed"), [("RecordIO", record_io), ("TFRecord", tf_record)])
def test_framed_records(made: Transforms, kind: str, framed: Any) -> None:
    contents = [b"abcde", b"\0" * 7, b"x" * 1000]
    data = b"".join(map(framed, contents))
    made.put("frames", {"a.rec": data})
    source = {"SplitType": kind, "ContentType": "application/octet-stream"}
    completed(made, made.create("frames", made.model("echo"), source=source))
    assert made.outputs("frames") == {"a.rec.out": data}, "MultiRecord keeps the framing"
    made.put("single", {"a.rec": data})
    completed(made, made.create("single", made.model("echo", name="s"), source=source, BatchStrategy="SingleRecord"))
    assert made.outputs("single") == {"a.rec.out": b"".join(contents)}


def test_an_object_of_any_size_goes_in_chunks(made: Transforms) -> None:
    data = os.urandom(20 << 20)
    made.put("whole", {"a.bin": data, "b.bin": b""})
    source = {"SplitType": "None", "ContentType": "application/octet-stream"}
    completed(made, made.create("whole", made.model("echo"), source=source, MaxPayloadInMB=0))
    assert made.outputs("whole") == {"a.bin.out": data, "b.bin.out": b""}


@PROCESS
def test_what_was_read_and_written_is_captured(made: Transforms) -> None:
    made.put("captured", {"a.csv": b"1,2\n3,4\n", "b.csv": b"5,6\n"})
    uri = f"s3://{BUCKET}/{made.prefix}"
    full = made.create(
        "captured",
        made.model("echo"),
        DataCaptureConfig={"DestinationS3Uri": f"{uri}/capture", "GenerateInferenceId": True},
        ExperimentConfig={"ExperimentName": "e"},
        TransformOutput={"Accept": "text/csv", "AssembleWith": "Line"},
    )
    job = completed(made, full)
    assert job["DataCaptureConfig"]["GenerateInferenceId"] is True
    assert job["ExperimentConfig"] == {"ExperimentName": "e"}
    began = job["TransformStartTime"]
    rows = list(csv.reader(io.StringIO(made.outputs("captured")["a.csv.out"].decode())))
    assert [(row[:2], row[3]) for row in rows] == [
        (each, f"{began:%Y-%m-%dT%H:%M:%SZ}") for each in (["1", "2"], ["3", "4"])
    ]
    hour = f"{began:%Y/%m/%d/%H}/{full}-1.jsonl"
    for side, folder, names in (("input", "in", ["a.csv", "b.csv"]), ("output", "out", ["a.csv.out", "b.csv.out"])):
        key = f"{made.prefix}/capture/{side}/{hour}"
        manifest = json.loads(made.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
        assert manifest == [{"prefix": f"{uri}/captured/{folder}/"}, *names]


@PROCESS
def test_commands_explain_bad_records(made: Transforms) -> None:
    made.put("explained", {"a.csv": b"1\nbad\n"})
    strategy = {"BatchStrategy": "SingleRecord", "ModelClientConfig": {"InvocationsMaxRetries": 0}}
    full = made.create("explained", made.model("picky"), **strategy)
    assert made.wait(full)["TransformJobStatus"] == "Failed"
    where = f"s3://{BUCKET}/{made.prefix}/explained/in/a.csv"
    told = made.server.run("jobs", full).stdout
    assert f"{full}: Failed" in told
    assert "Progress: 1 of 1 objects, 1 records" in told
    assert f"{where}, record 2: the model answered 400" in told
    assert "  request   bad\n" in told
    assert "  response  400 cannot convert 'bad' to a number\n" in told
    (error,) = json.loads(made.server.run("jobs", full, "--json").stdout)["BadRecords"]
    assert (error["object"], error["record"], error["status"]) == (where, 2, 400)
    log = made.server.run("logs", full).stdout
    assert "MaxConcurrentTransforms=1, MaxPayloadInMB=6, BatchStrategy=SINGLE_RECORD" in log
    assert "serves 'one' as picky" in log
    unknown = made.server.run("jobs", "no-such-job", check=False)
    assert "no training or transform job named 'no-such-job'" in unknown.stderr


@PROCESS
def test_streams_have_awss_names(made: Transforms) -> None:
    """Contract C.9: the instance's own stream, its data log, and with several containers one for each."""
    made.put("streams", {"a": b"1\n"})
    for name, model, parts in (
        ("streams", ("echo",), {""}),
        ("streams-of-two", ("echo", "env"), {"/container-1", "/container-2"}),
    ):
        made.put(name, {"a": b"1\n"})
        full = made.create(name, made.model(*model, name=name), count=2)
        epoch = int(completed(made, full)["CreationTime"].timestamp())
        group = {"logGroupName": "/aws/sagemaker/TransformJobs", "logStreamNamePrefix": f"{full}/"}
        streams = [each["logStreamName"] for each in made.logs.describe_log_streams(**group)["logStreams"]]
        instances = {each.split("/")[1] for each in streams}
        assert len(instances) == 2
        assert all(re.fullmatch(rf"i-[0-9a-f]+-{epoch}", each) for each in instances)
        assert set(streams) == {f"{full}/{each}{part}" for each in instances for part in {*parts, "/data-log"}}


@PROCESS
def test_progress_while_it_runs(made: Transforms) -> None:
    made.put("progress", {f"{number}": b"1\n" * 400 for number in range(3)})
    full = made.create("progress", made.model("slow"), BatchStrategy="SingleRecord", count=2)
    wait_for(lambda: full in made.server.run("jobs").stdout and "records/s" in _line(made, full), "it tells progress")
    assert "of 3 objects" in _line(made, full), "of all instances together"

    def scraped() -> str:
        with urllib.request.urlopen(f"{made.server.url}/metrics") as answer:
            return str(answer.read().decode())

    exposed = scraped()
    line = f'sagewright_transform_objects{{region="us-east-1",job="{full}"}} 3'
    assert line in exposed
    made.sagemaker.stop_transform_job(TransformJobName=full)
    assert made.wait(full)["TransformJobStatus"] == "Stopped"


def _line(made: Transforms, full: str) -> str:
    return next((line for line in made.server.run("jobs").stdout.splitlines() if line.startswith(full)), "")


def test_a_container_that_dies_in_the_middle_fails_the_job(made: Transforms) -> None:
    made.put("dies", {"a": b"1\n", "b": b"die\n", "c": b"2\n"})
    job = made.wait(made.create("dies", made.model("mortal")))
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("AlgorithmError: "), job["FailureReason"]
    assert set(made.outputs("dies")) <= {"a.out"}


@PROCESS
def test_a_driver_that_is_killed_alone_is_started_again(made: Transforms) -> None:
    made.put("driver", {f"{number:02}": b"%d\n" % number for number in range(30)})
    full = made.create("driver", made.model("slow"), BatchStrategy="SingleRecord")
    for enough in (2, 6):
        wait_for(lambda enough=enough: len(made.outputs("driver")) >= enough, "some are done")
        (pid,) = wait_for(lambda: _drivers(made.server), "the driver runs")
        os.kill(pid, signal.SIGKILL)
    completed(made, full)
    assert made.outputs("driver") == {f"{number:02}.out": b"%d" % number for number in range(30)}
    assert made.lines(full, "data-log")[-1].endswith(
        "30 of 30 objects, 30 records, 0.0 of 0.0 MB, " + _rate(made, full)
    )


def _rate(made: Transforms, full: str) -> str:
    return made.lines(full, "data-log")[-1].rpartition(", ")[2]


def _drivers(server: Server) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"sagewright.app.transform" in words and str(server.data).encode() in words:
            found.append(int(path.parent.name))
    return found


@PROCESS
def test_a_bucket_that_is_deleted_in_the_middle(made: Transforms) -> None:
    """Objects that come after it fail; the job says which bucket."""
    bucket = f"{made.prefix}-out"
    made.s3.create_bucket(Bucket=bucket)
    made.put("gone", {f"{number}": b"1\n" * 10 for number in range(4)})
    output = {"S3OutputPath": f"s3://{bucket}/out"}
    full = made.create("gone", made.model("slow"), BatchStrategy="SingleRecord", TransformOutput=output)
    wait_for(lambda: any("BatchStrategy" in line for line in made.lines(full, "data-log")), "it runs")
    for each in made.s3.list_objects_v2(Bucket=bucket).get("Contents", ()):
        made.s3.delete_object(Bucket=bucket, Key=each["Key"])
    made.s3.delete_bucket(Bucket=bucket)
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: See job logs for more information. ")
    assert f"bucket {bucket} does not exist" in job["FailureReason"]


@PROCESS
def test_stopping_before_the_container_is_ready(made: Transforms) -> None:
    made.put("early", {"a": b"1\n"})
    full = made.create("early", made.model("never-healthy"))
    made.sagemaker.stop_transform_job(TransformJobName=full)
    assert made.wait(full)["TransformJobStatus"] == "Stopped"
    made.put("starting", {"a": b"1\n"})
    full = made.create("starting", made.model("never-healthy", name="again"))
    wait_for(lambda: made.lines(full, ""), "the container has started")
    made.sagemaker.stop_transform_job(TransformJobName=full)
    assert made.wait(full)["TransformJobStatus"] == "Stopped"
    assert made.outputs("starting") == {}
