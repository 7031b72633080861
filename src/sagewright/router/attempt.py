"""One request at one instance: through its containers, and the answer on to the client.

    leg: connecting ─▶ sent ─▶ head ─▶ pieces ─▶ ended ─▶ next leg, or done
              │          │       └───────┴─▶ broken off: the client's answer has begun
              ▼          ├─▶ failed: ModelError
           refused       └─▶ died: nobody listens any more at the instance's address

Owns: what a container's answer, silence or end means. Does not own: whether there is another attempt
(`router.delivery`), the connections (`router.pool`), how an answer looks (`router.answer`).
"""

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from sagewright.router import errors, pipeline
from sagewright.router.answer import Out, PlainAnswer, StreamAnswer, common_head
from sagewright.router.request import Kind, Request
from sagewright.router.table import Place
from sagewright.wire.faults import ApiFault

if TYPE_CHECKING:
    from sagewright.router.live import Instance, LiveRoute, LiveVariant
    from sagewright.router.pool import Headers, Link, Pool
    from sagewright.router.shared import Late, Shared
    from sagewright.router.whole import Whole

_MOST_UNSEEN: Final = 3
_ERROR_BODY: Final = 4 * errors.LONGEST_MESSAGE  # bytes of an error's body that are kept: UTF-8 has up to 4 a character


class Outcome(Protocol):
    """Who began the attempt (`router.delivery.Delivery`). Exactly one of these is called, once."""

    def completed(self, model_time: float) -> None:
        """The answer is written. `model_time` in seconds."""
        ...

    def failed(self, fault: ApiFault, status: int, model_time: float) -> None:
        """ModelError. `status` is the container's, 0 when there was none."""
        ...

    def refused(self, reason: str) -> None:
        """Nothing has reached the instance."""
        ...

    def died(self, fault: ApiFault) -> None:
        """The instance has died with the request, before it gave one byte of an answer."""
        ...

    def broke_off(self, model_time: float, *, ended: bool) -> None:
        """The answer could not be brought to its end. `ended`: the client was told in the stream."""
        ...

    def deserted(self) -> None:
        """The client had gone; the container is no longer occupied."""
        ...

    def crashed(self, error: Exception) -> None:
        """A bug of ours."""
        ...


class Errand(NamedTuple):
    """What is to be done, the same for every attempt."""

    request: Request
    request_id: str
    body: bytes
    route: LiveRoute
    live: LiveVariant
    legs: tuple[int, ...]  # containers to call, by their place in the model
    out: Out


class Attempt:
    """A `router.pool.Caller` and a `router.shared.Late`. Occupies its instance until its outcome."""

    _answer: PlainAnswer | StreamAnswer | None = None
    _link: Link | None = None
    _status = 0  # of this leg; 0 before its head
    _headers: Headers = ()
    _collected: list[bytes]  # of an answer that is not for the client as it is
    _collected_size = 0
    _leg = 0
    _sent_at = 0.0
    _mark = (0, 0)  # of the instance, when the request was sent
    _model_time = 0.0  # seconds, of the legs that have ended
    _is_deserted = False
    _is_paused = False
    _unseen = 0  # connections that were closed before they had taken anything of the request
    _has_moved = False  # something came since the time limit was last looked at

    def __init__(self, shared: Shared, errand: Errand, instance: Instance, outcome: Outcome) -> None:
        self.instance = instance
        self._shared = shared
        self._errand = errand
        self._outcome = outcome
        self._limit = shared.stream if errand.request.kind is Kind.STREAM else shared.model
        self._ticket: Late = self
        self._input = pipeline.first(errand.request, errand.body, is_last=self._is_last)

    def begin(self) -> None:
        self._call()

    def adopt(self, link: Link, sent_at: float, mark: tuple[int, int], ticket: Late) -> None:
        """Go on where `ticket`, which has the time limit, has sent the request."""
        self._link, self._sent_at, self._mark, self._ticket = link, sent_at, mark, ticket

    def abandon(self) -> None:
        """The client has gone. A container that has not begun to answer keeps its place until it has: it goes on
        working, whatever we do. One that streams is told by the end of its connection."""
        self._is_deserted = True
        begun = self._answer is not None or self._errand.request.kind is Kind.STREAM
        if self._link is not None and begun:
            self._give_up()
            self._outcome.deserted()

    def pause(self) -> None:
        self._is_paused = True
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        self._is_paused = False
        self._has_moved = True
        if self._link is not None:
            self._link.resume()

    # router.shared.Late

    def late(self) -> None:
        """The model's time is over."""
        if self._is_paused and self._has_moved:
            self._has_moved = False  # it is the client that is slow, and it goes on
            self._limit.add(self._ticket)
            return
        self._give_up()
        if self._answer is not None:
            self._break_off("the response did not end in time", "ModelInvocationTimeExceeded")
            return
        self.instance.ran_out_of_time(self._mark)
        self._fail(errors.model_silent(self._errand.route.route, self._place.name, self._log_stream), 0)

    # router.pool.Caller

    def connected(self, link: Link) -> None:
        if self._is_deserted:
            self._pool.give_back(link)
            self._outcome.deserted()
        else:
            self._send(link)

    def refused(self, reason: str) -> None:
        self.instance.refused(self._shared.loop.time())
        self._limit.discard(self._ticket)
        if self._is_deserted:
            self._outcome.deserted()
        elif self._leg > 0:
            self._fail(self._broken(f"no connection: {reason}"), 0)
        else:
            self._outcome.refused(reason)

    def whole(self, answer: Whole, data: bytes, now: float) -> None:
        self._begin_answer(answer.status, tuple(answer.headers.items()))
        self.piece(data[answer.start :])
        self.ended()

    def head(self, status: int, headers: Headers, link: Link) -> None:
        self._begin_answer(status, headers)
        if self._is_paused:
            link.pause()

    def piece(self, data: bytes) -> None:
        self._has_moved = True
        if self._answer is not None:
            self._answer.piece(data)
        elif not self._is_deserted and self._collected_size <= self._room:
            self._collected.append(data)
            self._collected_size += len(data)

    def flush(self) -> None:
        if self._answer is not None:
            self._answer.flush()

    def ended(self) -> None:
        self._link = None
        now = perf_counter()
        self._model_time += now - self._sent_at
        self._count_container(now)
        self.instance.answered()
        good = 200 <= self._status < 300
        if good and not self._is_last and not self._is_deserted:
            self._next_leg()
            return
        self._limit.discard(self._ticket)
        if self._is_deserted:
            self._outcome.deserted()
        elif not good or self._answer is None:
            body = b"".join(self._collected)
            route, name = self._errand.route.route, self._place.name
            self._fail(errors.model_answered(route, name, self._log_stream, self._status, body), self._status)
        else:
            self._answer.end()
            self._outcome.completed(self._model_time)

    def crashed(self, error: Exception) -> None:
        self._give_up()
        self._outcome.crashed(error)

    def broken(self, reason: str, *, unseen: bool) -> None:
        self._link = None
        if unseen and not self._is_deserted:
            self._unseen += 1
            if self._unseen <= _MOST_UNSEEN:
                self._call()
            else:
                self.refused(reason)
            return
        self._limit.discard(self._ticket)
        if self._is_deserted:
            self._outcome.deserted()
        elif self._answer is not None:
            self._break_off(reason, "StreamBroken")
        elif self._status:
            self._fail(self._broken(reason), 0)
        else:
            self._shared.tasks.spawn(self._after_loss(reason))

    # Legs

    @property
    def _is_last(self) -> bool:
        return self._leg == len(self._errand.legs) - 1

    @property
    def _place(self) -> Place:
        return self.instance.target.places[self._errand.legs[self._leg]]

    @property
    def _pool(self) -> Pool:
        return self.instance.pools[self._errand.legs[self._leg]]

    @property
    def _room(self) -> int:
        """Bytes of an answer that are kept."""
        return self._shared.settings.max_payload if 200 <= self._status < 300 else _ERROR_BODY

    def _call(self) -> None:
        pool = self._pool
        link = pool.take()
        if link is None:
            pool.connect(self)
        else:
            self._send(link)

    def _send(self, link: Link) -> None:
        self._link = link
        given = self._input
        self._status = 0
        if self._sent_at == 0.0:
            self._mark = self.instance.mark()
            self._limit.add(self._ticket)
        self._sent_at = perf_counter()
        link.send(
            self,
            b"%b%bContent-Length: %d\r\n\r\n" % (self._pool.request_head, given.lines, len(given.body)),
            given.body,
        )

    def _next_leg(self) -> None:
        if self._collected_size > self._room:
            self._limit.discard(self._ticket)
            said = f"its answer has more than {self._room} bytes, the most that is passed on to the next container"
            self._fail(self._broken(said), 0)
            return
        body = b"".join(self._collected)
        headers = self._headers
        self._collected_size = 0
        self._leg += 1
        self._input = pipeline.following(self._errand.request, self._input, headers, body, is_last=self._is_last)
        self._call()

    def _begin_answer(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers
        self._has_moved = True
        self._collected = []
        if not 200 <= status < 300 or not self._is_last or self._is_deserted:
            return
        errand = self._errand
        route = errand.route.route
        self._shared.sessions.note(route.region, route.name, self.instance.id, headers)
        common = common_head(errand.request_id, errand.live.variant.name)
        if errand.request.kind is Kind.STREAM:
            self._answer = StreamAnswer(errand.out, headers, self._input.custom, common)
        else:
            self._answer = PlainAnswer(errand.out, status, headers, self._input.custom, common)

    # Ends

    def _give_up(self) -> None:
        self._limit.discard(self._ticket)
        if self._link is not None:
            self._link.close()
            self._link = None

    def _fail(self, fault: ApiFault, status: int) -> None:
        self._outcome.failed(fault, status, self._model_time or perf_counter() - self._sent_at)

    def _break_off(self, reason: str, code: str) -> None:
        model_time = self._model_time + perf_counter() - self._sent_at
        if isinstance(self._answer, StreamAnswer):
            self._answer.fail(f"Container {self._place.name}: {reason}.", code)
            self._answer.end()
            self._outcome.broke_off(model_time, ended=True)
        elif self._answer is not None and not self._answer.begun:
            self._fail(self._broken(reason), 0)
        else:
            self._outcome.broke_off(model_time, ended=False)

    async def _after_loss(self, reason: str) -> None:
        """The request was sent, and the connection ended without a byte: is it the container's doing, or its end?"""
        alive = await self._pool.is_alive()
        if self._is_deserted:
            self._outcome.deserted()
        elif alive:
            self._fail(self._broken(reason), 0)
        else:
            self.instance.refused(self._shared.loop.time())
            self._outcome.died(self._broken(f"{reason}, and nobody listens there any more"))

    def _broken(self, reason: str) -> ApiFault:
        return errors.model_broken(self._errand.route.route, self._place.name, self._log_stream, reason)

    @property
    def _log_stream(self) -> str:
        """Contract B.14."""
        stream = f"{self._errand.live.variant.name}/{self.instance.id}"
        return stream if len(self.instance.target.places) == 1 else f"{stream}/{self._place.name}"

    def _count_container(self, now: float) -> None:
        """Containers of a pipeline have a latency of their own."""
        if not self._errand.live.single:
            route = self._errand.route.route
            tally = self._shared.counters.of(route.region, route.name, self._errand.live.variant.name, self._place.name)
            tally.invocations += 1
            tally.model_latency.add(int((now - self._sent_at) * 1e6))
