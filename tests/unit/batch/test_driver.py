"""A run over objects: order, concurrency, retries, bad records, what becomes of which object (contract C.3 to C.5)."""

from __future__ import annotations

import gzip
import random
import threading
import time
from typing import Any

import pytest

from sagewright.core.errors import BlobStoreFull
from support.transform_runs import BUCKET, STREAM, Runs, container

SINGLE = {"BatchStrategy": "SingleRecord"}
LINES = {"TransformOutput": {"AssembleWith": "Line"}}


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


class Model:
    """Echoes; knows how many requests it had, and how many at once."""

    def __init__(self, *, pause: float = 0.0, status: dict[bytes, list[int]] | None = None) -> None:
        self.bodies: list[bytes] = []
        self.most = self._now = 0
        self._pause = pause
        self._status = status or {}
        self._lock = threading.Lock()

    def __call__(self, body: bytes) -> tuple[int, bytes]:
        with self._lock:
            self.bodies.append(body)
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(random.random() * self._pause)
        with self._lock:
            self._now -= 1
            left = self._status.get(body.strip())
            status = left.pop(0) if left else 200
        return (status, body) if status == 200 else (status, b"told %d" % status)


async def test_answers_are_in_order_however_they_come(runs: Runs) -> None:
    objects = {f"in/{name}": numbers(count) for name, count in (("a", 90), ("b", 1), ("c", 0), ("d/e", 55))}
    runs.put(objects)
    with container(model := Model(pause=0.01)) as address:
        error, progress = await runs.drive(runs.job(address, MaxConcurrentTransforms=8, **SINGLE, **LINES))
    assert error == ""
    assert runs.outputs() == {f"{key[3:]}.out": data for key, data in objects.items()}
    assert (progress["objects"], progress["records"]) == (4, 146)
    assert progress["bytes"] == progress["bytes_total"] == sum(map(len, objects.values()))
    assert 2 <= model.most <= 8


@pytest.mark.parametrize(
    ("asked", "parameters", "most", "bodies"),
    [
        ({}, None, 1, 1),
        ({"MaxConcurrentTransforms": 3, **SINGLE}, b'{"MaxConcurrentTransforms": 9}', 3, 60),
        ({}, b'{"MaxConcurrentTransforms": 2, "BatchStrategy": "SINGLE_RECORD"}', 2, 60),
        ({"BatchStrategy": "MultiRecord"}, b'{"BatchStrategy": "SINGLE_RECORD"}', 1, 1),
        ({"MaxConcurrentTransforms": 0}, b"no json", 1, 1),
    ],
)
async def test_the_request_wins_over_the_container(
    runs: Runs, asked: dict[str, Any], parameters: bytes | None, most: int, bodies: int
) -> None:
    runs.put({"in/a": numbers(60)})
    with container(model := Model(pause=0.005), parameters) as address:
        error, _ = await runs.drive(runs.job(address, **asked))
    assert (error, len(model.bodies), model.most) == ("", bodies, most)
    assert any("not JSON" in line for line in runs.lines()) == (parameters == b"no json")


async def test_requests_are_packed_to_the_mebibyte(runs: Runs) -> None:
    runs.put({"in/a": (b"x" * 1023 + b"\n") * 2500})
    with container(model := Model()) as address:
        error, _ = await runs.drive(runs.job(address, MaxPayloadInMB=1))
    assert error == ""
    assert [len(body) for body in model.bodies] == [1 << 20, 1 << 20, 452 << 10]


async def test_a_record_above_the_limit_fails_its_object(runs: Runs) -> None:
    runs.put({"in/a": b"1\n" + b"x" * (1 << 20) + b"y\n3\n", "in/b": b"1\n"})
    with container(Model()) as address:
        error, _ = await runs.drive(runs.job(address, MaxPayloadInMB=1))
    assert "s3://bucket/in/a, record 2: it is larger than MaxPayloadInMB (1 MiB)" in error
    assert runs.outputs() == {"b.out": b"1\n"}


async def test_with_split_type_none_an_object_is_one_request(runs: Runs) -> None:
    runs.put({"in/a": b"1\n2\n", "in/b": b"x" * ((1 << 20) + 1), "in/c": b""})
    with container(model := Model()) as address:
        error, _ = await runs.drive(runs.job(address, MaxPayloadInMB=1, TransformInput={"SplitType": "None"}))
    assert model.bodies == [b"1\n2\n", b""]
    assert "in/b, record 1: it is larger than MaxPayloadInMB (1 MiB). Set SplitType" in error
    assert runs.outputs() == {"a.out": b"1\n2\n", "c.out": b""}


@pytest.mark.parametrize(
    ("assemble", "answer", "output"),
    [
        ("None", b"1", b"11"),
        ("None", b"1\n", b"1\n1\n"),
        ("Line", b"1", b"1\n1\n"),
        ("Line", b"1\n", b"1\n1\n"),
        ("Line", b"", b"\n\n"),
        ("Line", b"1\n\n", b"1\n\n1\n\n"),
    ],
)
async def test_how_answers_are_assembled(runs: Runs, assemble: str, answer: bytes, output: bytes) -> None:
    """C.4: one line feed after each answer, not doubled."""
    runs.put({"in/a": b"x\ny\n"})
    with container(lambda _: (200, answer)) as address:
        job = runs.job(address, TransformOutput={"AssembleWith": assemble}, **SINGLE)
        error, _ = await runs.drive(job)
    assert (error, runs.outputs()) == ("", {"a.out": output})


async def test_a_slow_answer_to_execution_parameters_is_not_waited_for(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sagewright.batch.driver._PARAMETERS_TIMEOUT", 0.3)
    runs.put({"in/a": b"1\n"})
    with container(Model(), b'{"BatchStrategy": "SINGLE_RECORD"}', slow=3.0) as address:
        error, _ = await runs.drive(runs.job(address))
    assert (error, runs.outputs()) == ("", {"a.out": b"1\n"})
    assert any("/execution-parameters: no answer within" in line for line in runs.lines())


async def test_a_request_is_tried_again_as_often_as_asked(runs: Runs) -> None:
    runs.put({"in/a": b"1\n2\n"})
    with container(model := Model(status={b"2": [500, 503]})) as address:
        error, _ = await runs.drive(runs.job(address, **SINGLE, **LINES))
    assert (error, runs.outputs()) == ("", {"a.out": b"1\n2\n"})
    assert model.bodies == [b"1", b"2", b"2", b"2"]


async def test_a_request_that_fails_for_good_fails_its_object_alone(runs: Runs) -> None:
    runs.put({"in/bad": b"1\n2\n3\n4\n5\n6\n7\n8\n", "in/good": b"9\n"})
    with container(model := Model(status={b"2": [500, 418]})) as address:
        job = runs.job(address, ModelClientConfig={"InvocationsMaxRetries": 1}, **SINGLE)
        error, progress = await runs.drive(job)
    assert error == (
        f"ClientError: See job logs for more information. s3://{BUCKET}/in/bad, record 2: the model answered 418: "
        "told 418"
    )
    assert (runs.outputs(), progress["failed"], progress["objects"]) == ({"good.out": b"9"}, 1, 2)
    assert model.bodies == [b"1", b"2", b"2", b"9"], "nothing after it was sent"
    (told,) = runs.errors()
    assert told == {
        "object": f"s3://{BUCKET}/in/bad",
        "record": 2,
        "records": 1,
        "reason": "the model answered 418: told 418",
        "status": 418,
        "request": "2",
        "response": "told 418",
    }


async def test_the_first_bad_record_is_the_reason_and_each_that_was_sent_is_told(runs: Runs) -> None:
    runs.put({"in/a": numbers(40)})
    status = {b"7": [400], b"5": [500], b"30": [400]}
    with container(Model(pause=0.02, status=status)) as address:
        job = runs.job(address, MaxConcurrentTransforms=8, ModelClientConfig={"InvocationsMaxRetries": 0}, **SINGLE)
        error, _ = await runs.drive(job)
    assert error.startswith("AlgorithmError: ")
    assert "record 6:" in error
    assert next(each["record"] for each in runs.errors()) == 6
    assert {each["record"] for each in runs.errors()} <= {6, 8}
    assert runs.outputs() == {}


async def test_a_request_that_takes_too_long_is_given_up(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    given_up = threading.Event()

    def never(body: bytes) -> tuple[int, bytes]:
        given_up.wait(60)
        return 200, body

    with container(never) as address:
        limits = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 1}
        error, _ = await runs.drive(runs.job(address, ModelClientConfig=limits))
        given_up.set()
    assert "AlgorithmError" in error
    assert "no answer within 1 s (ModelClientConfig.InvocationsTimeoutInSeconds)" in error


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
async def test_bad_records_are_left_out_when_that_is_wished(runs: Runs, strategy: str) -> None:
    runs.put({"in/a": b"".join(b"bad %d\n" % n if n in {3, 77} else b"%d\n" % n for n in range(1, 101))})
    with container(lambda body: (400, b"no") if b"bad" in body else (200, body)) as address:
        skip = {"SAGEWRIGHT_TRANSFORM_ON_ERROR": "skip"}
        client = {"InvocationsMaxRetries": 0}
        job = runs.job(address, BatchStrategy=strategy, Environment=skip, ModelClientConfig=client, **LINES)
        error, progress = await runs.drive(job)
    assert error == ""
    assert [line for line in runs.outputs()["a.out"].split(b"\n") if line] == [
        b"%d" % n for n in range(1, 101) if n not in {3, 77}
    ]
    assert (progress["skipped"], progress["failed"]) == (2, 0)
    assert [each["record"] for each in runs.errors()] == [3, 77]


async def test_records_that_could_not_be_sent_are_not_left_out(runs: Runs) -> None:
    """A container that has gone is no record's fault: with its objects written without them, data would be lost."""
    runs.put({"in/a": b"1\n2\n3\n"})
    with container(Model()) as address:
        skip = {"SAGEWRIGHT_TRANSFORM_ON_ERROR": "skip"}
        job = runs.job(address, Environment=skip, ModelClientConfig={"InvocationsMaxRetries": 0}, **SINGLE)
    error, progress = await runs.drive(job)
    assert "no connection" in error
    assert (progress["skipped"], progress["failed"], runs.outputs()) == (0, 1, {})


async def test_filters_and_joins_of_large_batches(runs: Runs) -> None:
    rows = b"".join(b"id%d,%d\n" % (n, n) for n in range(60_000))
    runs.put({"in/a": rows, "in/b": rows[:-1] + b",more\n"})
    processing = {"InputFilter": "$[1:2]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"}
    with container(lambda body: (200, body)) as address:
        job = runs.job(address, MaxPayloadInMB=1, MaxConcurrentTransforms=3, DataProcessing=processing)
        error, progress = await runs.drive(job)
    assert (error, progress["records"]) == ("", 120_000)
    assert runs.outputs() == {"a.out": rows, "b.out": rows}


async def test_a_record_that_a_filter_cannot_read_is_named_by_its_own_number(runs: Runs) -> None:
    runs.put({"in/a": b"1,2\n3,4\n5\n6,7\n"})
    with container(model := Model()) as address:
        error, _ = await runs.drive(runs.job(address, DataProcessing={"InputFilter": "$[1]"}))
    assert "ClientError" in error
    assert "in/a, record 3: there is nothing at $[1]" in error
    (told,) = runs.errors()
    assert (told["record"], told["records"], told["request"], model.bodies) == (3, 1, "5\n", [])


async def test_gzip_is_taken_off_the_input_alone(runs: Runs) -> None:
    """C.4: the output is not compressed again, and its name keeps `.gz`. Members one after the other are one object."""
    runs.put({"in/a.csv.gz": gzip.compress(b"1\n2\n") + gzip.compress(b"3\n"), "in/empty.gz": gzip.compress(b"")})
    with container(model := Model()) as address:
        error, _ = await runs.drive(runs.job(address, TransformInput={"CompressionType": "Gzip"}))
    assert (error, model.bodies) == ("", [b"1\n2\n3\n"])
    assert runs.outputs() == {"a.csv.gz.out": b"1\n2\n3\n", "empty.gz.out": b""}


@pytest.mark.parametrize("data", [b"plain text", gzip.compress(b"1\n" * 1000, mtime=0)[:-9], b"\x1f\x8b\x08"])
async def test_what_is_not_gzip_fails_its_object(runs: Runs, data: bytes) -> None:
    runs.put({"in/a.gz": data, "in/b.gz": gzip.compress(b"1\n")})
    with container(Model()) as address:
        error, _ = await runs.drive(runs.job(address, TransformInput={"CompressionType": "Gzip"}))
    assert error.startswith("ClientError: ")
    assert "not whole gzip" in error
    assert runs.outputs() == {"b.gz.out": b"1\n"}


async def test_a_pipeline_gives_accept_to_the_last_alone(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    with (
        container(lambda body: (200, b"first " + body), tell_accept=True) as first,
        container(lambda body: (200, b"last " + body), tell_accept=True) as last,
    ):
        error, _ = await runs.drive(runs.job(first, last, TransformOutput={"Accept": "application/json"}))
    assert error == ""
    assert runs.outputs() == {"a.out": b"application/json|last -|first 1\n"}


async def test_a_failing_container_of_a_pipeline_ends_it(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    with container(lambda _: (400, b"mine")) as first, container(last := Model()) as second:
        client = {"InvocationsMaxRetries": 0}
        error, _ = await runs.drive(runs.job(first, second, ModelClientConfig=client))
    assert "container 1 of 2 answered 400: mine" in error
    assert last.bodies == []


async def test_a_bucket_that_has_gone_is_the_users_error(runs: Runs) -> None:
    runs.put({"in/a": b"1\n"})
    with container(Model()) as address:
        error, _ = await runs.drive(runs.job(address, TransformOutput={"S3OutputPath": "s3://gone/out"}))
        assert error.startswith("ClientError: ")
        assert "bucket gone does not exist" in error
        (told,) = runs.errors()
        assert told["object"] == f"s3://{BUCKET}/in/a"


async def test_an_input_bucket_that_has_gone_is_too(runs: Runs) -> None:
    with container(Model()) as address:
        source = {"S3DataSource": {"S3Uri": "s3://gone/in/"}}
        error, _ = await runs.drive(runs.job(address, TransformInput=source))
    assert error == "ClientError: s3://gone/in/ cannot be listed: bucket gone does not exist."


async def test_an_object_that_was_deleted_meanwhile_fails_alone(runs: Runs) -> None:
    runs.put({"in/a": b"1\n", "in/b": b"2\n"})
    runs.put({"list": b'[{"prefix":"s3://bucket/in/"},"a","b"]'})

    def answer(body: bytes) -> tuple[int, bytes]:
        runs.delete("in/b")
        return 200, body

    source = {"S3DataSource": {"S3DataType": "ManifestFile", "S3Uri": f"s3://{BUCKET}/list"}}
    with container(answer) as address:
        error, _ = await runs.drive(runs.job(address, TransformInput=source))
    assert "s3://bucket/in/b, record 1: s3://bucket/in/b does not exist" in error
    assert runs.outputs() == {"a.out": b"1\n"}


async def test_instances_share_one_plan_whatever_is_uploaded_between_their_starts(runs: Runs) -> None:
    runs.put({f"in/{n}": b"%d\n" % n for n in range(5)})
    with container(Model()) as address:
        await runs.drive(runs.job(address, instance=0, instances=2))
        assert list(runs.outputs()) == ["0.out", "2.out", "4.out"]
        runs.put({"in/00-later": b"x\n"})
        await runs.drive(runs.job(address, instance=1, instances=2))
    assert list(runs.outputs()) == [f"{n}.out" for n in range(5)]


async def test_an_instance_without_objects_has_nothing_to_do(runs: Runs) -> None:
    runs.put({"in/0": b"1\n"})
    with container(model := Model()) as address:
        error, progress = await runs.drive(runs.job(address, instance=1, instances=2))
    assert (error, progress["objects_total"], model.bodies) == ("", 0, [])
    assert any("Progress: 0 of 0 objects" in line for line in runs.lines(STREAM.replace("i-0", "i-1")))


async def test_no_room_on_the_disk_ends_the_run(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    runs.put({"in/a": b"1\n", "in/b": b"2\n"})

    def full(*_: object) -> None:
        raise BlobStoreFull("No space is left")

    with container(Model()) as address:
        monkeypatch.setattr("sagewright.objects.content.ContentWriter.write", full)
        with pytest.raises(ExceptionGroup) as caught:
            await runs.drive(runs.job(address))
    assert caught.group_contains(BlobStoreFull)
    monkeypatch.undo()
    assert runs.outputs() == {}
