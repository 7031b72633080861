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
from sagewright.router.answer import PLAIN_ANSWER, Out, whole_answer
from sagewright.router.attempt import Attempt, Errand
from sagewright.router.delivery import Delivery
from sagewright.router.exchange import Exchange
from sagewright.router.request import Request

if TYPE_CHECKING:
    from sagewright.router.live import Instance, LiveRoute, LiveVariant
    from sagewright.router.pool import Headers, Link
    from sagewright.router.shared import Shared
    from sagewright.router.templates import Template

_NOBODY: Final[frozenset[str]] = frozenset()
_ONLY: Final = (0,)


class Swift:
    """A `gateway.turn.Handler`, a `router.pool.Caller` and a `router.shared.Late`."""

    _successor: Attempt | None = None
    _exchange: Exchange
    _instance: Instance
    _link: Link
    _live: LiveVariant
    _mark: tuple[int, int]
    _request_id: str
    _route: LiveRoute
    _sent_at: float

    def __init__(self, shared: Shared, out: Out, template: Template, data: bytes) -> None:
        self._begun_at = perf_counter()
        self._shared = shared
        self._out = out
        self._template = template
        self._data = data
        shared.in_flight += 1

    # gateway.turn.Handler. The request is whole already, and nothing of its client is heard before `start`.

    def start(self) -> None:
        shared, template, data = self._shared, self._template, self._data
        body = data[template.size :]
        route = shared.live.find(template.known.region, template.name)
        live = route.only if route is not None else None
        if route is None or live is None or not template.is_signed(data, body):
            self._begin_again()
            return
        instance = choose.instance(live, _NOBODY, None, 0.0)
        link = instance.pools[0].take() if instance is not None else None
        if instance is None or link is None:
            self._begin_again()
            return
        self._route, self._live, self._instance, self._link = route, live, instance, link
        self._request_id = shared.ids.next()
        instance.outstanding += 1
        self._mark = (instance.completed, instance.outstanding)
        shared.model.add(self)
        self._sent_at = perf_counter()
        link.send(self, b"%b%b%d\r\n\r\n" % (instance.pools[0].request_head, template.forwarded, len(body)), body)

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

    def whole(self, status: int, headers: dict[bytes, bytes], body: bytes) -> None:
        if status != 200 or not headers.keys() <= PLAIN_ANSWER:
            self._become().whole(status, headers, body)
            return
        now = perf_counter()
        live, shared, out = self._live, self._shared, self._out
        shared.model.discard(self)
        out.write(whole_answer(self._request_id, live.variant.name, out, headers, body))
        self._instance.answered()
        shared.live.end(self._instance)
        tally = shared.counters.at(live.counted_as)
        tally.invocations += 1
        tally.per_instance += live.share
        tally.model_latency.add(int((now - self._sent_at) * 1e6))
        tally.overhead_latency.add(int((self._sent_at - self._begun_at + perf_counter() - now) * 1e6))
        shared.in_flight -= 1
        out.done()

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

    def _begin_again(self) -> None:
        """Nothing has been done yet: the long way, from its beginning."""
        self._shared.in_flight -= 1
        request, body = self._read()
        exchange = Exchange(self._shared, self._out, request)
        self._out.hand_on(exchange)
        exchange.open()
        exchange.fill(body)
        exchange.start()

    def _become(self) -> Attempt:
        """Go on as what the long way would be now. The time limit stays where it is: here, and is passed on."""
        if self._successor is not None:
            return self._successor
        shared = self._shared
        request, body = self._read()
        shared.in_flight -= 1
        self._exchange = exchange = Exchange(shared, self._out, request)
        errand = Errand(request, self._request_id, body, self._route, self._live, _ONLY, self._out)
        delivery = Delivery(shared, exchange, request, self._template.known.region, body)
        self._successor = attempt = Attempt(shared, errand, self._instance, delivery)
        attempt.adopt(self._link, self._sent_at, self._mark, self)
        delivery.adopt(errand, attempt)
        exchange.adopt(delivery, self._begun_at, self._request_id)
        self._link.hand_on(attempt)
        self._out.hand_on(exchange)
        return attempt

    def _read(self) -> tuple[Request, bytes]:
        """The request in full. What has fitted a template can be read: it was made of what was."""
        message = self._shared.heads.read(self._data)
        request = self._shared.recogniser.recognise_plain(message.first, message.headers) if message else None
        assert message is not None, "the same head was read before"
        assert request is not None, "the same head was read before"
        return request, message.body
