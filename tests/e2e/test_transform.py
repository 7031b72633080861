"""Batch transform with real containers: the SDK's way, packing, bad records, sharding, pipelines, crashes."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError

from e2e.conftest import run_script, sdk_python
from support.server import Server, wait_for
from support.transforms import BUCKET, Transforms

BACKENDS = [pytest.param("process", marks=pytest.mark.process), pytest.param("docker", marks=pytest.mark.docker)]
PROCESS = pytest.mark.parametrize("made", BACKENDS[:1], indirect=True)


def _image(request: pytest.FixtureRequest, backend: str, server: Server) -> str:
    if backend == "docker":
        return str(request.getfixturevalue("docker_image"))
    return str(request.getfixturevalue("folder_image")(server))


@pytest.fixture(params=BACKENDS)
def made(request: pytest.FixtureRequest, server: Server) -> Iterator[Transforms]:
    prefix = f"{request.param}-{abs(hash(request.node.name)) % 10**8}"
    return Transforms(server, _image(request, request.param, server), prefix)


@pytest.mark.sdk
@pytest.mark.parametrize("backend", BACKENDS)
def test_sdk_2_transforms(request: pytest.FixtureRequest, server: Server, backend: str) -> None:
    output, result = run_script(
        sdk_python("sdk2"), "transform_sdk2.py", _image(request, backend, server), env=server.env()
    )
    assert result["output"] == "1,2\n3,4\n"
    assert "MaxConcurrentTransforms=2, MaxPayloadInMB=6, BatchStrategy=MULTI_RECORD" in output
    assert "Progress: 1 of 1 objects, 2 records" in output


def test_objects_become_outputs(made: Transforms) -> None:
    data = {"a.csv": b"1,2\n3,4\n", "deep/b.csv": b"5\n" * 1000, "empty.csv": b"", "z.csv": b"no end"}
    made.put("plain", data)
    full = made.create(
        "plain",
        made.model("echo"),
        MaxConcurrentTransforms=4,
        BatchStrategy="SingleRecord",
        TransformOutput={"AssembleWith": "Line"},
    )
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert made.outputs("plain") == {
        "a.csv.out": b"1,2\n3,4\n", "deep/b.csv.out": b"5\n" * 1000, "empty.csv.out": b"", "z.csv.out": b"no end\n"
    }  # fmt: skip
    assert any("4 of 4 objects, 1003 records" in line for line in made.lines(full, "data-log"))
    assert any("serves 'one' as echo" in line for line in made.lines(full, "")), "the container's own lines"
    assert full in [each["TransformJobName"] for each in made.sagemaker.list_transform_jobs()["TransformJobSummaries"]]
    assert full in made.server.run("jobs").stdout
    with pytest.raises(ClientError, match="is in status Completed"):
        made.sagemaker.stop_transform_job(TransformJobName=full)


@PROCESS
def test_the_container_is_told_and_may_choose(made: Transforms) -> None:
    made.put("env", {"a": b"x"})
    full = made.create("env", made.model("env"), MaxPayloadInMB=2, BatchStrategy="MultiRecord", Environment={"A": "b"})
    assert made.wait(full)["TransformJobStatus"] == "Completed"
    told = json.loads(made.outputs("env")["a.out"])
    assert told["SAGEMAKER_BATCH"] == "true"
    assert (told["SAGEMAKER_MAX_PAYLOAD_IN_MB"], told["SAGEMAKER_BATCH_STRATEGY"]) == ("2", "MULTI_RECORD")
    assert "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS" not in told
    assert told["TRANSFORM_JOB_ARN"].endswith(f"transform-job/{full}")
    assert (told["A"], told["BEHAVIOUR"]) == ("b", "env")
    made.put("parameters", {"a": b"x\ny\n"})
    full = made.create("parameters", made.model("parameters"), MaxConcurrentTransforms=2)
    assert made.wait(full)["TransformJobStatus"] == "Completed"
    assert made.outputs("parameters") == {"a.out": b"xy"}, "SingleRecord, as the container asked"
    (line,) = [each for each in made.lines(full, "data-log") if "BatchStrategy" in each]
    assert line.endswith("MaxConcurrentTransforms=2, MaxPayloadInMB=1, BatchStrategy=SINGLE_RECORD")


@PROCESS
def test_a_bad_record_fails_its_object_and_is_explained(made: Transforms) -> None:
    made.put("bad", {"good.csv": b"1\n2\n", "worse.csv": b"1\n2\nbad\n4\n"})
    model = made.model("picky")
    strategy = {"BatchStrategy": "SingleRecord", "ModelClientConfig": {"InvocationsMaxRetries": 1}}
    full = made.create("bad", model, **strategy)
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Failed"
    where = f"s3://{BUCKET}/{made.prefix}/bad/in/worse.csv"
    assert job["FailureReason"] == (
        f"ClientError: See job logs for more information. {where}, record 3: "
        "the model answered 400: cannot convert 'bad' to a number"
    )
    assert made.outputs("bad") == {"good.csv.out": b"12"}, "all or nothing, per object"
    (error,) = made.errors(full)
    assert (error["object"], error["record"], error["status"], error["request"]) == (where, 3, 400, "bad")
    assert error["response"] == "cannot convert 'bad' to a number"


@PROCESS
def test_bad_records_are_skipped_when_that_is_wished(made: Transforms) -> None:
    made.put("skip", {"a.csv": b"".join(b"bad %d\n" % n if n in {3, 77} else b"%d\n" % n for n in range(1, 101))})
    full = made.create(
        "skip",
        made.model("picky"),
        Environment={"SAGEWRIGHT_TRANSFORM_ON_ERROR": "skip"},
        ModelClientConfig={"InvocationsMaxRetries": 0},
    )
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    expected = b"".join(b"%d\n" % n for n in range(1, 101) if n not in {3, 77})
    assert made.outputs("skip") == {"a.csv.out": expected}
    assert [error["record"] for error in made.errors(full)] == [3, 77]


@PROCESS
def test_gzip_manifest_join_and_shards(made: Transforms) -> None:
    names = [f"{number}.csv.gz" for number in range(5)]
    made.put("shards", {name: gzip.compress(f"id-{name},1,2\n".encode()) for name in names})
    base = f"s3://{BUCKET}/{made.prefix}/shards/in/"
    made.put("list", {"manifest": json.dumps([{"prefix": base}, *names[:4]]).encode()})
    uri = f"s3://{BUCKET}/{made.prefix}/list/in/manifest"
    full = made.create(
        "shards",
        made.model("echo"),
        source={"CompressionType": "Gzip", "S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": uri}},
        count=2,
        TransformOutput={"AssembleWith": "Line", "Accept": "text/csv"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
    )
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert made.outputs("shards") == {f"{name}.out": f"id-{name},2\n".encode() for name in names[:4]}
    assert sum("Progress: 2 of 2 objects, 2 records" in line for line in made.lines(full, "data-log")) == 2


def test_a_pipeline_passes_answers_on(made: Transforms) -> None:
    made.put("pipe", {"a": b"1\n"})
    full = made.create("pipe", made.model("echo", "env"))
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert json.loads(made.outputs("pipe")["a.out"])["SAGEMAKER_BIND_TO_PORT"] == "8081"


@PROCESS
def test_stop_and_failing_starts(made: Transforms) -> None:
    made.put("stop", {"a": b"1\n" * 1000})
    slow = made.create("stop", made.model("slow"), BatchStrategy="SingleRecord")
    wait_for(lambda: any("BatchStrategy" in line for line in made.lines(slow, "data-log")), "it runs")
    made.sagemaker.stop_transform_job(TransformJobName=slow)
    made.sagemaker.stop_transform_job(TransformJobName=slow)
    assert made.wait(slow)["TransformJobStatus"] == "Stopped"
    assert made.outputs("stop") == {}
    made.put("dies", {"a": b"1\n"})
    dies = made.wait(made.create("dies", made.model("die-at-start")))
    assert dies["TransformJobStatus"] == "Failed"
    assert dies["FailureReason"].startswith("AlgorithmError: The container ended by itself with exit code 7")
    assert "cannot load the model" in dies["FailureReason"]


@PROCESS
def test_what_cannot_work_is_refused(made: Transforms) -> None:
    made.put("refused", {"a": b"1\n"})
    model = made.model("echo")

    def refused(match: str, **more: object) -> None:
        with pytest.raises(ClientError, match=match) as caught:
            made.create("refused", more.pop("model", model), **more)
        assert caught.value.response["Error"]["Code"] == "ValidationException"

    refused("Could not find model", model="no-such-model")
    refused("bucket of DataCaptureConfig.DestinationS3Uri", DataCaptureConfig={"DestinationS3Uri": "s3://nowhere/c"})
    refused("at most 100 MB", MaxPayloadInMB=50, MaxConcurrentTransforms=3)
    refused("AssembleWith must be the same", DataProcessing={"InputFilter": "$[1:]"})
    refused("does not begin with", DataProcessing={"InputFilter": "x"})
    refused("No S3 objects found", source={"S3DataSource": {"S3Uri": f"s3://{BUCKET}/nothing/here"}})
    refused("Set it to skip or fail", Environment={"SAGEWRIGHT_TRANSFORM_ON_ERROR": "maybe"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_goes_on_after_kill_9(request: pytest.FixtureRequest, own_server: Server, backend: str) -> None:
    image = _image(request, backend, own_server)
    own_server.start()
    made = Transforms(own_server, image, "crash")
    data = {f"{number:02}.csv": b"%d\n" % number * 3 for number in range(24)}
    made.put("many", data)
    full = made.create("many", made.model("slow"), BatchStrategy="SingleRecord")
    wait_for(lambda: len(made.outputs("many")) >= 4, "some are done")
    own_server.kill_everything()
    time.sleep(0.5)
    own_server.start()
    made = Transforms(own_server, image, "crash")
    before = made.outputs("many")
    assert 4 <= len(before) < 24
    assert all(value == data[name.removesuffix(".out")].replace(b"\n", b"") for name, value in before.items())
    etags = {each["Key"]: each["LastModified"] for each in _listed(made)}
    job = made.wait(full)
    assert job["TransformJobStatus"] == "Completed", job.get("FailureReason")
    assert made.outputs("many") == {f"{name}.out": value.replace(b"\n", b"") for name, value in data.items()}
    again = [
        key for key, moment in etags.items() if {e["Key"]: e["LastModified"] for e in _listed(made)}[key] != moment
    ]
    assert len(again) <= 2, "what was done is not done again"
    wait_for(lambda: not list((own_server.data / "workloads").glob("[!.]*")), "its folders are gone")


def _listed(made: Transforms) -> list[dict[str, object]]:
    return list(made.s3.list_objects_v2(Bucket=BUCKET, Prefix="crash/many/out/")["Contents"])
