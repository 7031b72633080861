"""DataCaptureConfig: manifests under the hour the job began, and inference ids (contract C.7)."""

from __future__ import annotations

import csv
import io
import json

import pytest

from support.transform_runs import BUCKET, Runs, container

CAPTURE = {"DestinationS3Uri": f"s3://{BUCKET}/cap/"}


@pytest.mark.parametrize("uri", [f"s3://{BUCKET}/in/", f"s3://{BUCKET}/in"])
async def test_manifests_of_what_was_read_and_written(runs: Runs, uri: str) -> None:
    runs.put({"in/a.csv": b"1\n", "in/sub/b.csv": b"2\n", "in/bad.csv": b"bad\n"})
    with container(lambda body: (400 if body == b"bad\n" else 200, body)) as address:
        source = {"S3DataSource": {"S3Uri": uri}}
        error, _ = await runs.drive(runs.job(address, DataCaptureConfig=CAPTURE, TransformInput=source))
    assert "bad.csv" in error
    captured = {key: json.loads(data) for key, data in runs.outputs("cap/").items()}
    assert captured == {
        "input/2026/01/02/03/job-1.jsonl": [{"prefix": f"s3://{BUCKET}/in/"}, "a.csv", "sub/b.csv"],
        "output/2026/01/02/03/job-1.jsonl": [{"prefix": f"s3://{BUCKET}/out/"}, "a.csv.out", "sub/b.csv.out"],
    }


async def test_either_manifest_is_the_input_of_another_job(runs: Runs) -> None:
    runs.put({"in/a.csv": b"1\n", "in/b.csv": b"2\n"})
    with container(lambda body: (200, b"x" + body)) as address:
        await runs.drive(runs.job(address, DataCaptureConfig=CAPTURE))
        uri = f"s3://{BUCKET}/cap/output/2026/01/02/03/job-1.jsonl"
        source = {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": uri}}
        again = runs.job(
            address, instance=0, TransformInput=source, TransformOutput={"S3OutputPath": f"s3://{BUCKET}/2"}
        )
        error, _ = await runs.drive(runs.another(again))
    assert error == ""
    assert runs.outputs("2/") == {"a.csv.out.out": b"xx1\n", "b.csv.out.out": b"xx2\n"}


async def test_each_instance_has_manifests_of_its_own(runs: Runs) -> None:
    runs.put({"in/a": b"1\n", "in/b": b"2\n", "in/c": b"3\n"})
    with container(lambda body: (200, body)) as address:
        for instance in range(4):
            await runs.drive(runs.job(address, instance=instance, instances=4, DataCaptureConfig=CAPTURE))
    inputs = [json.loads(data)[1:] for key, data in runs.outputs("cap/").items() if key.startswith("input")]
    assert inputs == [["a"], ["b"], ["c"]], "one that had nothing to do writes nothing"


async def test_inference_ids_are_added_to_each_record(runs: Runs) -> None:
    runs.put({"in/a": b"".join(b"%d\n" % number for number in range(500))})
    with container(lambda body: (200, body)) as address:
        config = {**CAPTURE, "GenerateInferenceId": True}
        error, _ = await runs.drive(runs.job(address, DataCaptureConfig=config, BatchStrategy="SingleRecord"))
    assert error == ""
    rows = list(csv.reader(io.StringIO(runs.outputs()["a.out"].decode())))
    assert [row[0] for row in rows] == [str(number) for number in range(500)]
    assert {row[2] for row in rows} == {"2026-01-02T03:04:05Z"}
    assert len({row[1] for row in rows}) == 500


async def test_a_destination_that_has_gone_is_the_users_error(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    with container(lambda body: (200, body)) as address:
        job = runs.job(address, DataCaptureConfig={"DestinationS3Uri": "s3://gone/cap"})
        error, _ = await runs.drive(job)
    assert error == "ClientError: DataCaptureConfig: bucket gone does not exist."
    assert runs.outputs() == {"a.out": b"1\n"}
