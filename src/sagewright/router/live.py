"""Endpoints as they are right now: the table, and what is going on with each instance of it.

Owns: swapping tables whole, requests under way per instance, who waits for which variant, how much an instance takes.
Does not own: the table (`router.table`), one request (`router.exchange`).

An instance's window is how many requests it is given at once. It starts at the setting. When a request runs out of time
behind others, the window closes to what the instance has really done in that time; each answer lets it grow again. So a
container that is far slower than its requests come is not buried under requests which all end too late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Final, Protocol

from sagewright.router import choose
from sagewright.router.answer import after_id
from sagewright.router.counters import Of, Tally
from sagewright.router.heads import Heads
from sagewright.router.pool import Pool
from sagewright.router.table import Route, Target, Variant
from sagewright.router.whole import Wholes
from sagewright.settings import RouterSettings

_SUSPICION: Final = (0.25, 5.0)  # seconds: first and longest time for which an instance that refused comes last


class Waiter(Protocol):
    """A request that no instance can take now (`router.exchange.Exchange`)."""

    @property
    def tried(self) -> frozenset[str]: ...

    @property
    def pinned(self) -> str | None: ...

    def use(self, instance: Instance) -> None: ...

    def reroute(self) -> None:
        """The variant it waits for is no longer what it was."""
        ...


class Instance:
    """One routable instance, or one that was and still has requests under way."""

    __slots__ = (
        "_failures",
        "_most",
        "completed",
        "home",
        "id",
        "outstanding",
        "pools",
        "suspect_until",
        "target",
        "window",
    )

    def __init__(self, target: Target, pools: tuple[Pool, ...], window: int) -> None:
        self.id = target.id
        self.home: LiveVariant | None = None  # its variant, while it is in the table
        self.target = target
        self.pools = pools
        self.outstanding = 0
        self.completed = 0  # requests answered, ever
        self.window = float(window)
        self.suspect_until = 0.0
        self._most = float(window)
        self._failures = 0

    @property
    def is_full(self) -> bool:
        return self.outstanding >= int(self.window)

    def refused(self, now: float) -> None:
        """No connection: come last for a while."""
        self.suspect_until = now + min(_SUSPICION[0] * 2**self._failures, _SUSPICION[1])
        self._failures = min(self._failures + 1, 8)

    def answered(self) -> None:
        self.completed += 1
        if self._failures:
            self._failures = 0
            self.suspect_until = 0.0
        if self.window < self._most:
            self.window = min(self._most, self.window + 1 / self.window)

    def mark(self) -> tuple[int, int]:
        """What was done and what was under way when a request was sent."""
        return self.completed, self.outstanding

    def ran_out_of_time(self, mark: tuple[int, int]) -> None:
        """A request that had more before it than was done while it waited was late because of them. One that was
        overtaken by all others has only itself to blame."""
        done, ahead = self.completed - mark[0], mark[1] - 1
        if done < ahead:
            self.window = min(self.window, max(1.0, done / 2, ahead / 4))


class LiveVariant:
    """One variant with its instances, and the queue that they share: whichever is free first takes the next."""

    __slots__ = (
        "counted_as",
        "era",
        "instances",
        "queue_limit",
        "share",
        "single",
        "tally",
        "told",
        "turn",
        "variant",
        "waiting",
    )

    def __init__(self, variant: Variant, instances: list[Instance], queue_per_instance: int, counted_as: Of) -> None:
        self.variant = variant
        self.single = len(variant.containers) == 1
        self.counted_as = counted_as
        self.instances = instances
        self.share = 1 / (len(instances) or 1)
        self.waiting: dict[Waiter, None] = {}
        self.queue_limit = queue_per_instance * len(instances)
        self.turn = 0  # where to begin to look among equals
        self.told = after_id(variant.name)  # of every good answer's head
        self.tally: Tally  # of the counters' `era`
        self.era = -1
        for instance in instances:
            instance.home = self

    def pump(self, now: float) -> None:
        """Hand waiting requests to instances that can take them."""
        while self.waiting:
            waiter = next(iter(self.waiting))
            instance = choose.instance(self, waiter.tried, waiter.pinned, now)
            if instance is None:
                return
            del self.waiting[waiter]
            waiter.use(instance)


class LiveRoute:
    """One endpoint."""

    __slots__ = ("by_name", "is_simple", "route", "variants")

    def __init__(self, route: Route, variants: list[LiveVariant]) -> None:
        self.route = route
        self.variants = variants
        self.by_name = {live.variant.name: live for live in variants}
        # One container each, and it is not to be named.
        self.is_simple = all(live.single and not live.variant.direct for live in variants)


class Live:
    """All endpoints of a gateway process. `window` and `queue` are this process's share of an instance's."""

    def __init__(self, settings: RouterSettings, gateways: int) -> None:
        self._settings = settings
        self._window = max(1, settings.max_concurrent // gateways)
        self._queue = max(1, settings.queue // gateways)
        self.routes: dict[tuple[str, str], LiveRoute] = {}  # another object with every swap
        self._instances: dict[str, Instance] = {}  # those in the table
        self._leaving: dict[str, Instance] = {}  # those that are no longer, and still have requests under way
        self._wholes = Wholes(Heads())
        self._parting: dict[str, list[Callable[[], None]]] = {}
        self._loop: asyncio.AbstractEventLoop

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def find(self, region: str, name: str) -> LiveRoute | None:
        return self.routes.get((region, name))

    def versions(self) -> Mapping[tuple[str, str], int]:
        """The row version of every endpoint."""
        return {key: live.route.version for key, live in self.routes.items()}

    def swap(self, changed: Iterable[Route], gone: Iterable[tuple[str, str]]) -> None:
        """The new table: rows that have changed, and those that are no more. All at once, before the next request."""
        routes = dict(self.routes)
        waiters: list[Waiter] = []
        for route in changed:
            key: tuple[str, str] = (route.region, route.name)
            routes[key] = made = self._live(route)
            waiters += _inherit(made, self.routes.get(key))
        for key in gone:
            if (old := routes.pop(key, None)) is not None:
                waiters += [waiter for live in old.variants for waiter in live.waiting]
        self.routes = routes
        self._retire({instance.id for live in _all(routes.values()) for instance in live.instances})
        for waiter in waiters:
            waiter.reroute()
        now = self._loop.time()
        for live in list(_all(routes.values())):
            live.pump(now)

    def answered(self, instance: Instance) -> None:
        """A request was answered, and no longer occupies the instance."""
        instance.answered()
        self.end(instance)

    def end(self, instance: Instance) -> None:
        """A request no longer occupies the instance."""
        instance.outstanding -= 1
        home = instance.home
        if home is None:
            if instance.outstanding == 0:
                self._leaving.pop(instance.id, None)
                for waiting in self._parting.pop(instance.id, ()):
                    waiting()
        elif home.waiting:
            home.pump(self._loop.time())

    def is_routable(self, instance: str) -> bool:
        return instance in self._instances

    def outstanding(self, instance: str) -> int:
        found = self._instances.get(instance) or self._leaving.get(instance)
        return found.outstanding if found is not None else 0

    def when_idle(self, instance: str, then: Callable[[], None]) -> None:
        """Call `then` when an instance that has left the table has nothing under way any more."""
        self._parting.setdefault(instance, []).append(then)

    def tick(self) -> None:
        """Close connections that nobody uses."""
        before = perf_counter() - self._settings.idle_time
        for instance in self._instances.values():
            for pool in instance.pools:
                pool.trim(before)

    def close(self) -> None:
        self._retire(set())

    def _live(self, route: Route) -> LiveRoute:
        variants = []
        for variant in route.variants:
            instances = [self._instance(target) for target in variant.targets]
            variants.append(
                LiveVariant(variant, instances, self._queue, Of(route.region, route.name, variant.name, ""))
            )
        return LiveRoute(route, variants)

    def _instance(self, target: Target) -> Instance:
        """What is known of an instance survives the swap, unless it has moved."""
        found = self._instances.get(target.id) or self._leaving.pop(target.id, None)
        if found is None:
            found = Instance(target, self._pools(target), self._window)
        elif found.target != target or target.id not in self._instances:
            for pool in found.pools:
                pool.close()
            found.target, found.pools = target, self._pools(target)
        self._instances[target.id] = found
        return found

    def _pools(self, target: Target) -> tuple[Pool, ...]:
        return tuple(Pool(place, self._loop, self._settings.connect_time, self._wholes) for place in target.places)

    def _retire(self, kept: set[str]) -> None:
        for identifier in [identifier for identifier in self._instances if identifier not in kept]:
            instance = self._instances.pop(identifier)
            instance.home = None
            for pool in instance.pools:
                pool.close()
            if instance.outstanding:
                self._leaving[identifier] = instance


def _all(routes: Iterable[LiveRoute]) -> Iterator[LiveVariant]:
    for route in routes:
        yield from route.variants


def _inherit(new: LiveRoute, old: LiveRoute | None) -> list[Waiter]:
    """Waiting requests stay with their variant while it has the same containers; the rest must look for another way."""
    lost: list[Waiter] = []
    for live in old.variants if old is not None else ():
        heir = new.by_name.get(live.variant.name)
        if heir is not None and heir.instances and heir.variant.containers == live.variant.containers:
            heir.waiting = live.waiting
        else:
            lost += live.waiting
    return lost
