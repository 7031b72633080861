"""One instance, one step: what is seen of its containers, and what follows. Pure.

    staging ──models there──► starting ──every container pings──► in-service ◄──3 misses, 1 success──► unhealthy
       ▲                         │ dies                               │ dies            2 min without success │
       └── its successor ◄───────┴────────────────────────────────────┴───────────────────────────────────────┘
                                                          dismissed ──► draining ──► stopping ──► gone

A life that ended is not revived: its instance stops, and a successor with another id takes its place after a pause, so
that a workload id runs once and each life has a log stream of its own.
Owns: the phases. Does not own: how many instances there are and when one starts (`endpoint_fleets`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sagewright.controllers import endpoint_failures as failures
from sagewright.controllers import endpoint_steps as steps
from sagewright.controllers.controller import Action, Health, LogState, Remove, Seen, Stop
from sagewright.controllers.endpoint_steps import Endpoint, Surroundings, Timing
from sagewright.controllers.health import MISSES
from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import BackendName, WorkloadId
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import ContainerPlan, Fleet, Instance
from sagewright.workloads.hosting import PORT
from sagewright.workloads.observation import ExitCause, Observation, Phase

NOW: Final = timedelta(0)
_NOT_YET: Final = LogState(drained=False)
_CERTAIN: Final = frozenset({ExitCause.IMAGE, ExitCause.START})  # another attempt would end in the same way
_TELLING: Final = timedelta(seconds=30)  # after so long a life's own pings tell more than its predecessor's end


@dataclass(frozen=True, slots=True)
class Means:
    """What steps need besides what they decide on. `models` holds the model folders, `new_token` makes ids."""

    models: Path
    surroundings: Surroundings
    timing: Timing
    new_token: Callable[[], str]


@dataclass(slots=True)
class Look:
    """One fleet in one look, and what the steps add to it: actions, new digests, a failure, when to look again.

    `strict`: the fleet has yet to come up, so that what cannot come up is a failure.
    """

    endpoint: Endpoint
    fleet: Fleet
    seen: Seen
    now: datetime
    means: Means
    strict: bool
    actions: list[Action] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    wake: timedelta = timedelta.max

    def within(self, pause: timedelta) -> None:
        self.wake = min(self.wake, max(NOW, pause))

    def fail(self, reason: str) -> None:
        self.failure = self.failure or reason

    def may_fail(self, instance: Instance) -> bool:
        """In a fleet that serves, only what scaling added is held to coming up; what was once healthy is started
        again for ever."""
        return self.strict or (self.fleet.previous is not None and not instance.proven)


Found = tuple[ContainerPlan, WorkloadId, Observation | None]


def step(look: Look, instance: Instance) -> tuple[Instance, ...]:
    """What becomes of it: itself in the same or another phase, itself and its successor, or nothing."""
    match instance.phase:
        case kind.STARTING:
            return _starting(look, instance)
        case kind.READY | kind.UNHEALTHY:
            return _serving(look, instance)
        case kind.DRAINING:
            return (_draining(look, instance),)
        case kind.STOPPING:
            return _stopping(look, instance)
        case _:
            return (instance,)


def dismiss(look: Look, instance: Instance) -> Instance | None:
    """It is not wanted any more: requests under way are brought to their end first. None = it was nothing yet."""
    if instance.phase == kind.STAGING:
        return None
    if instance.phase == kind.STARTING:
        return _stop(look, instance)
    look.within(look.means.timing.poll)
    return replace(instance, phase=kind.DRAINING, since=to_text(look.now))


def submit(look: Look, instance: Instance, container: ContainerPlan, model: Path) -> None:
    has = look.seen.capabilities[steps.backend_of(container)]
    look.actions.append(
        steps.submission(
            look.endpoint,
            look.fleet,
            instance,
            container,
            model=model,
            has=has,
            surroundings=look.means.surroundings,
        )
    )
    look.within(NOW)


def is_live(look: Look, instance: Instance) -> bool:
    """Whether one of its containers runs, or may be about to."""
    return any(found is not None and found.phase is not Phase.EXITED for _, _, found in _found(look, instance))


# -- starting ------------------------------------------------------------------


def _starting(look: Look, instance: Instance) -> tuple[Instance, ...]:
    found = _found(look, instance)
    instance = _noted(look, instance, found)
    if ended := _ended(instance, found):
        return _died_at_start(look, instance, *ended)
    healths = [look.seen.health.get(workload) for _, workload, _ in found]
    running = all(seen is not None and seen.phase is Phase.RUNNING for _, _, seen in found)
    if running and all(health is not None and health.successes for health in healths):
        return (replace(instance, phase=kind.READY, since=to_text(look.now), proven=True, transcript=()),)
    if (left := time_left(look, instance)) is not None and left <= NOW:
        return _give_up(look, instance, found)
    look.within(min(look.means.timing.poll, left or look.means.timing.poll))
    return (instance,)


def _died_at_start(
    look: Look, instance: Instance, container: ContainerPlan, workload: WorkloadId, found: Observation | None
) -> tuple[Instance, ...]:
    """Its last lines are waited for, because they tell why."""
    logs = look.seen.logs.get(workload, _NOT_YET)
    patient = found is not None and look.now - (found.ended_at or look.now) < look.means.timing.last_lines
    if patient and not logs.drained:
        look.within(look.means.timing.poll)
        return (instance,)
    return _died(look, instance, container, workload, found)


def _died(
    look: Look, instance: Instance, container: ContainerPlan, workload: WorkloadId, found: Observation | None
) -> tuple[Instance, ...]:
    lives = instance.restarts + 1
    cause = failures.exit_cause(found)
    told = cause if lives == 1 else f"It was started {lives} times; the last time: {cause}"
    tail = look.seen.logs.get(workload, _NOT_YET).tail
    reason = failures.of_start(container.name, instance.variant, told, tail)
    certain = found is not None and found.cause in _CERTAIN
    left = time_left(look, instance)
    if look.may_fail(instance) and (certain or (left is not None and left <= NOW)):
        look.fail(reason)
        return (_stop(look, instance),)
    return replaced(look, instance, reason)


def _give_up(look: Look, instance: Instance, found: tuple[Found, ...]) -> tuple[Instance, ...]:
    """It runs and is not healthy, and its time is over."""
    reason = _why_not_healthy(look, instance, found)
    if look.may_fail(instance):
        look.fail(reason)
        return (_stop(look, instance),)
    return replaced(look, instance, reason)


def _why_not_healthy(look: Look, instance: Instance, found: tuple[Found, ...]) -> str:
    if instance.message and look.now - from_text(instance.since) < _TELLING:
        return instance.message
    variant = look.fleet.plan.variant(instance.variant)
    container, workload, _ = next((each for each in found if not _good(look, each[1])), found[0])
    address = instance.addresses.get(container.name) or f":{PORT}"
    cause = failures.ping_cause(
        look.seen.health.get(workload),
        address.rpartition(":")[2],
        variant.startup_seconds,
        several=len(variant.containers) > 1,
    )
    tail = look.seen.logs.get(workload, _NOT_YET).tail
    return failures.of_start(container.name, variant.name, cause, tail)


# -- serving -------------------------------------------------------------------


def _serving(look: Look, instance: Instance) -> tuple[Instance, ...]:
    """Healthy or not, it has been in service: out at once when a container is gone, or has missed three pings."""
    found = _found(look, instance)
    instance = _noted(look, instance, found)
    if ended := _ended(instance, found):
        return _died(look, instance, *ended)
    if instance.phase == kind.READY:
        missing = next((health for health in _healths(look, found) if health.failures >= MISSES), None)
        if missing is not None:
            rows = failures.transcript_rows(missing)
            look.within(look.means.timing.poll)
            return (replace(instance, phase=kind.UNHEALTHY, since=to_text(look.now), transcript=rows),)
        look.within(look.means.timing.calm)
        return (instance,)
    if all(_good(look, workload) for _, workload, _ in found):
        return (replace(instance, phase=kind.READY, since=to_text(look.now), transcript=()),)
    left = from_text(instance.since) + look.means.timing.unhealthy_limit - look.now
    if left <= NOW and any(health.failures >= MISSES for health in _healths(look, found)):
        return replaced(look, instance, _why_not_healthy(look, instance, found))
    look.within(min(max(left, look.means.timing.poll), look.means.timing.calm))
    return (instance,)


def replaced(look: Look, instance: Instance, message: str) -> tuple[Instance, ...]:
    """A successor in its place. Deaths long ago do not count; the start-up limit goes on while it counts at all."""
    timing = look.means.timing
    calm = instance.phase in {kind.READY, kind.UNHEALTHY} and look.now - from_text(instance.since) >= timing.steady
    restarts = 1 if calm else instance.restarts + 1
    pause = timing.pause(restarts)
    successor = Instance(
        id=look.means.new_token(),
        variant=instance.variant,
        workloads={},
        addresses={},
        phase=kind.STAGING,
        since=to_text(look.now),
        restarts=restarts,
        not_before=to_text(look.now + pause) if pause else None,
        started_at=instance.started_at if look.may_fail(instance) else None,
        proven=instance.proven,
        message=message,
    )
    return (_stop(look, instance), successor)


# -- going ---------------------------------------------------------------------


def _draining(look: Look, instance: Instance) -> Instance:
    left = from_text(instance.since) + look.means.timing.drain_limit - look.now
    if instance.id in look.seen.drained or left <= NOW or not is_live(look, instance):
        return _stop(look, instance)
    look.within(min(left, look.means.timing.poll))
    return instance


def _stop(look: Look, instance: Instance) -> Instance:
    """From here on it only goes. What is absent is removed too: a start that was cut off may have left something."""
    stopping = replace(instance, phase=kind.STOPPING, since=to_text(look.now))
    for container, workload, found in _found(look, stopping):
        _end(look, steps.backend_of(container), workload, found)
    look.within(look.means.timing.poll)
    return stopping


def _stopping(look: Look, instance: Instance) -> tuple[Instance, ...]:
    found = _found(look, instance)
    for container, workload, seen in found:
        _end(look, steps.backend_of(container), workload, seen)
    if all(seen is None for _, _, seen in found):
        look.within(NOW)
        return ()
    look.within(look.means.timing.poll)
    return (instance,)


def _end(look: Look, backend: BackendName, workload: WorkloadId, found: Observation | None) -> None:
    if found is None:
        look.actions.append(Remove(backend, workload))
    elif found.phase is not Phase.EXITED:
        look.actions.append(Stop(backend, workload))
    elif look.seen.logs.get(workload, _NOT_YET).drained:
        look.actions.append(Remove(backend, workload))
        look.within(NOW)


# -- seeing --------------------------------------------------------------------


def _found(look: Look, instance: Instance) -> tuple[Found, ...]:
    pairs = steps.containers(look.fleet, instance)
    return tuple((container, workload, look.seen.workloads.get(workload)) for container, workload in pairs)


def _noted(look: Look, instance: Instance, found: tuple[Found, ...]) -> Instance:
    """The facts of one look that outlive it. That a container has an address, if an empty one, says that it ran."""
    addresses = dict(instance.addresses)
    started_at = instance.started_at
    for container, _, seen in found:
        if seen is None or (seen.started_at is None and seen.phase is not Phase.RUNNING):
            continue
        if seen.phase is Phase.RUNNING or container.name not in addresses:
            addresses[container.name] = seen.address or addresses.get(container.name, "")
        started_at = started_at or to_text(min(seen.started_at or look.now, look.now))
        if seen.image_digest:
            name = container.image["name"]
            look.digests[name] = look.fleet.digests.get(name) or look.digests.get(name) or seen.image_digest
    if (addresses, started_at) == (instance.addresses, instance.started_at):
        return instance
    return replace(instance, addresses=addresses, started_at=started_at)


def _ended(instance: Instance, found: tuple[Found, ...]) -> Found | None:
    """The container that is over: it has exited, or it ran and does not exist any more."""
    for each in found:
        container, _, seen = each
        if (seen is None and container.name in instance.addresses) or (seen and seen.phase is Phase.EXITED):
            return each
    return None


def _healths(look: Look, found: tuple[Found, ...]) -> list[Health]:
    return [health for _, workload, _ in found if (health := look.seen.health.get(workload))]


def _good(look: Look, workload: WorkloadId) -> bool:
    health = look.seen.health.get(workload)
    return health is not None and health.successes > 0


def time_left(look: Look, instance: Instance) -> timedelta | None:
    """Of ContainerStartupHealthCheckTimeoutInSeconds; None while no container in its place has run."""
    if instance.started_at is None:
        return None
    limit = timedelta(seconds=look.fleet.plan.variant(instance.variant).startup_seconds)
    return from_text(instance.started_at) + limit - look.now
