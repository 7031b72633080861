"""Chunked answers of the engine, cut anywhere; and what comes when they are cut short."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sagewright.backends.docker import raw

OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.data())
def test_chunks_cut_anywhere_give_the_content(pieces: list[bytes], data: st.DataObject) -> None:
    body = chunked(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=8)))
    chunks, given_back, begin = raw.Chunks(), b"", 0
    for cut in [*cuts, len(body)]:
        assert not chunks.ended or begin >= len(body) - 2
        given_back += chunks.feed(body[begin:cut])
        begin = cut
    assert given_back == b"".join(pieces)
    assert chunks.ended


@asynccontextmanager
async def answering(folder: Path, *parts: bytes) -> AsyncIterator[str]:
    """A socket that answers with these bytes and closes."""

    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):  # the client may have had enough
            await reader.readuntil(b"\r\n\r\n")
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        served.set()

    async with await asyncio.start_unix_server(serve, folder / "s"):
        yield str(folder / "s")
        await served.wait()


async def read(socket: str) -> bytes:
    return b"".join([piece async for piece in raw.get(socket, "/x", 5)])


async def test_an_answer_in_pieces_is_read_to_its_end(tmp_path: Path) -> None:
    whole = OK + chunked([b"one\r\n", b"two"])
    async with answering(tmp_path, whole[:30], whole[30:70], whole[70:]) as socket:
        assert await read(socket) == b"one\r\ntwo"


async def test_podman_says_the_length_of_an_empty_log(tmp_path: Path) -> None:
    async with answering(tmp_path, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") as socket:
        assert await read(socket) == b""


@pytest.mark.parametrize("cut", [0, 10, len(OK), len(OK) + 4, len(OK) + 12])
async def test_a_cut_is_not_the_end(tmp_path: Path, cut: int) -> None:
    async with answering(tmp_path, (OK + chunked([b"1234567", b"8"]))[:cut]) as socket:
        with pytest.raises(ConnectionResetError):
            await read(socket)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone",
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked([b"go", b"ne"]),
    ],
)
async def test_a_refusal_has_the_engine_s_words(tmp_path: Path, answer: bytes) -> None:
    async with answering(tmp_path, answer) as socket:
        with pytest.raises(raw.Answered) as told:
            await read(socket)
    assert (told.value.status, told.value.body) == (404, "gone")


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-x\r\n\r\n",
        OK + b"zz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nbody",
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
    ],
)
async def test_what_is_no_chunked_http_is_an_error(tmp_path: Path, answer: bytes) -> None:
    async with answering(tmp_path, answer) as socket:
        with pytest.raises(ValueError):
            await read(socket)
