"""One batch through the container, or through each of a pipeline's: time limits, retries, filters, bad records.

Owns: what a failed batch means, looking for the bad record in it. Does not own: order, output (`objects`), requests
that are not held (`whole`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, ParamSpec

from sagewright.batch import splitting
from sagewright.batch.connection import MODEL, Answer, Container, NoAnswer, TooLate, Unreachable
from sagewright.batch.options import Options
from sagewright.batch.processing import Mismatch, Processing
from sagewright.batch.splitting import Batch

P = ParamSpec("P")

_LONG: Final = 1 << 16  # bytes of records: some milliseconds of filtering
HEAD: Final = 300  # characters of requests and answers that are told
_PAUSE: Final = 0.1  # seconds before the first retry; doubled for each one after it


class BatchFailed(Exception):
    """`error` is what is told of it, ready for the error stream; `kind` is AWS's class of failure. `blames`: the
    records may be at fault; else they were not even sent."""

    def __init__(self, kind: str, error: Mapping[str, Any], *, blames: bool = True) -> None:
        super().__init__(error["reason"])
        self.kind = kind
        self.error = error
        self.blames = blames


Bad = Callable[[BatchFailed], None]


class Sender:
    """Of one process. `send` may run several times at once; how often is the caller's business."""

    def __init__(self, addresses: Sequence[str], options: Options, processing: Processing | None) -> None:
        self._containers = [Container(address) for address in addresses]
        self._options = options
        self._processing = processing
        self._lines = options.lines
        self._is_plain = processing is None and not options.skip
        self._headers = options.headers(options.content_type, last=len(self._containers) == 1)

    def close(self) -> None:
        for each in self._containers:
            each.close()

    async def send(self, batch: Batch, where: str, bad: Bad) -> bytes:
        """The output for the batch of the object `where`. Raises BatchFailed; where bad records are skipped, `bad` is
        told each instead."""
        if self._is_plain:
            return self._assembled((await self._asked(batch, batch.data, self._options.retries)).body)
        if not self._options.skip:
            return await self._transform(batch, where, self._options.retries)
        try:
            return await self._transform(batch, where, self._options.retries if batch.records == 1 else 0)
        except BatchFailed as error:
            if not error.blames:
                raise
            if batch.records == 1:
                bad(error)
                return b""
        return await self._parts(batch, where, bad)

    async def _parts(self, batch: Batch, where: str, bad: Bad) -> bytes:
        """Halve it until the bad record stands alone."""
        records = splitting.records(batch.data, self._options.split)
        middle = len(records) // 2
        halves = (
            Batch(b"".join(records[:middle]), batch.first, middle),
            Batch(b"".join(records[middle:]), batch.first + middle, len(records) - middle),
        )
        return b"".join([await self.send(half, where, bad) for half in halves])

    async def _transform(self, batch: Batch, where: str, retries: int) -> bytes:
        processing = self._processing
        if processing is None:
            output = (await self._asked(batch, batch.data, retries)).body
        else:
            try:
                body = await _aside(len(batch.data), processing.before, batch.data)
                answer = await self._asked(batch, body, retries)
                output = await _aside(len(batch.data), processing.after, batch, answer.body, where)
            except Mismatch as error:
                raise _mismatched(batch, error, self._options.split) from None
        return self._assembled(output)

    def _assembled(self, output: bytes) -> bytes:
        return output + b"\n" if self._lines and not output.endswith(b"\n") else output

    async def _asked(self, batch: Batch, body: bytes, retries: int) -> Answer:
        """The first good answer."""
        attempt = 0
        ask = self._through if len(self._containers) > 1 else self._once
        while True:
            try:
                answer = await ask(body)
            except NoAnswer as error:
                failure = unanswered(batch, error)
            else:
                if 200 <= answer.status < 300:
                    return answer
                failure = refused(batch, answer.status, answer.body, answer.who)
            if attempt == (retries if failure.blames else self._options.retries):
                raise failure
            await pause(attempt)
            attempt += 1

    def _once(self, body: bytes) -> Coroutine[Any, Any, Answer]:
        return self._containers[0].post("/invocations", self._headers, body, self._options.timeout)

    async def _through(self, body: bytes) -> Answer:
        """Each container of a pipeline gets what the one before it answered."""
        options, several = self._options, len(self._containers)
        kind = options.content_type
        for number, each in enumerate(self._containers, start=1):
            headers = options.headers(kind, last=number == several)
            try:
                answer = await each.post("/invocations", headers, body, options.timeout)
            except NoAnswer as error:
                raise type(error)(f"container {number} of {several}: {error}") from None
            if not 200 <= answer.status < 300:
                return answer._replace(who=f"container {number} of {several}")
            body, kind = answer.body, answer.content_type
        return answer


async def _aside(size: int, work: Callable[P, bytes], *given: P.args, **named: P.kwargs) -> bytes:
    """What takes long is done by a thread: other requests' answers and time limits must not wait for it."""
    if size < _LONG:
        return work(*given, **named)
    return await asyncio.to_thread(work, *given, **named)


async def pause(attempt: int) -> None:
    """Before the retry that follows attempt number `attempt`, from 0."""
    await asyncio.sleep(_PAUSE * 2**attempt)


def unanswered(batch: Batch, error: NoAnswer) -> BatchFailed:
    limit = " (ModelClientConfig.InvocationsTimeoutInSeconds)" if isinstance(error, TooLate) else ""
    return failed("AlgorithmError", batch, f"{error}{limit}", blames=not isinstance(error, Unreachable))


def refused(batch: Batch, status: int, body: bytes, who: str = MODEL) -> BatchFailed:
    told = body[:HEAD].decode("utf-8", "replace")
    kind = "ClientError" if 400 <= status < 500 else "AlgorithmError"
    return failed(kind, batch, f"{who} answered {status}: {told}", status, told)


def failed(
    kind: str, batch: Batch, reason: str, status: int | None = None, response: str = "", *, blames: bool = True
) -> BatchFailed:
    error = {
        "record": batch.first,
        "records": batch.records,
        "reason": reason,
        "status": status,
        "request": batch.data[:HEAD].decode("utf-8", "replace"),
        "response": response,
    }
    return BatchFailed(kind, error, blames=blames)


def _mismatched(batch: Batch, error: Mismatch, split: str) -> BatchFailed:
    """It is one record's fault when the error knows which."""
    if error.record is not None and batch.records > 1:
        numbered = [each for each in enumerate(splitting.records(batch.data, split)) if each[1].strip()]
        if error.record < len(numbered):
            number, record = numbered[error.record]
            batch = Batch(record, batch.first + number, 1)
    return failed("ClientError", batch, str(error))
