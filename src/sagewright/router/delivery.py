"""From the right to ask to an outcome: which variant, which instance, waiting for one, another one.

    variant ─▶ waiting ─▶ attempt ─▶ outcome
       ▲          │          │
       └─rerouted─┴◀─refused─┘   (or the instance died: once)

A request is given to another instance when nothing of it has reached the first: the connection was refused, or a kept
one was just being closed. If it was sent, and no byte of an answer came, and nobody listens any more at the instance's
address, then the instance has died: that may cost its owner no request, so it is sent once more, elsewhere. A
container that lives and has cut the connection has decided so: ModelError.

Owns: that order, and what is counted. Everything runs in callbacks: there is no task per request. Does not own: one
attempt (`router.attempt`), the choice (`router.choose`), the client (`router.exchange`).
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from sagewright.core.ids import Region
from sagewright.router import choose, errors, pipeline
from sagewright.router.answer import Out
from sagewright.router.attempt import Attempt, Errand
from sagewright.router.request import Kind, Request
from sagewright.wire.faults import ApiFault

if TYPE_CHECKING:
    from sagewright.router.counters import Tally
    from sagewright.router.live import Instance, LiveRoute, LiveVariant
    from sagewright.router.shared import Shared

_NOBODY: Final[frozenset[str]] = frozenset()


class Client(Protocol):
    """`router.exchange.Exchange`."""

    @property
    def out(self) -> Out: ...

    @property
    def begun_at(self) -> float: ...

    @property
    def request_id(self) -> str: ...

    def refuse(self, fault: ApiFault) -> None:
        """The answer is an error."""
        ...

    def answered(self) -> None:
        """The answer is written."""
        ...

    def cut(self) -> None:
        """The answer has begun and cannot be brought to its end."""
        ...

    def crashed(self, error: Exception) -> None: ...


class Delivery:
    """A `router.live.Waiter` and a `router.attempt.Outcome`."""

    tried: frozenset[str] = _NOBODY  # instances that are out of the question
    pinned: str | None = None  # the instance that has the request's session
    _attempt: Attempt | None = None
    _trouble: ApiFault | None = None  # why the last instance could not take it
    _is_fresh = False  # the table has been looked at for this request
    _is_waiting = False
    _is_over = False
    _was_replayed = False
    _errand: Errand

    def __init__(self, shared: Shared, client: Client, request: Request, region: Region, body: bytes) -> None:
        self._shared = shared
        self._client = client
        self._request = request
        self._region = region
        self._body = body

    def route(self) -> None:
        """Find a variant. Before an error is told, the table is derived anew: it may be a quarter of a second old."""
        try:
            self._errand = self._choose_variant()
        except ApiFault as fault:
            if self._is_fresh:
                self._refuse(fault)
            else:
                self._is_fresh = True
                self._shared.look(self.reroute)
        else:
            self._choose_instance()

    def adopt(self, errand: Errand, attempt: Attempt) -> None:
        """Go on where `router.swift` has sent the request."""
        self._errand, self._attempt = errand, attempt

    def abandon(self) -> None:
        """The client has gone."""
        if self._is_waiting:
            self._stop_waiting()
        self._is_over = True
        if self._attempt is not None:
            self._attempt.abandon()

    def pause(self) -> None:
        if self._attempt is not None:
            self._attempt.pause()

    def resume(self) -> None:
        if self._attempt is not None:
            self._attempt.resume()

    # router.live.Waiter

    def use(self, instance: Instance) -> None:
        self._is_waiting = False
        self._shared.queue.discard(self)
        self._begin(instance)

    def reroute(self) -> None:
        if self._is_waiting:
            self._is_waiting = False
            self._shared.queue.discard(self)
        if self._is_over:
            return
        try:
            self.route()
        except Exception as error:
            self.crashed(error)

    # router.shared.Late

    def late(self) -> None:
        """No instance was free in time."""
        self._stop_waiting()
        self._tally().unavailable += 1
        live = self._errand.live
        self._refuse(errors.waited(self._errand.route.route, live.variant.name, self._shared.settings.queue_wait))

    # router.attempt.Outcome

    def completed(self, model_time: float) -> None:
        self._release()
        self._count(0, model_time)
        self._client.answered()

    def failed(self, fault: ApiFault, status: int, model_time: float) -> None:
        self._release()
        self._count(status, model_time, model_error=True)
        self._refuse(fault)

    def refused(self, reason: str) -> None:
        self._trouble = errors.no_instance(self._errand.route.route, f"no connection to it ({reason})")
        self._go_elsewhere()

    def died(self, fault: ApiFault) -> None:
        if self._was_replayed or self._request.session is not None:
            self.failed(fault, 0, 0.0)
            return
        self._was_replayed = True
        self._trouble = fault
        self._go_elsewhere()

    def broke_off(self, model_time: float, *, ended: bool) -> None:
        self._release()
        self._count(0, model_time, model_error=True)
        if ended:
            self._client.answered()
        else:
            self._client.cut()

    def deserted(self) -> None:
        self._release()
        self._count(0, 0.0)

    def crashed(self, error: Exception) -> None:
        self._release()
        self._client.crashed(error)

    def _choose_variant(self) -> Errand:
        """Raises ApiFault."""
        request, shared = self._request, self._shared
        found = shared.live.find(self._region, request.name)
        if found is None:
            raise errors.not_found(request.name, shared.account)
        _check(found, request)
        live = _variant(found, request.variant if request.is_special else None)
        legs = pipeline.legs(found.route, live.variant, request)
        if request.is_special and request.session is not None:
            self.pinned = shared.sessions.instance(self._region, request.name, request.session)
        client = self._client
        return Errand(request, client.request_id, self._body, found, live, legs, client.out)

    def _choose_instance(self) -> None:
        live = self._errand.live
        instance = choose.instance(live, self.tried, self.pinned, self._shared.loop.time())
        if instance is not None:
            self._begin(instance)
        elif all(one.id in self.tried for one in live.instances):
            self._give_up()
        elif len(live.waiting) >= live.queue_limit:
            self._tally().throttled += 1
            working = sum(one.outstanding for one in live.instances)
            self._refuse(errors.queue_full(self._errand.route.route, live.variant.name, working, len(live.waiting)))
        else:
            self._is_waiting = True
            live.waiting[self] = None
            self._shared.queue.add(self)

    def _give_up(self) -> None:
        """No instance is left, unless there are others by now."""
        if not self._is_fresh:
            self._is_fresh = True
            self._shared.look(self.reroute)
            return
        self._tally().unavailable += 1
        self._refuse(self._trouble or errors.no_instance(self._errand.route.route, "none is in service"))

    def _begin(self, instance: Instance) -> None:
        instance.outstanding += 1
        self._attempt = Attempt(self._shared, self._errand, instance, self)
        self._attempt.begin()

    def _go_elsewhere(self) -> None:
        """Another instance, as the table is now."""
        if self._attempt is not None:
            self.tried |= {self._attempt.instance.id}
        self._release()
        self.reroute()

    def _stop_waiting(self) -> None:
        self._is_waiting = False
        self._shared.queue.discard(self)
        self._errand.live.waiting.pop(self, None)

    def _release(self) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            self._shared.live.end(attempt.instance)

    def _refuse(self, fault: ApiFault) -> None:
        self._is_over = True
        self._client.refuse(fault)

    def _tally(self) -> Tally:
        return self._shared.counters.at(self._errand.live.counted_as)

    def _count(self, status: int, model_time: float, *, model_error: bool = False) -> None:
        """Contract B.14. `status` is the model's own code when that was an error."""
        tally = self._tally()
        tally.invocations += 1
        tally.per_instance += 1 / (len(self._errand.live.instances) or 1)
        if model_error:
            tally.model_errors += 1
            tally.errors_4xx += 400 <= status < 500
            tally.errors_5xx += status >= 500
        if model_time:
            overhead = perf_counter() - self._client.begun_at - model_time
            tally.model_latency.add(int(model_time * 1e6))
            tally.overhead_latency.add(max(0, int(overhead * 1e6)))


def _check(found: LiveRoute, request: Request) -> None:
    """What this endpoint cannot do at all. Raises ApiFault."""
    if request.kind is Kind.ASYNC:
        raise errors.not_asynchronous(found.route)
    if not found.route.serving:
        raise errors.not_in_service(found.route)
    if request.is_special and request.has_model:
        raise errors.model_not_allowed(found.route)
    if request.is_special and request.has_component:
        raise errors.component_not_allowed(found.route)


def _variant(found: LiveRoute, wanted: str | None) -> LiveVariant:
    """Raises ApiFault."""
    if wanted is not None:
        named = found.by_name.get(wanted)
        if named is None:
            raise errors.unknown_variant(found.route, wanted)
        chosen = named if named.instances else None
    else:
        chosen = choose.variant(found)
    if chosen is not None:
        return chosen
    if wanted is None and all(live.variant.weight <= 0 for live in found.variants):
        raise errors.no_weight(found.route)
    raise errors.no_instance(found.route, "none is in service")
