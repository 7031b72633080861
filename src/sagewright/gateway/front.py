"""The first bytes of a connection: which of the things that this port speaks they begin.

            ┌──────┐ origin-form ─────────────────────────────▶ GatewayHttp
    accept ▶│ peek │ http://AWS/…, http://us/… ──────────────▶ GatewayHttp (one request)
            └──────┘ http://other/… ──────────▶ connect ──────▶ relay      (one request)
                │    CONNECT AWS:443 ─────────▶ TLS handshake ▶ GatewayHttp
                │    CONNECT AWS:80 ──────────────────────────▶ GatewayHttp
                │    CONNECT other:port ──────▶ connect ──────▶ relay
                └─── anything else ─────────────────────────── refused or closed

Owns: that decision and the hand-over. Does not own: HTTP (`gateway.http`), the joined bytes (`gateway.relay`), the way
out (`gateway.upstream`), certificates (`gateway.authority`), who may use the proxy (`gateway.clients`).
After the hand-over this object is out of the way: a request costs nothing for having passed here.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterator, MutableSet, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast

from sagewright.core.errors import SettingsError
from sagewright.gateway.authority import Authority
from sagewright.gateway.clients import Network, is_loopback, may_use_proxy
from sagewright.gateway.forwarding import Head, forwarded, parse_head
from sagewright.gateway.hosts import is_aws, parse_absolute, parse_authority
from sagewright.gateway.http import KEEP_ALIVE, GatewayHttp
from sagewright.gateway.peek import Kind, peek
from sagewright.gateway.refusals import HEAD_LIMIT, LONGEST_HEAD, Refused, head_too_large, head_too_slow
from sagewright.gateway.relay import End
from sagewright.gateway.upstream import Asking, Outside

_HANDSHAKE_LIMIT: Final = 15.0  # seconds
_LINGER: Final = 2.0  # seconds for a refused client to read the refusal
_ESTABLISHED: Final = b"HTTP/1.1 200 Connection established\r\n\r\n"
_log = logging.getLogger("sagewright.gateway")


@dataclass(frozen=True, slots=True)
class Frontage:
    """What every connection of one server shares."""

    http: Callable[[], GatewayHttp]
    authority: Authority
    outside: Outside
    networks: Sequence[Network]
    connections: MutableSet[Any]  # of `gateway.http.Connection`
    tasks: MutableSet[asyncio.Task[None]]


class Front(asyncio.Protocol):
    """One connection until it is known what it speaks."""

    def __init__(self, frontage: Frontage, loop: asyncio.AbstractEventLoop) -> None:
        self._frontage = frontage
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._since = loop.time()
        self._leading = True  # False once the decision is made
        self._closing_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._frontage.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._frontage.connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._closing_at is not None:
            return
        self._buffer = self._buffer + data if self._buffer else data
        if self._leading:
            self._decide()

    def eof_received(self) -> None:
        """Closes; nobody who speaks to a proxy leaves before it has answered."""

    def shutdown(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def check(self, now: float) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._closing_at is not None:
            if now > self._closing_at:
                self._transport.abort()
        elif self._leading and not self._buffer:
            if now - self._since > KEEP_ALIVE:
                self._transport.close()
        elif self._leading and now - self._since > HEAD_LIMIT:
            self._refuse(head_too_slow())

    def _decide(self) -> None:
        kind = peek(self._buffer)
        if kind is Kind.HTTP:
            self._hand_over(self._require_transport())
        elif kind is Kind.TLS:
            # Somebody wrote https:// for this port. There is no way to tell them in words.
            self._leading = False
            self._require_transport().close()
        elif kind is Kind.PROXY:
            end = self._buffer.find(b"\r\n\r\n")
            if end >= 0:
                self._lead(self._buffer[:end], self._buffer[end + 4 :])
            elif len(self._buffer) > LONGEST_HEAD:
                self._refuse(head_too_large())

    def _hand_over(self, transport: asyncio.Transport) -> None:
        """From here on the connection is an ordinary HTTP connection."""
        self._leading = False
        self._frontage.connections.discard(self)
        http = self._frontage.http()
        transport.set_protocol(http)
        http.connection_made(transport)
        if self._buffer:
            buffer, self._buffer = self._buffer, b""
            http.data_received(buffer)

    def _lead(self, raw_head: bytes, rest: bytes) -> None:
        """A proxy request is whole: carry it out, reading no further meanwhile."""
        self._leading = False
        transport = self._require_transport()
        try:
            head = parse_head(raw_head)
            if head.method != "CONNECT" and self._is_for_us(head.target):
                self._hand_over(transport)
                return
            self._check_client()
        except ValueError as error:
            self._refuse(Refused(400, "Bad Request", f"The request to the proxy cannot be read: {error}."))
            return
        except Refused as refused:
            self._refuse(refused)
            return
        transport.pause_reading()
        self._buffer = rest
        task = self._loop.create_task(self._carry_out(head))
        self._frontage.tasks.add(task)
        task.add_done_callback(self._frontage.tasks.discard)

    async def _carry_out(self, head: Head) -> None:
        try:
            if head.method != "CONNECT":
                await self._forward(head)
                return
            host, port = parse_authority(head.target)
            if is_aws(host) and port in {443, 80}:
                await self._answer_for(host, encrypted=port == 443)
            else:
                await self._tunnel(host, port)
        except ValueError as error:
            self._refuse(Refused(400, "Bad Request", f"The proxy's target cannot be used: {error}."))
        except Refused as refused:
            self._refuse(refused)

    async def _answer_for(self, host: str, *, encrypted: bool) -> None:
        transport = self._require_transport()
        if not encrypted:
            transport.write(_ESTABLISHED)
            self._hand_over(transport)
            transport.resume_reading()
            return
        if self._buffer:
            raise Refused(400, "Bad Request", "Wait for the answer to CONNECT before sending TLS.")
        context = await self._context(host)
        if transport.is_closing():
            return
        transport.write(_ESTABLISHED)
        try:
            inside = await self._loop.start_tls(
                transport, self, context, server_side=True, ssl_handshake_timeout=_HANDSHAKE_LIMIT
            )
        except ssl.SSLError as error:
            _log.warning(
                "a client broke off TLS for %s (%s). If it does not trust the certificate, set AWS_CA_BUNDLE=%s",
                host,
                error.reason or error,
                self._frontage.authority.bundle,
            )
            transport.abort()
        except (OSError, TimeoutError):
            transport.abort()  # gone before the handshake was over
        else:
            if inside is not None and not inside.is_closing():
                self._hand_over(inside)

    async def _context(self, host: str) -> ssl.SSLContext:
        try:
            return await self._loop.run_in_executor(None, self._frontage.authority.context, host)
        except (OSError, SettingsError) as error:
            _log.error("no certificate can be made for %s: %s", host, error)
            raise Refused(503, "Service Unavailable", f"No certificate can be made for {host}: {error}.") from error

    async def _tunnel(self, host: str, port: int) -> None:
        with self._outer_end() as outer:
            await self._frontage.outside.tunnel(host, port, self._asking(), outer)
            self._join(outer, self._buffer, None, _ESTABLISHED)

    async def _forward(self, head: Head) -> None:
        """One plain HTTP request, passed on; the connection ends with its answer."""
        host, port, origin_form = parse_absolute(head.target)
        outside = self._frontage.outside
        length = head.body_length
        body = self._buffer if length is None else self._buffer[:length]
        with self._outer_end() as outer:
            if outside.proxy is None or outside.is_direct(host):
                await outside.connect(host, port, self._asking(), outer)
                first = forwarded(head, origin_form, "")
            else:
                await outside.connect_proxy(outer)
                first = forwarded(head, head.target, outside.proxy.authorization)
            self._join(outer, first + body, None if length is None else length - len(body))

    @contextmanager
    def _outer_end(self) -> Iterator[End]:
        """The far end of a relay, known to the server while it connects, so that a stop closes it too."""
        connections = self._frontage.connections
        outer = End(connections.discard)
        connections.add(outer)
        try:
            yield outer
        except BaseException:
            connections.discard(outer)
            outer.shutdown()
            raise

    def _join(self, outer: End, first: bytes, limit: int | None, greeting: bytes = b"") -> None:
        transport = self._require_transport()
        if transport.is_closing():
            outer.shutdown()
            return
        transport.write(greeting)
        connections = self._frontage.connections
        inner = End(connections.discard)
        connections.discard(self)
        connections.add(inner)
        transport.set_protocol(inner)
        inner.connection_made(transport)
        if first:
            outer.write(first)
        inner.join(outer, limit)
        outer.join(inner)

    def _is_for_us(self, target: str) -> bool:
        host, port, _ = parse_absolute(target)
        own_host, own_port = self._asking().server
        return is_aws(host) or (port == own_port and (host in {own_host, "localhost"} or is_loopback(host)))

    def _asking(self) -> Asking:
        peer, local = self._addresses()
        return Asking(is_loopback(peer[0]), local)

    def _addresses(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """Of the client and of ours that it reached; a client that has gone already has none, and no rights."""
        get = self._require_transport().get_extra_info
        peer, local = get("peername") or ("", 0), get("sockname") or ("", 0)
        return (str(peer[0]), int(peer[1])), (str(local[0]), int(local[1]))

    def _check_client(self) -> None:
        peer, local = self._addresses()
        if not may_use_proxy(peer[0], local[0], self._frontage.networks):
            raise Refused(
                403,
                "Forbidden",
                f"{peer[0]} may not use this proxy, which serves this machine and its containers only. "
                "The setting proxy_networks names further networks.",
            )

    def _refuse(self, refused: Refused) -> None:
        self._leading = False
        self._closing_at = self._loop.time() + _LINGER
        transport = self._require_transport()
        if not transport.is_closing():
            transport.write(refused.response())
            transport.write_eof()
            transport.resume_reading()  # so that the client's own close is seen

    def _require_transport(self) -> asyncio.Transport:
        assert self._transport is not None, "no data comes before the connection"
        return self._transport
