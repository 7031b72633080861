"""One look at one resource: load -> observe -> decide -> commit -> act. The only place that acts.

Commit comes before act, guarded by the row's version: what the controller wants is on disk before anything happens,
and a row that somebody changed meanwhile is read again instead. Every action is safe to repeat, so a crash at any
point costs one more look and nothing else.
Owns: the order of the five steps, legal moves, performing actions, removing workloads that belong to no row.
Does not own: when to look and how long to pause after an error (`loop`), what to do (controllers).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from sagewright.controllers.controller import (
    Action,
    Controller,
    Decision,
    ForgetModels,
    ForgetTransfers,
    HandOver,
    HearsCommits,
    Problem,
    Remove,
    Seen,
    StartTransfer,
    Stop,
    Submit,
    Watch,
)
from sagewright.controllers.look import Observer
from sagewright.core.clock import Clock
from sagewright.core.errors import BackendUnavailable, NotFound, SagewrightError, Stale, WorkloadRejected
from sagewright.core.ids import BackendName, Key, Kind, TransferId, WorkloadId
from sagewright.store.resources import Resource, Store, Tx
from sagewright.workloads.backend import ComputeBackend, HandsOver, Sweeps
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.transfer import Transfers

T = TypeVar("T")

STOP_AGAIN: Final = 5.0
"""Seconds between two stops of one workload; each look wants one."""

_log: Final = logging.getLogger(__name__)


class IllegalMove(SagewrightError):
    """`decide` asked for a state that may not follow: an error in the controller, told with the recent story."""


class Reconciler:
    """`threads` runs the synchronous calls of the store and of transfers: the event loop never waits for a disk.
    `announce` hears the keys whose status was just committed; it neither blocks nor raises.
    `wake` hears the keys that a decision wants to be looked at besides."""

    def __init__(
        self,
        *,
        store: Store,
        controllers: Collection[Controller[Any]],
        backends: Mapping[BackendName, ComputeBackend],
        transfers: Transfers,
        observer: Observer,
        clock: Clock,
        threads: Executor,
        announce: Callable[[Collection[Key]], None] | None = None,
        wake: Callable[[Key], None] | None = None,
    ) -> None:
        self.kinds: Mapping[Kind, Controller[Any]] = {each.kind: each for each in controllers}
        self._store = store
        self._backends = backends
        self._transfers = transfers
        self._observer = observer
        self._clock = clock
        self._threads = threads
        self._announce = announce
        self._wake = wake
        self._owners: dict[WorkloadId, Key] = {}
        self._movers: dict[TransferId, Key] = {}
        self._stops: dict[WorkloadId, float] = {}
        self._known: dict[Key, set[WorkloadId]] = {}
        self._strangers: dict[BackendName, set[WorkloadId]] = {}

    async def look(self, key: Key) -> timedelta | None:
        """One pass. Answers when to look again; None when only a commit can make that necessary.

        Raises Stale (look again at once), BackendUnavailable and StoreUnavailable (later), and whatever is wrong
        in a controller. In each case nothing is lost: the row says what is still to be done.
        """
        controller = self.kinds[key.kind]
        loaded = await self._in_thread(lambda: self._store.read(lambda tx: controller.load(tx, key)))
        if loaded is None:
            self._release(key)
            return None
        row, snapshot = loaded
        watch = controller.watch(snapshot)
        self._adopt(key, watch)
        seen = await self._observer.look(watch)
        if not isinstance(seen, Seen):
            await self._wait_for(controller, row, snapshot, seen)
            raise BackendUnavailable("; ".join(problem.message for problem in seen.values()))
        now = self._clock.now()
        decision = controller.decide(snapshot, seen, now)
        await self._commit(controller, row, decision, now)
        again = await self._act(controller, key, decision)
        if again is None:
            self._release(key)
        return again

    def owner(self, workload: WorkloadId) -> Key | None:
        return self._owners.get(workload)

    def mover(self, transfer: TransferId) -> Key | None:
        return self._movers.get(transfer)

    async def due(self, horizon: timedelta) -> Collection[Key]:
        """Every unfinished resource that wants a look before `horizon` from now."""
        until = self._clock.now() + horizon
        return await self._in_thread(lambda: self._store.read(lambda tx: tx.due(self.kinds, until, 100_000)))

    async def sweep(self, unfinished: Collection[Key]) -> None:
        """Remove workloads that belong to no row: a submit whose reply was lost, of a job that has ended since.

        Only once every unfinished row has been looked at, and only what was a stranger in two sweeps on end.
        """
        if any(key not in self._known for key in unfinished):
            return
        for name, backend in self._backends.items():
            try:
                found = set(await backend.observe(None))
                strangers = found - self._owners.keys()
                for workload in sorted(strangers & self._strangers.get(name, set())):
                    _log.warning("removing %s on %s: it belongs to no resource", workload, name)
                    await backend.remove(workload)
                self._strangers[name] = strangers
                if isinstance(backend, Sweeps):
                    await backend.sweep()
            except BackendUnavailable:
                continue  # unknown is not gone: the next sweep sees

    # -- commit --------------------------------------------------------------

    async def _commit(self, controller: Controller[Any], row: Resource, decision: Decision, now: datetime) -> None:
        state = decision.state or row.state
        if state not in controller.moves[row.state]:
            raise IllegalMove(_story(row, state))
        wake_at = None if decision.wake_in is None else now + decision.wake_in
        unchanged = decision.status is None and state == row.state and (wake_at is None) == (row.wake_at is None)
        if unchanged and not decision.forget:
            return  # a wake-up that is already owed needs no write: until the row is settled it stays due

        def write(tx: Tx) -> None:
            if decision.forget:
                tx.remove(row)
            else:
                status = row.status if decision.status is None else decision.status
                tx.update_status(row, status, state, now=now, wake_at=wake_at)

        try:
            await self._in_thread(lambda: self._store.write(write))
        except NotFound as error:
            raise Stale(str(row.key)) from error
        if isinstance(controller, HearsCommits) and not decision.forget:
            status = row.status if decision.status is None else decision.status
            controller.committed(replace(row, status=status, state=state))
        if self._announce is not None and (decision.status is not None or decision.forget or state != row.state):
            self._announce((row.key,))
        if self._wake is not None:
            for other in decision.wakes:
                self._wake(other)
        _log.debug("%s: %s", row.key, decision.note)

    async def _wait_for(
        self, controller: Controller[Any], row: Resource, snapshot: Any, problems: Mapping[BackendName, Problem]
    ) -> None:
        """A backend cannot be asked: let the controller say so in the status, and do what needs no backend."""
        now = self._clock.now()
        decision = controller.unreachable(snapshot, problems, now)
        await self._commit(controller, row, decision, now)
        for action in decision.actions:
            if isinstance(action, StartTransfer | ForgetTransfers | ForgetModels):
                await self._transfer(row.key, action)

    # -- act -----------------------------------------------------------------

    async def _act(self, controller: Controller[Any], key: Key, decision: Decision) -> timedelta | None:
        again = decision.wake_in
        for action in decision.actions:
            if isinstance(action, StartTransfer | ForgetTransfers | ForgetModels):
                await self._transfer(key, action)
                continue
            try:
                await self._backend_action(action)
            except WorkloadRejected as error:
                self._reject(action, str(error))
                again = timedelta(0)
            except BackendUnavailable as error:
                await self._refused(controller, key, action.backend, error)
                raise
        return again

    async def _backend_action(self, action: Submit | Stop | Remove | HandOver) -> None:
        backend = self._backends.get(action.backend)
        if backend is None:
            raise BackendUnavailable(f"This installation has no backend named '{action.backend}'.")
        match action:
            case Submit(workload=workload):
                await backend.submit(workload)
            case Stop(workload=workload):
                await self._stop(backend, workload)
            case HandOver(workload=workload):
                if isinstance(backend, HandsOver):
                    await backend.hand_over(workload)
            case Remove(workload=workload):
                await backend.remove(workload)
                self._forget_workload(workload)

    async def _stop(self, backend: ComputeBackend, workload: WorkloadId) -> None:
        """Repeated in case it was lost, but not for every look: a stop may itself be a reason for a hint."""
        now = asyncio.get_running_loop().time()
        before = self._stops.get(workload)
        if before is None or now - before >= STOP_AGAIN:
            await backend.stop(workload)
            self._stops[workload] = now

    async def _transfer(self, key: Key, action: StartTransfer | ForgetTransfers | ForgetModels) -> None:
        match action:
            case StartTransfer(transfer=transfer):
                self._movers[transfer.id] = key
                await self._in_thread(lambda: self._transfers.start(transfer))
            case ForgetTransfers(ids=ids, root=root):
                await self._in_thread(lambda: self._transfers.forget(ids, root))
            case ForgetModels(ids=ids, models=models):
                await self._in_thread(lambda: self._transfers.forget_models(ids, models))
                for each in ids:
                    self._movers.pop(each, None)

    async def _refused(
        self, controller: Controller[Any], key: Key, name: BackendName, error: BackendUnavailable
    ) -> None:
        """It could be looked at, but would not act: the job's status must say so all the same."""
        problems = {name: await self._observer.problem(name, error)}
        loaded = await self._in_thread(lambda: self._store.read(lambda tx: controller.load(tx, key)))
        if loaded is not None:
            await self._wait_for(controller, *loaded, problems)

    def _reject(self, action: Action, message: str) -> None:
        """A refusal for good is a fact about the workload, so it is handed to `decide` as one."""
        assert isinstance(action, Submit)
        found = Observation(
            action.workload.id,
            Phase.EXITED,
            ended_at=self._clock.now(),
            cause=ExitCause.START,
            message=message,
        )
        self._observer.rejected[action.workload.id] = found

    # -- what is remembered while a resource is unfinished -------------------

    def _adopt(self, key: Key, watch: Watch) -> None:
        known = self._known.setdefault(key, set())
        known.update(watch.workloads)
        self._owners.update(dict.fromkeys(watch.workloads, key))
        self._movers.update(dict.fromkeys(watch.transfers, key))

    def _release(self, key: Key) -> None:
        for workload in tuple(self._known.get(key, ())):
            self._forget_workload(workload)
        self._known.pop(key, None)
        for transfer in [each for each, owner in self._movers.items() if owner == key]:
            del self._movers[transfer]

    def _forget_workload(self, workload: WorkloadId) -> None:
        """It is no more, or nobody asks for it. An endpoint lives long and has many, one after the other."""
        if key := self._owners.pop(workload, None):
            self._known[key].discard(workload)
        self._stops.pop(workload, None)
        self._observer.release(workload)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _story(row: Resource, state: str) -> str:
    recent = [f"{each['StartTime']} {each['Status']}" for each in row.status.get("transitions", ())[-6:]]
    return f"{row.key} may not go from {row.state} to {state}; it went {', '.join(recent) or 'nowhere yet'}"
