"""One batch through the container, or through each of a pipeline's: time limits, retries, filters, bad records.

Owns: what a failed batch means, looking for the bad record in it. Does not own: order, output (`driver`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from sagewright.batch import splitting
from sagewright.batch.connection import Answer, Container, NoAnswer
from sagewright.batch.options import Options
from sagewright.batch.processing import Mismatch, Processing
from sagewright.batch.splitting import Batch

HEAD: Final = 300  # characters of requests and answers that are told
_PAUSE: Final = 0.1  # seconds before the first retry; doubled for each one after it


class BatchFailed(Exception):
    """`error` is what is told of it, ready for the error stream; `kind` is AWS's class of failure."""

    def __init__(self, kind: str, error: Mapping[str, Any]) -> None:
        super().__init__(error["reason"])
        self.kind = kind
        self.error = error


class Sender:
    def __init__(self, addresses: Sequence[str], options: Options, processing: Processing | None) -> None:
        self._containers = [Container(address) for address in addresses]
        self._options = options
        self._processing = processing
        self._permits = asyncio.Semaphore(options.concurrency)

    def close(self) -> None:
        for each in self._containers:
            each.close()

    async def send(self, batch: Batch, bad: Callable[[BatchFailed], None]) -> bytes:
        """The output for the batch. Raises BatchFailed; where bad records are skipped, `bad` is told each instead."""
        try:
            async with self._permits:
                return await self._transform(batch, self._options.retries)
        except BatchFailed as error:
            if not self._options.skip:
                raise
            if batch.records == 1:
                bad(error)
                return b""
        return await self._parts(batch, bad)

    async def _parts(self, batch: Batch, bad: Callable[[BatchFailed], None]) -> bytes:
        """Halve it until the bad record stands alone."""
        records = splitting.records(batch.data, self._options.split)
        middle = len(records) // 2
        halves = (
            Batch(b"".join(records[:middle]), batch.first, middle),
            Batch(b"".join(records[middle:]), batch.first + middle, len(records) - middle),
        )
        return b"".join([await self.send(half, bad) for half in halves])

    async def _transform(self, batch: Batch, retries: int) -> bytes:
        try:
            body = self._processing.before(batch.data) if self._processing else batch.data
            answer = await self._asked(batch, body, retries)
            output = self._processing.after(batch.data, answer.body) if self._processing else answer.body
        except Mismatch as error:
            raise _failed("ClientError", batch, str(error)) from None
        return output + b"\n" if self._options.lines and not output.endswith(b"\n") else output

    async def _asked(self, batch: Batch, body: bytes, retries: int) -> Answer:
        for attempt in range(retries + 1):
            if attempt:
                await asyncio.sleep(_PAUSE * 2 ** (attempt - 1))
            try:
                answer = await self._through(body)
            except NoAnswer as error:
                failure = _failed("AlgorithmError", batch, str(error))
                continue
            if 200 <= answer.status < 300:
                return answer
            told = answer.body[:HEAD].decode("utf-8", "replace")
            kind = "ClientError" if 400 <= answer.status < 500 else "AlgorithmError"
            failure = _failed(kind, batch, f"the model answered {answer.status}: {told}", answer.status, told)
        raise failure

    async def _through(self, body: bytes) -> Answer:
        """Each container of a pipeline gets what the one before it answered."""
        first, *others = self._containers
        answer = await first.post("/invocations", self._options.headers, body, self._options.timeout)
        for each in others:
            if not 200 <= answer.status < 300:
                break
            headers = f"Content-Type: {answer.content_type}\r\n" if answer.content_type else ""
            answer = await each.post("/invocations", headers, answer.body, self._options.timeout)
        return answer


def _failed(kind: str, batch: Batch, reason: str, status: int | None = None, response: str = "") -> BatchFailed:
    error = {
        "record": batch.first,
        "records": batch.records,
        "reason": reason,
        "status": status,
        "request": batch.data[:HEAD].decode("utf-8", "replace"),
        "response": response,
    }
    return BatchFailed(kind, error)
