"""Request bodies as they come off a connection, and reading them whole.

Owns: the stream over ASGI's `receive`, size limits, what a lost client means. Does not own: signatures over bodies
(`wire.payload`). Backpressure is the connection's: nothing is read from the socket while nobody asks for more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

from sagewright.wire.denials import Family
from sagewright.wire.faults import ApiFault
from sagewright.wire.messages import HttpRequest

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]


class ClientGone(Exception):
    """The client closed the connection in the middle of its request: there is nobody to answer, nothing to commit."""


class BodyStream:
    """The pieces of one body. Raises ClientGone instead of ending when the rest will not come."""

    __slots__ = ("_more", "_receive", "asked")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._more = True
        self.asked = False  # whether anything was asked for (which is what sends `100 Continue`)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self.asked = True
        while self._more:
            message = await self._receive()
            if message["type"] != "http.request":
                raise ClientGone
            self._more = message.get("more_body", False)
            if piece := message.get("body"):
                return bytes(piece)
        raise StopAsyncIteration


async def read_whole(request: HttpRequest, limit: int, family: Family) -> HttpRequest:
    """The request with its body in memory. Raises ApiFault 413 above `limit` bytes, and what its stream raises."""
    if request.body is not None:
        return request
    announced = request.headers.get("content-length") or ""
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit, family)
    pieces, size = [], 0
    if request.stream is not None:
        async for piece in request.stream:
            size += len(piece)
            if size > limit:
                raise _too_large(limit, family)
            pieces.append(piece)
    body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    return HttpRequest(
        request.method,
        request.raw_path,
        request.raw_query,
        request.headers,
        body,
        None,
        request.scheme,
        request.client,
    )


def has_length(request: HttpRequest) -> bool:
    """Whether the client said, in one of HTTP's ways, where the body ends."""
    return "content-length" in request.headers or "transfer-encoding" in request.headers


def _too_large(limit: int, family: Family) -> ApiFault:
    code = {
        Family.S3: "EntityTooLarge",
        Family.JSON: "RequestEntityTooLargeException",
        Family.QUERY: "RequestEntityTooLarge",
    }
    sentence = (
        f"The request's body is larger than {limit} bytes, the most that this kind of request may have. Send less."
    )
    return ApiFault(code[family], sentence, 413)
