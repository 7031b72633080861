"""MaxPayloadInMB=0: one request per object, of any size, chunked both ways."""

from __future__ import annotations

import asyncio
import gzip
import os

import pytest

from support.transform_runs import BUCKET, Runs, container, raw, record_io, tf_record

LARGE = os.urandom(5 << 20)
NONE = {"SplitType": "None"}
NO_RETRY = {"InvocationsMaxRetries": 0}


@pytest.mark.parametrize(
    ("split", "data", "records"),
    [
        ("None", LARGE, 1),
        ("None", b"", 1),
        ("Line", b"1\n" * 3_000_000, 3_000_000),
        ("Line", b"1\n2", 2),
        ("Line", b"", 0),
        ("RecordIO", record_io(b"x" * (3 << 20)) + record_io(b"y") * 3, 4),
        ("TFRecord", tf_record(b"y") * 2 + tf_record(LARGE), 3),
    ],
)
async def test_an_object_is_one_request(runs: Runs, split: str, data: bytes, records: int) -> None:
    runs.put({"in/a": data})
    bodies: list[bytes] = []

    def answer(body: bytes) -> tuple[int, bytes]:
        bodies.append(body)
        return 200, body

    with container(answer) as address:
        error, progress = await runs.drive(runs.job(address, MaxPayloadInMB=0, TransformInput={"SplitType": split}))
    assert error == ""
    assert bodies == [data]
    assert runs.outputs() == {"a.out": data}
    assert (progress["records"], progress["bytes"]) == (records, len(data))


async def test_single_records_have_no_limit_either(runs: Runs) -> None:
    runs.put({"in/a": b"x" * (8 << 20) + b"\n1\n"})
    with container(lambda body: (200, b"%d" % len(body))) as address:
        job = runs.job(
            address, MaxPayloadInMB=0, BatchStrategy="SingleRecord", TransformOutput={"AssembleWith": "Line"}
        )
        error, progress = await runs.drive(job)
    assert (error, progress["records"], runs.outputs()) == ("", 2, {"a.out": b"8388608\n1\n"})


async def test_with_data_processing_the_object_is_held(runs: Runs) -> None:
    runs.put({"in/a": b"i,1\nj,2\n"})
    with container(lambda body: (200, body)) as address:
        processing = {"InputFilter": "$[1:]", "JoinSource": "Input"}
        error, _ = await runs.drive(runs.job(address, MaxPayloadInMB=0, DataProcessing=processing))
    assert (error, runs.outputs()) == ("", {"a.out": b"i,1,1\nj,2,2\n"})


async def test_gzip_is_taken_off_on_the_way(runs: Runs) -> None:
    runs.put({"in/a.gz": gzip.compress(LARGE), "in/b.gz": gzip.compress(LARGE)[:-1000]})
    with container(lambda body: (200, body)) as address:
        job = runs.job(address, MaxPayloadInMB=0, TransformInput={"SplitType": "None", "CompressionType": "Gzip"})
        error, _ = await runs.drive(job)
    assert runs.outputs() == {"a.gz.out": LARGE}
    assert error.startswith("ClientError: ")
    assert "in/b.gz, record 1: the object is not whole gzip" in error


async def test_a_pipeline_passes_pieces_on(runs: Runs) -> None:
    runs.put({"in/a": LARGE})
    with container(lambda body: (200, body[::-1])) as first, container(lambda body: (200, body[::-1])) as last:
        error, _ = await runs.drive(runs.job(first, last, MaxPayloadInMB=0, TransformInput=NONE))
    assert (error, runs.outputs()) == ("", {"a.out": LARGE})


async def test_each_attempt_begins_anew(runs: Runs) -> None:
    runs.put({"in/a": LARGE})
    statuses = [500, 503, 200]
    with container(lambda body: (statuses.pop(0), body)) as address:
        error, progress = await runs.drive(runs.job(address, MaxPayloadInMB=0, TransformInput=NONE))
    assert (error, runs.outputs()) == ("", {"a.out": LARGE})
    assert progress["bytes"] == len(LARGE)


@pytest.mark.parametrize("position", [0, 1])
async def test_a_refusal_is_told(runs: Runs, position: int) -> None:
    runs.put({"in/a": b"x" * 1000, "in/b": b"y"})

    def refuse(body: bytes) -> tuple[int, bytes]:
        return (400, b"I do not like x") if b"x" in body else (200, body)

    answers = [lambda body: (200, body)] * 2
    answers[position] = refuse
    with container(answers[0]) as first, container(answers[1]) as last:
        job = runs.job(first, last, MaxPayloadInMB=0, TransformInput=NONE, ModelClientConfig=NO_RETRY)
        error, _ = await runs.drive(job)
    assert f"s3://{BUCKET}/in/a, record 1: the model answered 400: I do not like x" in error
    assert runs.outputs() == {"b.out": b"y"}
    (told,) = runs.errors()
    assert (told["status"], told["request"], told["response"]) == (400, "x" * 300, "I do not like x")


async def test_a_refused_object_is_left_out_when_that_is_wished(runs: Runs) -> None:
    runs.put({"in/a": b"x", "in/b": b"y"})
    with container(lambda body: (500 if body == b"x" else 200, body)) as address:
        skip = {"SAGEWRIGHT_TRANSFORM_ON_ERROR": "skip"}
        job = runs.job(address, MaxPayloadInMB=0, TransformInput=NONE, ModelClientConfig=NO_RETRY, Environment=skip)
        error, progress = await runs.drive(job)
    assert (error, progress["skipped"], runs.outputs()) == ("", 1, {"a.out": b"", "b.out": b"y"})


async def test_an_answer_may_begin_before_the_request_has_ended(runs: Runs) -> None:
    """Neither side may wait for the other: each piece is answered when it comes."""
    runs.put({"in/a": LARGE})

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while size := int(await reader.readline(), 16):
            piece = await reader.readexactly(size + 2)
            writer.write(b"%x\r\n" % size + piece)
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with raw(echo) as address:
        error, _ = await runs.drive(runs.job(address, MaxPayloadInMB=0, TransformInput=NONE))
    assert (error, runs.outputs()) == ("", {"a.out": LARGE})


async def test_silence_ends_an_attempt(runs: Runs) -> None:
    runs.put({"in/a": LARGE * 3})

    async def stuck(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    limits = {"InvocationsTimeoutInSeconds": 1, "InvocationsMaxRetries": 0}
    async with raw(stuck) as address:
        job = runs.job(address, MaxPayloadInMB=0, TransformInput=NONE, ModelClientConfig=limits)
        error, _ = await runs.drive(job)
    assert "AlgorithmError" in error
    assert "no byte moved within 1 s" in error


async def test_a_torn_answer_is_none(runs: Runs) -> None:
    runs.put({"in/a": b"x"})

    async def torn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()

    async with raw(torn) as address:
        job = runs.job(address, MaxPayloadInMB=0, TransformInput=NONE, ModelClientConfig=NO_RETRY)
        error, _ = await runs.drive(job)
    assert "closed before the answer was whole" in error
    assert runs.outputs() == {}


async def test_an_answer_may_end_with_its_connection(runs: Runs) -> None:
    runs.put({"in/a": b"x"})

    async def old(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nall of it")
        await writer.drain()

    async with raw(old) as address:
        error, _ = await runs.drive(runs.job(address, MaxPayloadInMB=0, TransformInput=NONE))
    assert (error, runs.outputs()) == ("", {"a.out": b"all of it"})
