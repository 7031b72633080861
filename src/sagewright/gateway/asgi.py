"""The gateway as an ASGI application: scopes to requests, responses to messages.

Owns: that translation, and no more: there is no middleware and no router here. Backpressure is ASGI's own: `receive`
reads from the socket only when asked, `send` waits while the client is slower than we are.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

from sagewright.gateway.bodies import BodyStream, ClientGone, Message, Receive
from sagewright.wire.messages import Headers, HttpRequest, HttpResponse

Send = Callable[[Message], Awaitable[None]]
Scope = Mapping[str, Any]
_log = logging.getLogger("sagewright.gateway")


class Application(Protocol):
    """`gateway.application.Gateway`, or what a test puts in its place."""

    async def handle(self, request: HttpRequest) -> HttpResponse: ...


class AsgiApp:
    """One instance serves all connections."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, expects = _request(scope, receive)
        try:
            response = await self._application.handle(request)
        except ClientGone:
            return
        if expects and isinstance(request.stream, BodyStream) and not request.stream.asked:
            # Refused before `100 Continue`: the body may come or not, so the connection cannot be used again.
            response.headers.add("connection", "close")
        await _send_response(scope, response, send)


def _request(scope: Scope, receive: Receive) -> tuple[HttpRequest, bool]:
    """The request, and whether the client waits for `100 Continue`."""
    headers, has_body, expects = [], False, False
    for raw_name, raw_value in scope["headers"]:
        headers.append((raw_name.decode("latin-1"), raw_value.decode("latin-1")))
        if raw_name == b"content-length":
            has_body = has_body or raw_value != b"0"
        elif raw_name == b"transfer-encoding":
            has_body = True
        elif raw_name == b"expect":
            expects = True
    client = scope["client"]
    request = HttpRequest(
        method=scope["method"],
        raw_path=scope["raw_path"].decode("latin-1"),
        raw_query=scope["query_string"].decode("latin-1"),
        headers=Headers(headers),
        body=None if has_body else b"",
        stream=BodyStream(receive) if has_body else None,
        scheme=scope["scheme"],
        client=client[0] if client else "",
    )
    return request, expects


async def _send_response(scope: Scope, response: HttpResponse, send: Send) -> None:
    body, headers = response.body, response.headers
    if "content-length" not in headers:
        length = len(body) if isinstance(body, bytes) else response.length
        if length is not None and response.status not in {204, 304}:
            headers.add("content-length", str(length))
    raw = [(name.encode("latin-1"), _header_bytes(value)) for name, value in headers]
    await send({"type": "http.response.start", "status": response.status, "headers": raw})
    if isinstance(body, bytes):
        await send({"type": "http.response.body", "body": body})
    else:
        await _send_stream(scope, body, send)


async def _send_stream(scope: Scope, body: AsyncIterator[bytes], send: Send) -> None:
    """Stops at once when the client has gone. A failure after the first byte can only cut the connection."""
    connection = scope.get("state", {}).get("connection")
    span = getattr(body, "span", None)
    try:
        if span is not None and connection is not None and connection.sends_files:
            if not await connection.send_file(span):
                return
        else:
            async for piece in body:
                if connection is not None and connection.gone:
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    except Exception:
        _log.exception("a response to %s was cut short", scope["raw_path"].decode("latin-1"))
        if connection is not None:
            connection.transport.abort()
    finally:
        if (close := getattr(body, "aclose", None)) is not None:
            await close()


def _header_bytes(value: str) -> bytes:
    """As it came in (see `wire.canonical`), or UTF-8 for text that no request can have brought."""
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:
        return value.encode("utf-8")
