"""The S3 operations driven without HTTP: a decoded call in, a result or a fault out."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sagewright.blobs.files import FileBlobs
from sagewright.core.clock import SystemClock
from sagewright.core.context import Ctx, Principal
from sagewright.core.ids import Account, Region, new_request_id
from sagewright.objects.api import ObjectApi
from sagewright.store.db import Database
from sagewright.wire.codec import Call
from sagewright.wire.faults import ApiFault

ACCOUNT = Account("000000000000")
REGION = Region("us-east-1")
STRANGER = Account("999999999999")


class Stream:
    """A request body in chunks, with trailers that are known once it has been read; it may break on the way."""

    def __init__(self, chunks: list[bytes], trailers: Mapping[str, str] | None = None, breaks: Exception | None = None):
        self._chunks = chunks
        self._trailers = dict(trailers or {})
        self._breaks = breaks
        self.trailers: dict[str, str] = {}

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk
        if self._breaks:
            raise self._breaks
        self.trailers = self._trailers


@dataclass
class S3:
    """`await s3("PutObject", Bucket=..., ...)`. What lies on disk can be asked for."""

    api: ObjectApi
    store: Database
    blobs: FileBlobs
    root: Path
    account: Account = ACCOUNT

    async def __call__(self, operation: str, stream: Stream | None = None, **params: Any) -> Mapping[str, Any]:
        principal = Principal(self.account, f"arn:aws:iam::{self.account}:root", self.account, "AKIA")
        ctx = Ctx(self.account, REGION, principal, SystemClock().now(), new_request_id(), "http://127.0.0.1:8470")
        body = _Traced(stream) if stream is not None else None
        return await self.api.call(ctx, Call("s3", operation, params, body))

    async def fault(self, operation: str, stream: Stream | None = None, **params: Any) -> ApiFault:
        with pytest.raises(ApiFault) as caught:
            await self(operation, stream, **params)
        return caught.value

    async def bytes_of(self, bucket: str, key: str, **params: Any) -> bytes:
        return await read_all((await self("GetObject", Bucket=bucket, Key=key, **params))["Body"])

    def files(self) -> list[Path]:
        """Every file below the blob folder, half-written ones too."""
        return [path for path in self.root.rglob("*") if path.is_file()]


class _Traced:
    """An async iterator that carries the stream's trailers, as the gateway's does."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._iterator = stream.__aiter__()

    @property
    def trailers(self) -> Mapping[str, str]:
        return self._stream.trailers

    def __aiter__(self) -> _Traced:
        return self

    async def __anext__(self) -> bytes:
        return await self._iterator.__anext__()


async def read_all(body: bytes | AsyncIterator[bytes]) -> bytes:
    return body if isinstance(body, bytes) else b"".join([chunk async for chunk in body])


def open_s3(folder: Path) -> S3:
    store = Database.open(folder / "test.db")
    blobs = FileBlobs(folder / "blobs")
    api = ObjectApi(store, blobs, account=ACCOUNT, region=REGION, clock=SystemClock())
    return S3(api, store, blobs, folder / "blobs")
