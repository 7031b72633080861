"""Objects that go in one request of any size: MaxPayloadInMB=0. Nothing is held of them.

Each attempt begins with the first byte, and with an output that is empty. Owns: attempts, what their failure means.
Does not own: the bytes on the wire (`streaming`), the object (`under_way`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing

from sagewright.batch import splitting
from sagewright.batch.connection import NoAnswer
from sagewright.batch.inputs import ObjectStore
from sagewright.batch.options import Options
from sagewright.batch.sending import HEAD, BatchFailed, pause, refused, unanswered
from sagewright.batch.splitting import BadRecord, Batch
from sagewright.batch.streaming import Pieces, Streamed, post
from sagewright.batch.under_way import NOT_GZIP, UnderWay, unreadable


async def transform(run: UnderWay, objects: ObjectStore, addresses: Sequence[str], options: Options) -> None:
    """`run` is open. Its output is written, or it has failed, or, where bad records are skipped, it stays empty."""
    attempt = 0
    while (failure := await _Attempt(run, addresses, options).make()) is not None:
        final = failure.error["status"] is None and failure.kind == "ClientError"  # another attempt reads the same
        if final or attempt == options.retries:
            run.skip(failure) if options.skip and failure.blames and not final else run.fail(failure)
            return
        await pause(attempt)
        attempt += 1
        run.open(objects)
        if run.failure is not None:
            return


class _Attempt:
    def __init__(self, run: UnderWay, addresses: Sequence[str], options: Options) -> None:
        self._run = run
        self._addresses = addresses
        self._options = options
        self._records = 0
        self._head = b""

    async def make(self) -> BatchFailed | None:
        try:
            streamed = await self._through()
            async with aclosing(streamed.pieces):
                if 200 <= streamed.status < 300:
                    await self._write(streamed.pieces)
                    self._run.wrote(self._records)
                    return None
                return refused(self._sent, streamed.status, await _start(streamed.pieces))
        except NoAnswer as error:
            return unanswered(self._sent, error)
        except (BadRecord, *NOT_GZIP) as error:
            return unreadable(error, self._records + 1)

    async def _through(self) -> Streamed:
        options, last = self._options, self._addresses[-1]
        headers = options.headers(options.content_type, last=len(self._addresses) == 1)
        streamed = await post(self._addresses[0], headers, self._read(), options.timeout)
        for each in self._addresses[1:]:
            if not 200 <= streamed.status < 300:
                break
            headers = options.headers(streamed.content_type, last=each is last)
            streamed = await post(each, headers, streamed.pieces, options.timeout)
        return streamed

    async def _read(self) -> Pieces:
        for data, records in splitting.pieces(self._run.content, self._options.split):
            self._records += records
            if len(self._head) < HEAD:
                self._head += data[:HEAD]
            if data:
                yield data

    async def _write(self, pieces: Pieces) -> None:
        last = b""
        async for piece in pieces:
            self._run.write(piece)
            last = piece[-1:]
        if self._options.lines and last != b"\n":
            self._run.write(b"\n")

    @property
    def _sent(self) -> Batch:
        return Batch(self._head, 1, max(self._records, 1))


async def _start(pieces: Pieces) -> bytes:
    """Of an answer that is an error."""
    found = b""
    async for piece in pieces:
        found += piece
        if len(found) >= HEAD:
            break
    return found[:HEAD]
