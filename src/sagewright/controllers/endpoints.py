"""Endpoints: which fleet serves, and what becomes of a change. Pure.

    take up    a new revision is a new fleet beside the old one; a new scale is a new plan for the serving fleet
    come up    every instance of the new fleet is healthy: it serves, and the old one drains, in one commit
    fall back  the new fleet, or what scaling added, cannot come up: it is taken down, and what served never stopped
    settle     what is taken down has no request under way any more               ─► InService, or Failed at creation
    delete     from every state: no routes, then drain, stop, remove, forget models, drop the row

What routes show changes only in a commit, before anything is stopped, so routes never lead to what we have stopped.
Owns: the order. Does not own: fleets (`endpoint_fleets`), instances (`endpoint_instances`), texts
(`endpoint_failures`), acting (`reconciler`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sagewright.controllers import endpoint_failures as failures
from sagewright.controllers import endpoint_fleets as fleets
from sagewright.controllers import endpoint_steps as steps
from sagewright.controllers.controller import Action, Decision, Drain, ForgetModels, Problem, Seen, Submit, Watch
from sagewright.controllers.endpoint_instances import NOW, Look, Means
from sagewright.controllers.endpoint_steps import Endpoint, Surroundings, Timing
from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import BackendName, Key, Kind, WorkloadId
from sagewright.store.kinds import endpoint as endpoint_kind
from sagewright.store.kinds.endpoint import EndpointStatus, Fleet, Instance
from sagewright.store.resources import Resource, Tx

_PINGED: Final = {endpoint_kind.STARTING: True, endpoint_kind.READY: False, endpoint_kind.UNHEALTHY: False}


@dataclass(slots=True)
class _Turn:
    """One decision in the making."""

    endpoint: Endpoint
    seen: Seen
    now: datetime
    status: EndpointStatus
    state: str
    wake: timedelta
    actions: list[Action] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def put(self, fleet_id: str, fleet: Fleet | None) -> None:
        """What became of a fleet; None = it is gone."""
        kept = tuple(fleet if each.id == fleet_id else each for each in self.status.fleets)
        self.status = replace(self.status, fleets=tuple(each for each in kept if each is not None))

    def take(self, look: Look, *, start: bool = True) -> None:
        self.actions += [each for each in look.actions if start or not isinstance(each, Submit)]
        self.wake = min(self.wake, look.wake)

    def decision(self, *, settled: bool = False) -> Decision:
        row = self.status.to_row()
        return Decision(
            None if row == self.endpoint.resource.status else row,
            self.state,
            tuple(self.actions),
            wake_in=None if settled else self.wake,
            note="; ".join(self.notes) or self.state,
        )


class EndpointController:
    """See `controllers.controller.Controller`.

    `models` holds the model folders. `surroundings` gives a container what only the installation knows: endpoint,
    keys. `new_token` makes the random part of ids.
    """

    kind: Kind = endpoint_kind.KIND
    moves: Mapping[str, frozenset[str]] = endpoint_kind.MOVES

    def __init__(
        self,
        models: Path,
        surroundings: Surroundings,
        timing: Timing | None = None,
        new_token: Callable[[], str] = steps.new_token,
    ) -> None:
        self._timing = timing or Timing()
        self._means = Means(models, surroundings, self._timing, new_token)

    def load(self, tx: Tx, key: Key) -> tuple[Resource, Endpoint] | None:
        row = tx.find(key)
        return None if row is None else (row, Endpoint.of(row))

    def watch(self, endpoint: Endpoint) -> Watch:
        workloads: dict[WorkloadId, BackendName] = {}
        streams: dict[WorkloadId, tuple[str, str]] = {}
        pings: dict[WorkloadId, bool] = {}
        drains: dict[str, Drain] = {}
        for fleet, instance in _instances(endpoint.status):
            variant = fleet.plan.variant(instance.variant)
            for container, workload in steps.containers(fleet, instance):
                workloads[workload] = steps.backend_of(container)
                streams[workload] = steps.log_stream(endpoint, variant, instance.id, container.name)
                if instance.phase in _PINGED:
                    pings[workload] = _PINGED[instance.phase]
            if instance.phase == endpoint_kind.DRAINING:
                drains[instance.id] = Drain(endpoint.resource.key, endpoint.resource.version)
        starting = _starting(endpoint)
        return Watch(
            workloads=workloads,
            log_streams=streams,
            transfers=[
                each
                for fleet in endpoint.status.fleets
                if fleet.id in starting or not fleet.instances
                for each in steps.transfer_ids(endpoint, fleet).values()
            ],
            backends={backend for found in starting.values() for backend in found},
            pings=pings,
            drains=drains,
        )

    def decide(self, endpoint: Endpoint, seen: Seen, now: datetime) -> Decision:
        status = replace(endpoint.status, unreachable_since=None)
        turn = _Turn(endpoint, seen, now, status, endpoint.resource.state, self._timing.calm)
        if endpoint.spec.delete_requested:
            return self._delete(turn)
        if turn.state == endpoint_kind.FAILED:
            return self._clean(turn)
        self._take_up(turn)
        self._bring_up(turn)
        for fleet in turn.status.fleets:
            if fleet.id == turn.status.serving:
                self._keep_up(turn, fleet)
            elif fleet.retired:
                self._take_down(turn, fleet)
        self._settle(turn)
        return turn.decision()

    def unreachable(self, endpoint: Endpoint, problems: Mapping[BackendName, Problem], now: datetime) -> Decision:
        """What serves goes on without us; what is being deployed waits, and fails when waiting is in vain."""
        since = min(to_text(now), endpoint.status.unreachable_since or to_text(now))  # the clock may have been set back
        status = replace(endpoint.status, unreachable_since=since)
        turn = _Turn(endpoint, Seen(), now, status, endpoint.resource.state, self._timing.poll)
        turn.notes.append("a backend does not answer")
        gone = {name for name, problem in problems.items() if not problem.installed}
        if endpoint.spec.delete_requested:
            turn.state = endpoint_kind.DELETING
        if turn.state in {endpoint_kind.DELETING, endpoint_kind.FAILED}:
            return self._clean_alone(turn, gone)
        waited = now - from_text(since)
        message = "; ".join(problem.message for problem in problems.values())
        if gone or waited >= self._timing.unreachable_limit:
            self._fall_back(turn, failures.of_backend(message if gone else failures.waited(message, waited)))
        return turn.decision()

    # -- a change ---------------------------------------------------------------

    def _take_up(self, turn: _Turn) -> None:
        spec, status = turn.endpoint.spec, turn.status
        wanted = (spec.revision, spec.scale)
        if status.handled == wanted:
            return
        turn.status = replace(status, handled=wanted, pending=True, failure_reason=None)
        if status.handled[0] != spec.revision:
            for each in status.fleets:
                if each.id != status.serving:
                    turn.put(each.id, replace(each, retired=True))
            made = Fleet(f"r{spec.revision}-{self._means.new_token()}", spec.revision, spec.plan, (), to_text(turn.now))
            turn.status = replace(turn.status, fleets=(*turn.status.fleets, made))
            turn.notes.append(f"takes up revision {spec.revision} as {made.id}")
        elif fleet := status.serving_fleet or _coming(status):
            previous = (fleet.previous or fleet.plan) if fleet.id == status.serving else None
            turn.put(fleet.id, replace(fleet, plan=spec.plan, previous=previous))
            turn.notes.append(f"takes up scale {spec.scale}")
        if turn.state != endpoint_kind.CREATING:
            turn.state = endpoint_kind.UPDATING

    def _bring_up(self, turn: _Turn) -> None:
        """The new fleet: it comes to serve, or it fails."""
        fleet = _coming(turn.status)
        if fleet is None:
            return
        look = self._look(turn, fleet, strict=True)
        moved = fleets.advance(look)
        turn.put(fleet.id, moved)
        turn.take(look, start=look.failure is None)
        if look.failure:
            self._fall_back(turn, look.failure)
        elif fleets.is_up(moved):
            for each in turn.status.fleets:
                if each.id != fleet.id:
                    turn.put(each.id, replace(each, retired=True))
            turn.status = replace(turn.status, serving=fleet.id, deployed_config=moved.plan.config)
            turn.notes.append(f"{fleet.id} serves")

    def _keep_up(self, turn: _Turn, fleet: Fleet) -> None:
        """The fleet that serves. When scaling it fails, it goes back to the plan that it had."""
        if turn.endpoint.status.serving != fleet.id:
            return  # it was just brought up: it has been looked at
        look = self._look(turn, fleet, strict=False)
        moved = fleets.advance(look)
        turn.put(fleet.id, moved)
        turn.take(look, start=look.failure is None)
        if look.failure:
            self._fall_back(turn, look.failure)

    def _take_down(self, turn: _Turn, fleet: Fleet) -> None:
        look = self._look(turn, fleet, strict=False)
        turn.put(fleet.id, fleets.retire(look))
        turn.take(look)

    def _fall_back(self, turn: _Turn, reason: str) -> None:
        """The change does not come about. Without a fleet that serves the endpoint has failed."""
        coming, serving = _coming(turn.status), turn.status.serving_fleet
        if coming is not None:
            turn.put(coming.id, replace(coming, retired=True))
        elif serving is not None and serving.previous is not None:
            turn.put(serving.id, replace(serving, plan=serving.previous, previous=None))
        elif serving is not None or turn.status.handled != (turn.endpoint.spec.revision, turn.endpoint.spec.scale):
            return  # nothing is being changed
        turn.status = replace(turn.status, failure_reason=reason)
        turn.state = endpoint_kind.FAILED if serving is None else endpoint_kind.ROLLING_BACK
        if serving is None:
            turn.status = replace(turn.status, pending=False)
        turn.wake = NOW
        turn.notes.append(f"cannot come up: {reason}")

    def _settle(self, turn: _Turn) -> None:
        status, serving = turn.status, turn.status.serving_fleet
        if serving is None or turn.state not in {
            endpoint_kind.CREATING,
            endpoint_kind.UPDATING,
            endpoint_kind.ROLLING_BACK,
        }:
            return
        others = [each for each in status.fleets if each.id != serving.id]
        through = fleets.is_settled(serving) and all(each.retired and fleets.is_out_of_use(each) for each in others)
        if turn.state != endpoint_kind.CREATING and not through:
            turn.wake = min(turn.wake, self._timing.poll)
            return
        turn.put(serving.id, replace(serving, previous=None))
        turn.status = replace(turn.status, pending=False)
        turn.state = endpoint_kind.IN_SERVICE
        turn.notes.append("in service")

    # -- the end ----------------------------------------------------------------

    def _delete(self, turn: _Turn) -> Decision:
        turn.status = replace(turn.status, serving=None, pending=False)
        turn.state = endpoint_kind.DELETING
        for fleet in turn.status.fleets:
            self._take_down(turn, fleet)
        if turn.status.fleets:
            return turn.decision()
        return Decision(state=endpoint_kind.DELETING, actions=tuple(turn.actions), forget=True, note="is deleted")

    def _clean(self, turn: _Turn) -> Decision:
        """After a creation that failed: only the row stays, for the reason."""
        for fleet in turn.status.fleets:
            self._take_down(turn, fleet)
        return turn.decision(settled=not turn.status.fleets)

    def _clean_alone(self, turn: _Turn, gone: Collection[BackendName]) -> Decision:
        """Without backends: wait for them, unless they were taken off this machine, and the containers with them."""
        for fleet in turn.status.fleets:
            left = tuple(each for each in fleet.instances if not _only_on(gone, fleet, each))
            turn.put(fleet.id, replace(fleet, instances=left, retired=True))
            ids = tuple(steps.transfer_ids(turn.endpoint, fleet).values())
            if not left:
                turn.actions.append(ForgetModels(ids, self._means.models))
        turn.status = replace(turn.status, serving=None)
        return turn.decision()

    def _look(self, turn: _Turn, fleet: Fleet, *, strict: bool) -> Look:
        return Look(turn.endpoint, fleet, turn.seen, turn.now, self._means, strict)


def _coming(status: EndpointStatus) -> Fleet | None:
    """The fleet that is to serve and does not yet."""
    return next((each for each in status.fleets if not each.retired and each.id != status.serving), None)


def _instances(status: EndpointStatus) -> list[tuple[Fleet, Instance]]:
    return [(fleet, instance) for fleet in status.fleets for instance in fleet.instances]


def _starting(endpoint: Endpoint) -> dict[str, set[BackendName]]:
    """The fleets that have something to start, and on what; nothing when the endpoint is on its way out."""
    found: dict[str, set[BackendName]] = {}
    if endpoint.spec.delete_requested or endpoint.resource.state in {endpoint_kind.FAILED, endpoint_kind.DELETING}:
        return found
    for fleet, instance in _instances(endpoint.status):
        variant = fleet.plan.variant(instance.variant)
        if not fleet.retired and fleets.needs_models(instance, variant):
            found.setdefault(fleet.id, set()).update(map(steps.backend_of, variant.containers))
    return found


def _only_on(gone: Collection[BackendName], fleet: Fleet, instance: Instance) -> bool:
    """Whether nothing of it is on a backend that is still here; of what has no workloads nothing is."""
    return all(steps.backend_of(container) in gone for container, _ in steps.containers(fleet, instance))
