"""One invocation as its client sees it: head, body, the right to ask, and an answer in any case.

    head ─▶ body ─▶ signature ─▶ delivery ─▶ answer
       └──────┴────────┴────────────┴──────▶ fault

Owns: the order of these, what a refused or leaving client means, errors on the wire. Does not own: what happens between
the signature and the answer (`router.delivery`), the connection and whose turn it is (`gateway.turn`).
No method lets an exception out: the connection's parser calls them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

from sagewright.router import errors
from sagewright.router.answer import Out
from sagewright.router.delivery import Delivery
from sagewright.router.request import Request
from sagewright.wire.denials import Denied, Family, denial_fault
from sagewright.wire.faults import ApiFault, internal_failure

if TYPE_CHECKING:
    from sagewright.router.access import Grant
    from sagewright.router.shared import Shared

_log = logging.getLogger("sagewright.router")


class Exchange:
    """A `gateway.turn.Handler`."""

    __slots__ = (
        "_answered",
        "_body",
        "_delivery",
        "_fault",
        "_grant",
        "_request",
        "_shared",
        "_size",
        "_whole",
        "begun_at",
        "out",
        "request_id",
    )

    def __init__(self, shared: Shared, out: Out, request: Request) -> None:
        self.out = out
        self.begun_at = perf_counter()
        self.request_id = shared.ids.next()
        self._shared = shared
        self._request = request
        self._grant: Grant
        self._body: list[bytes] = []
        self._size = 0
        self._whole = False
        self._fault: ApiFault | None = None  # known before its turn
        self._delivery: Delivery | None = None
        self._answered = False
        shared.in_flight += 1

    def open(self) -> None:
        """What the head tells already: refuse early what can never be answered."""
        self._guarded(self._admit)

    def fill(self, body: bytes) -> None:
        """The whole body at once, before `start`."""
        self.feed(body)
        self._whole = True

    def adopt(self, delivery: Delivery, begun_at: float, request_id: str) -> None:
        """Go on where `router.swift` has sent the request."""
        self._delivery, self.begun_at, self.request_id = delivery, begun_at, request_id
        self._whole = True

    # gateway.turn.Handler

    def feed(self, piece: bytes) -> None:
        if self._fault is not None:
            return
        self._size += len(piece)
        if self._size > self._shared.settings.max_payload:
            self.refuse(errors.too_large(None, self._shared.settings.max_payload))
        else:
            self._body.append(piece)

    def finish(self) -> None:
        self._whole = True
        if self.out.started and not self._answered:
            self._guarded(self._deliver)

    def start(self) -> None:
        if self._fault is not None:
            self._answer(self._fault)
        elif self._whole:
            self._guarded(self._deliver)
        else:
            self.out.go_on()

    def lost(self) -> None:
        if self._delivery is not None:
            self._guarded(self._delivery.abandon)
        self._leave()

    def pause(self) -> None:
        if self._delivery is not None:
            self._delivery.pause()

    def resume(self) -> None:
        if self._delivery is not None:
            self._delivery.resume()

    # router.delivery.Client

    def refuse(self, fault: ApiFault) -> None:
        """An error is the answer. In its turn."""
        if self._fault is None:
            self._fault = fault
            self._body.clear()
            if self.out.started:
                self._answer(fault)

    def answered(self) -> None:
        """The whole answer is written."""
        self._leave()
        self.out.done()

    def cut(self) -> None:
        """The answer has begun and cannot be ended."""
        self._leave()
        self.out.abort()

    def crashed(self, error: Exception) -> None:
        """A bug of ours must not take the client's connection, or others', with it silently."""
        _log.error("invocation %s of %s failed", self.request_id, self._request.name, exc_info=error)
        self.refuse(internal_failure(self.request_id))

    def _admit(self) -> None:
        announced = self._request.announced
        limit = self._shared.settings.max_payload
        if announced is not None and announced > limit:
            raise errors.too_large(announced, limit)
        self._grant = self._shared.access.admit(self._request)

    def _deliver(self) -> None:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        self._body.clear()
        self._grant.check(body)
        self._request.check()
        self._delivery = Delivery(self._shared, self, self._request, self._grant.region, body)
        self._delivery.route()

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Denied as denied:
            self.refuse(denial_fault(denied, Family.JSON))
        except ApiFault as fault:
            self.refuse(fault)
        except Exception as error:
            self.crashed(error)

    def _answer(self, fault: ApiFault) -> None:
        if self._answered:
            return
        lines, body = errors.encode(fault, self.request_id)
        if self.out.expects:
            self.out.keep_alive = False  # the body that it waits to send may come or not
        close = b"" if self.out.keep_alive else b"connection: close\r\n"
        self._leave()
        self.out.write(b"%bdate: %b\r\n%b\r\n%b" % (lines, self.out.date, close, body))
        self.out.done()

    def _leave(self) -> None:
        if not self._answered:
            self._answered = True
            self._delivery = None  # it holds this exchange: see `gateway.turn.Turn.done`
            self._shared.in_flight -= 1
