"""Request bodies on their way into content.

    stream ──► batches of 1 MiB ──► thread: hash and write (the next batch is gathered meanwhile)
                                        └──► last: verify, make durable, commit the row, remove what was replaced

Owns: where the bytes of a call are, the way into threads, what happens when the client or the disk gives up.
Does not own: the writer (`objects.content`), the rows that the caller's `finish` writes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sagewright.objects.checksums import Algorithm, Claim, algorithm_named, claimed, decode_md5, verify
from sagewright.objects.content import MAX_UPLOAD, ContentWriter, checksum_of
from sagewright.objects.faults import bad_digest, entity_too_large, invalid_request
from sagewright.objects.storage import Run, Storage
from sagewright.wire.codec import Call

T = TypeVar("T")

BATCH: Final = 1024 * 1024
"""Bytes gathered before a thread is troubled: the way there costs 0.1 ms, hashing this much 2 ms."""


class Upload:
    """The body of one PutObject or UploadPart. Errors: EntityTooLarge, BadDigest, InvalidDigest, InvalidRequest.

    `required` is the algorithm of an upload in parts: it is computed whether the client claims a value or not, and a
    claim of another one is refused.
    """

    def __init__(self, storage: Storage, call: Call, required: Algorithm | None = None) -> None:
        self._call = call
        self._storage = storage
        self._required = required
        self._md5 = decode_md5(call.params.get("ContentMD5"))
        announced = _announced(call.params)
        self._check_same(announced)
        self._algorithm = required or announced
        _check_length(call.params)
        algorithms = [self._algorithm] if self._algorithm else []
        self.content = ContentWriter(storage.store, storage.blobs, algorithms, most=MAX_UPLOAD)
        self.claim: Claim | None = None

    async def receive(self, finish: Callable[[], T]) -> T:
        """Take the body in, verify it, and run `finish`, which publishes the content, in a thread."""

        def verified() -> T:
            self._verify()
            return finish()

        return await pour(self._storage.run, _body(self._call), self.content, verified)

    @property
    def checksums(self) -> dict[str, str]:
        """What to keep once verified: algorithm name → base64."""
        if self.claim is not None:
            return {self.claim.algorithm.name: self.claim.value}
        return {self._algorithm.name: self.content.checksum(self._algorithm)} if self._algorithm else {}

    def _verify(self) -> None:
        if self._md5 is not None and self._md5 != self.content.md5:
            raise bad_digest("The Content-MD5 you specified did not match what we received.")
        self.claim = claimed(self._call.params, getattr(self._call.stream, "trailers", None) or {})
        if self.claim is not None:
            self._check_same(self.claim.algorithm)
            verify(self.claim, self._actual(self.claim.algorithm))

    def _actual(self, algorithm: Algorithm) -> str:
        """A trailer that no header announced may name an algorithm that was not computed: then read the bytes again."""
        if self.content.computes(algorithm):
            return self.content.checksum(algorithm)
        self.content.make_durable()
        return checksum_of(self._storage.blobs, self.content.content_id, algorithm)

    def _check_same(self, given: Algorithm | None) -> None:
        if given is not None and self._required is not None and given is not self._required:
            raise invalid_request(
                f"Checksum Type mismatch occurred, expected checksum Type: {self._required.name.lower()}, "
                f"actual checksum Type: {given.name.lower()}"
            )


async def pour(run: Run, body: AsyncIterator[bytes], content: ContentWriter, finish: Callable[[], T]) -> T:
    """Write `body` to `content`, then `finish()`; after any error, and when cancelled, the content leaves no trace."""
    flight: asyncio.Future[Any] | None = None
    gathered: list[bytes] = []
    size = 0
    try:
        async for chunk in body:
            gathered.append(chunk)
            size += len(chunk)
            if size >= BATCH:
                if flight is not None:
                    await asyncio.shield(flight)
                flight = asyncio.ensure_future(run(_writing(content, gathered, _nothing)))
                gathered, size = [], 0
        if flight is not None:
            await asyncio.shield(flight)
        last = asyncio.ensure_future(run(_writing(content, gathered, finish)))
        flight = last
        return await asyncio.shield(last)
    except BaseException:
        await asyncio.shield(_abandon(run, content, flight))
        raise


async def _abandon(run: Run, content: ContentWriter, flight: asyncio.Future[Any] | None) -> None:
    """A thread cannot be stopped: let it end, then cancel, which does nothing when the content was published."""
    if flight is not None:
        await asyncio.wait([flight])
    await run(content.cancel)


def _writing(content: ContentWriter, chunks: Sequence[bytes], then: Callable[[], T]) -> Callable[[], T]:
    def work() -> T:
        if chunks:
            content.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        return then()

    return work


def _nothing() -> None:
    return None


async def _body(call: Call) -> AsyncIterator[bytes]:
    if call.stream is not None:
        async for chunk in call.stream:
            yield chunk
    elif body := call.params.get("Body"):
        yield body


def _announced(params: Mapping[str, Any]) -> Algorithm | None:
    """The algorithm to compute while streaming: that of a header with a value, or x-amz-sdk-checksum-algorithm."""
    if claim := claimed(params, {}):
        return claim.algorithm
    name = params.get("ChecksumAlgorithm")
    return algorithm_named(name) if name else None


def _check_length(params: Mapping[str, Any]) -> None:
    """Refuse early what is known to be too large. The length of an aws-chunked body says little."""
    length = params.get("ContentLength") or 0
    if length > MAX_UPLOAD and "aws-chunked" not in (params.get("ContentEncoding") or ""):
        raise entity_too_large(length, MAX_UPLOAD)
