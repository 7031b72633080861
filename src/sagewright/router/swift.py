"""The short way for what nearly every invocation is; whatever differs goes on the long way.

    one packet, like the client's last, one variant, one container, a kept connection ─▶ sent ─▶ answer in one packet
         │ anything else                                                                 │ anything else
         ▼                                                                               ▼
    Exchange, from its beginning                        Exchange, Delivery and Attempt, as if they had sent it

Owns: nothing that the long way does not own; it does the same with one object instead of four, at half the price.
Does not own: errors. It has none: it leaves them to the long way.
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final

from sagewright.router import choose
from sagewright.router.answer import BEFORE_ID, Out
from sagewright.router.attempt import Attempt, Errand
from sagewright.router.delivery import Delivery
from sagewright.router.exchange import Exchange
from sagewright.router.request import Request

if TYPE_CHECKING:
    from sagewright.router.live import Instance, LiveRoute, LiveVariant
    from sagewright.router.pool import Headers, Link
    from sagewright.router.shared import Shared
    from sagewright.router.templates import Template
    from sagewright.router.whole import Whole

_NOBODY: Final[frozenset[str]] = frozenset()
_ONLY: Final = (0,)


class Swift:
    """A `gateway.turn.Lane` and `Handler`, a `router.pool.Caller` and a `router.shared.Late`.

    One for each connection of a client; it does one request after another, until it becomes what the long way is."""

    __slots__ = (
        "_before_id",
        "_begun_at",
        "_clock_line",
        "_data",
        "_exchange",
        "_instance",
        "_link",
        "_live",
        "_mark",
        "_number",
        "_route",
        "_routes",
        "_send",
        "_sent_at",
        "_shared",
        "_successor",
        "_template",
        "_turn",
    )

    def __init__(self, shared: Shared, turn: Out, template: Template) -> None:
        self._turn = turn
        self._shared = shared
        self._template = template
        self._send = turn.send
        self._clock_line = turn.clock_line
        self._before_id = BEFORE_ID + shared.ids.prefix.encode()
        self._data = b""
        self._successor: Attempt | None = None
        self._exchange: Exchange
        self._routes: dict[tuple[str, str], LiveRoute] | None = None  # the table that has this route
        self._route: LiveRoute
        # Of the request under way
        self._begun_at = 0.0
        self._sent_at = 0.0
        self._number = 0  # of its id
        self._mark = (0, 0)
        self._live: LiveVariant
        self._instance: Instance
        self._link: Link

    # gateway.turn.Lane

    def take(self, data: bytes) -> bool:
        begun_at = perf_counter()
        template, shared = self._template, self._shared
        body = template.admit(data, begun_at)
        if body is None or (shared.live.routes is not self._routes and not self._find()):
            return False
        live = choose.variant(self._route)
        instance = choose.instance(live, _NOBODY, None, begun_at) if live is not None else None
        if live is None or instance is None:
            return False
        pool = instance.pools[0]
        if not pool.idle:
            choose.unused(live)
            return False
        self._live = live
        self._begun_at, self._data = begun_at, data
        self._turn.response_complete = False
        self._number = next(shared.ids.numbers)
        shared.in_flight += 1
        instance.outstanding += 1
        self._mark = (instance.completed, instance.outstanding)
        self._instance = instance
        self._link = link = pool.idle.pop()
        limit = shared.model
        self._sent_at = limit.begun[self] = perf_counter()
        if limit.timer is None:
            limit.arm()
        link.send_short(self, b"%b%b%b%b" % (pool.request_head, template.forwarded, template.length_line, body))
        return True

    def awaits(self, data: bytes) -> bool:
        return self._template.awaits(data)

    def _find(self) -> bool:
        """The endpoint, when the table is another than it was."""
        live = self._shared.live
        route = live.find(self._template.known.region, self._template.name)
        if route is None or not route.is_simple or not route.route.serving:
            return False
        self._route, self._routes = route, live.routes
        return True

    # gateway.turn.Handler. The request is whole already.

    def start(self) -> None:
        """Never called: its turn has come."""

    def feed(self, piece: bytes) -> None:
        """Never called: the body is whole."""

    def finish(self) -> None:
        """Never called: the body is whole."""

    def lost(self) -> None:
        self._become()
        self._exchange.lost()

    def pause(self) -> None:
        self._become()
        self._exchange.pause()

    def resume(self) -> None:
        self._become()
        self._exchange.resume()

    # router.pool.Caller

    def whole(self, answer: Whole, data: bytes, now: float) -> None:
        turn, shared, live = self._turn, self._shared, self._live
        if not answer.lines or not turn.keep_alive:
            self._become().whole(answer, data, now)
            return
        del shared.model.begun[self]
        self._send(
            b"%b%012x%b%b%b\r\n\r\n%b"
            % (self._before_id, self._number, live.told, answer.lines, self._clock_line.date, data[answer.start :])
        )
        self._data = b""
        shared.live.answered(self._instance)
        counters = shared.counters
        if live.era != counters.era:
            live.tally, live.era = counters.at(live.counted_as), counters.era
        sent_at = self._sent_at
        live.tally.answered(live.share, now - sent_at, sent_at - self._begun_at + perf_counter() - now)
        shared.in_flight -= 1
        if turn.leads:
            turn.response_complete = True
        else:
            turn.done()

    def connected(self, link: Link) -> None:
        """Never called: it takes connections that are there."""

    def refused(self, reason: str) -> None:
        """Never called: it takes connections that are there."""

    def head(self, status: int, headers: Headers, link: Link) -> None:
        self._become().head(status, headers, link)

    def piece(self, data: bytes) -> None:
        self._become().piece(data)

    def flush(self) -> None:
        self._become().flush()

    def ended(self) -> None:
        self._become().ended()

    def broken(self, reason: str, *, unseen: bool) -> None:
        self._become().broken(reason, unseen=unseen)

    def crashed(self, error: Exception) -> None:
        self._become().crashed(error)

    # router.shared.Late

    def late(self) -> None:
        self._become().late()

    def _become(self) -> Attempt:
        """Go on as what the long way would be now. The time limit stays where it is: here, and is passed on."""
        if self._successor is not None:
            return self._successor
        shared, turn = self._shared, self._turn
        request, body = self._read()
        request_id = shared.ids.of(self._number)
        turn.forget()
        shared.in_flight -= 1
        self._exchange = exchange = Exchange(shared, turn, request)
        errand = Errand(request, request_id, body, self._route, self._live, _ONLY, turn)
        delivery = Delivery(shared, exchange, request, self._template.known.region, body)
        self._successor = attempt = Attempt(shared, errand, self._instance, delivery)
        attempt.adopt(self._link, self._sent_at, self._mark, self)
        delivery.adopt(errand, attempt)
        exchange.adopt(delivery, self._begun_at, request_id)
        self._link.hand_on(attempt)
        turn.hand_on(exchange)
        return attempt

    def _read(self) -> tuple[Request, bytes]:
        """The request in full. What has fitted a template can be read: it was made of what was."""
        message = self._shared.heads.read(self._data)
        request = self._shared.recogniser.recognise_plain(message.first, message.headers) if message else None
        assert message is not None, "the same head was read before"
        assert request is not None, "the same head was read before"
        return request, message.body
