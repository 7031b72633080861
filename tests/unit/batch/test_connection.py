"""Kept connections: what counts as an answer, and what does not."""

from __future__ import annotations

import asyncio

import pytest

from sagewright.batch.connection import Answer, Container, NoAnswer
from support.transform_runs import Serve, raw

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 2\r\n\r\nok"


def replies(*texts: bytes, close: bool = False) -> Serve:
    """One text per request."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for number, text in enumerate(texts):
            if number:
                await reader.readline()
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(1)
            writer.write(text)
            await writer.drain()
        if not close:
            await reader.read()

    return serve


async def asked(address: str, times: int = 1, seconds: float = 5.0) -> list[Answer]:
    made = Container(address)
    try:
        return [await made.post("/invocations", "Content-Type: text/csv\r\n", b"x", seconds) for _ in range(times)]
    finally:
        made.close()


@pytest.mark.parametrize(
    "text",
    [
        OK,
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/csv\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n",
    ],
)
async def test_answers(text: bytes) -> None:
    async with raw(replies(text)) as address:
        assert await asked(address) == [Answer(200, "text/csv", b"ok")]


async def test_an_answer_without_a_length_ends_with_the_connection() -> None:
    async with raw(replies(b"HTTP/1.0 200 OK\r\n\r\nok", close=True)) as address:
        assert await asked(address) == [Answer(200, "", b"ok")]


async def test_a_connection_is_kept() -> None:
    async with raw(replies(*[OK] * 3)) as address:
        assert [each.body for each in await asked(address, 3)] == [b"ok"] * 3


async def test_a_kept_connection_that_was_closed_is_replaced() -> None:
    """Nothing was heard on it: the request reached nobody, and is no attempt."""
    async with raw(replies(OK, close=True)) as address:
        assert len(await asked(address, 4)) == 4


async def test_a_connection_that_is_to_be_closed_is_not_kept() -> None:
    closing = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    async with raw(replies(closing)) as address:
        assert len(await asked(address, 3)) == 3


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "closed before the answer was whole"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", "closed before the answer was whole"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
    ],
)
async def test_what_is_no_answer(text: bytes, why: str) -> None:
    async with raw(replies(text, close=True)) as address:
        with pytest.raises(NoAnswer, match=why):
            await asked(address)


async def test_a_time_limit() -> None:
    async with raw(replies(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")) as address:
        with pytest.raises(NoAnswer, match=r"no answer within 0\.3 s"):
            await asked(address, seconds=0.3)


async def test_nobody_listens() -> None:
    async with raw(replies()) as address:
        pass
    with pytest.raises(NoAnswer, match="no connection"):
        await asked(address)


async def test_several_at_once_have_connections_of_their_own() -> None:
    async with raw(replies(*[OK] * 2)) as address:
        made = Container(address)
        found = await asyncio.gather(*(made.post("/invocations", "", b"x", 5.0) for _ in range(20)))
        assert {each.body for each in found} == {b"ok"}
        assert len(made._idle) == 20
        made.close()
