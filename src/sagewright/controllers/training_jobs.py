"""Training jobs: what to do next, from what was asked and what is seen. Pure.

    wait       until the machine has room for it (`training_queue`)           ─► Pending
    begin      choose the backend, and a workload's id for each host         ─► Starting
    stage      inputs and config files into DATA/workloads/ID/ml              ─► Downloading
    submit     a container for each host; the image is pulled if need be      ─► Downloading
    run        until all exit, one fails, or it is stopped or over its time   ─► Training | Stopping
    collect    once all have exited and their last lines are in the streams   ─► Uploading
    finish     commit the terminal state, then remove what was used           ─► Completed | Failed | Stopped
    clean      look whether everything is gone; drop the row if that is wished

A container that was once seen running is never started again: execution is at most once from there on, unless the job
itself asked for more by RetryStrategy or as a spot job (`training_attempts`). One that was never seen and is absent is
submitted (again): it is the same id, so it runs once if the first attempt did arrive.
Owns: the order. Does not own: the moves themselves (`training_steps`), what all hosts together say (`training_hosts`),
failure texts (`failure`), acting (`loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sagewright.controllers import failure
from sagewright.controllers import training_attempts as attempts
from sagewright.controllers import training_hosts as hosts
from sagewright.controllers import training_mirrors as mirrors
from sagewright.controllers import training_pipes as pipes
from sagewright.controllers import training_pools as pools
from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import (
    Action,
    Decision,
    Problem,
    Seen,
    Stop,
    Watch,
)
from sagewright.controllers.training_cleanup import CleanUp
from sagewright.controllers.training_memory import Memory
from sagewright.controllers.training_queue import JobQueue, Turn
from sagewright.controllers.training_requests import Requests
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import BackendName, Key, Kind, WorkloadId, workload_id
from sagewright.settings import ControllerSettings
from sagewright.store.kinds import training_job as job_kind
from sagewright.store.kinds.training_job import TrainingStatus
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.hosts import bounded
from sagewright.workloads.transfer import TransferPhase

NOW = timedelta(0)
_IN_LINE = timedelta(seconds=15)


@dataclass(frozen=True, slots=True)
class Timing:
    """`poll`: between looks at what is in progress. `unreachable_limit`: without a backend before its jobs fail."""

    poll: timedelta = timedelta(seconds=1)
    unreachable_limit: timedelta = timedelta(minutes=10)

    @classmethod
    def of(cls, settings: ControllerSettings) -> Timing:
        return cls(timedelta(seconds=settings.poll), timedelta(seconds=settings.unreachable_limit))


class TrainingController:
    """See `controllers.controller.Controller`.

    `workloads` holds one folder per workload. `surroundings` gives a job's container what only the installation
    knows: endpoint, keys, region. `new_id` names a workload (kind, name, attempt, host).
    """

    kind: Kind = job_kind.KIND
    moves: Mapping[str, frozenset[str]] = job_kind.MOVES

    def __init__(
        self,
        workloads: Path,
        surroundings: Callable[[Job], Mapping[str, str]],
        timing: Timing | None = None,
        new_id: Callable[[Kind, str, int, int], WorkloadId] = workload_id,
        queue: JobQueue | None = None,
    ) -> None:
        self._memory = Memory(queue or JobQueue())
        self._workloads = workloads
        self._ask = Requests(workloads, surroundings)
        self._timing = timing or Timing()
        self._clean_up = CleanUp(self._ask, self._timing.poll)
        self._new_id = new_id

    def load(self, tx: Tx, key: Key) -> tuple[Resource, Job] | None:
        self._memory.fill(tx)
        row = tx.find(key)
        if row is None:
            self._memory.gone(key)
            return None
        job = Job.of(row)
        self._memory.note(job)
        return row, job

    def watch(self, job: Job) -> Watch:
        workloads = job.workloads
        starting = (job.backend,) if steps.may_start(job) else ()
        if job.resource.state in job_kind.TERMINAL:
            return Watch() if job.status.cleaned else self._watch_leftovers(job)
        if not workloads:
            return Watch(backends=starting)
        if job.status.removing:
            return self._watch_leftovers(job)
        if job.status.secondary == steps.UPLOADING:
            return Watch(transfers=(steps.collect_id(workloads[0]),))
        return Watch(
            workloads=dict.fromkeys(workloads, job.backend),
            backends=starting,
            log_streams=job.log_streams,
            transfers=(
                *pipes.transfers(job),
                *mirrors.transfers(job),
                *(() if job.ran else (steps.stage_id(each) for each in workloads)),
            ),
            metric_definitions=dict.fromkeys(workloads, job.metric_definitions),
            failure_files={each: steps.root(self._workloads, each) / "output" / "failure" for each in workloads},
        )

    def _watch_leftovers(self, job: Job) -> Watch:
        """Its last attempt may have left nothing, and a warm pool all the same."""
        moved = (*map(steps.stage_id, job.workloads), *map(steps.collect_id, job.workloads[:1]))
        return Watch(
            workloads=dict.fromkeys(job.workloads, job.backend),
            transfers=(*moved, *pipes.transfers(job), *mirrors.transfers(job)),
            folders={each: steps.own_folder(self._workloads, each) for each in (*job.workloads, *job.caches)},
        )

    def decide(self, job: Job, seen: Seen, now: datetime) -> Decision:
        if job.resource.state in job_kind.TERMINAL:
            return self._clean_up.decide(job, seen, self._memory.pools.asked_for(job, now), now)
        if job.status.removing:
            return self._give_up(job, seen, now)
        if job.status.ending is not None:
            return self._end(job, seen, now)
        if job.spec.stop_requested_at is not None:
            return self._head_for(job, steps.stopped(), now, "the user asked for it")
        if attempts.has_waited_too_long(job, now):
            return self._head_for(job, steps.max_wait_exceeded(), now, "it reached MaxWaitTimeInSeconds")
        if not job.workloads:
            return self._enter(job, seen, now)
        if job.status.giving_up:
            return self._give_up(hosts.noted(job, seen), seen, now)
        decision = pipes.with_feeds(self._go_on(hosts.noted(job, seen), seen, now), job, seen, self._workloads)
        return mirrors.with_mirrors(decision, job, seen, self._workloads)

    def unreachable(self, job: Job, problems: Mapping[BackendName, Problem], now: datetime) -> Decision:
        """Wait and say for what. Give up when waiting is in vain, or has been too long."""
        problem = problems[job.backend]
        if job.resource.state in job_kind.TERMINAL:
            return self._clean_up.alone(job, problem)
        since = min(now, from_text(job.status.unreachable_since)) if job.status.unreachable_since else now
        if not problem.installed and not job.ran:
            return self._finish(job, steps.failed(failure.of_missing_backend(problem.message)), now)
        if now - since >= self._timing.unreachable_limit:
            reason = failure.of_unreachable_backend(problem.message, now - since)
            return self._finish(job, steps.failed(reason), now)
        waiting = replace(job.status, unreachable_since=to_text(since))
        waiting = steps.detailed(waiting, f"waiting for the {job.backend} backend: {problem.message}", now)
        return self._keep(job, waiting, "the backend does not answer")

    # -- the steps, in order -------------------------------------------------

    def _enter(self, job: Job, seen: Seen, now: datetime) -> Decision:
        """Begin, unless the machine has no room for it yet."""
        has = seen.capabilities.get(job.backend)
        turn = self._memory.queue.enter(job, has) if has else Turn()
        if not turn.waits_for:
            return self._begin(job, has, turn, now)
        if attempts.has_been_pending_too_long(job, now):
            return self._head_for(job, steps.max_pending_exceeded(), now, "it reached MaxPendingTimeInSeconds")
        status = replace(job.status, unreachable_since=None)
        status = steps.enter(status, steps.PENDING, steps.PENDING_TEXT, now, turn.waits_for)
        waits = self._calmly(job, status, now)
        return self._keep(
            job, waits, "waits for room", wake_in=_IN_LINE
        )  # the end of another job wakes it, or the next full pass after this

    def _begin(self, job: Job, has: Capabilities | None, turn: Turn, now: datetime) -> Decision:
        attempt = job.status.attempt + 1
        chosen = tuple(
            self._new_id(job_kind.KIND, job.name, attempt, number) for number in range(1, len(job.hosts) + 1)
        )
        less = bounded(job.hosts, steps.machine(has)) if has else ""
        pool = self._memory.pools.claim(job)
        begun = now if job.status.transitions else min(job.resource.created_at, now)
        status = steps.enter(job.status, steps.STARTING, steps.STARTED_TEXT, begun)
        status = steps.enter(status, steps.STARTING, steps.PREPARING_TEXT, now, less)
        status = replace(
            status,
            attempt=attempt,
            workloads=chosen,
            seen=(),
            exit_code=None,
            backend=job.backend,
            layered=has is not None and has.layers,
            first_gpu=turn.first_gpu,
            training_started_at=job.status.training_started_at or to_text(now),
            unreachable_since=None,
            log_epoch=attempts.log_epoch(job, now),
            interrupts_heard=job.spec.interrupts,
            pool=pools.begun(job, pool, chosen[0]),
        )
        if job.spec.request.get("InputDataConfig"):
            status = steps.enter(status, steps.DOWNLOADING, steps.INPUT_TEXT, now)
        job = job.with_status(status)
        stages = tuple(self._ask.stage(job, each) for each in chosen)
        begins = self._keep(job, status, f"begins as {', '.join(chosen)}", stages)
        return replace(begins, wakes=(pool[0],) if pool else ())

    def _go_on(self, job: Job, seen: Seen, now: datetime) -> Decision:
        if job.ran and job.status.unreachable_since is None:
            told = hosts.late(job, seen) or hosts.remark(job, seen)
            job = job.with_status(steps.enter(job.status, steps.TRAINING, steps.TRAINING_TEXT, now, told))
        if failed := pipes.failure(job, seen) or hosts.first_failure(job, seen):
            return self._failed(job, failed, seen, now)
        if attempts.is_interrupted(job, seen, now):
            return self._keep(job, attempts.interrupted(job, now), "the spot job is interrupted", wake_in=NOW)
        if absent := hosts.absent(job, seen):
            return self._start(job, absent, seen, now)
        if hosts.have_exited(job, seen):
            return self._exited(job, steps.completed(), seen, now)
        return self._run(job, seen, now) if job.ran else self._prepare(job, seen, now)

    def _start(self, job: Job, absent: tuple[WorkloadId, ...], seen: Seen, now: datetime) -> Decision:
        """Some do not exist yet. Once any does, all have been staged, and nothing is moved under it."""
        status = job.status
        if not seen.workloads and not job.ran:
            if waits := self._await_stages(job, seen, now):
                return waits
            status = steps.enter(status, steps.DOWNLOADING, steps.IMAGE_TEXT, now)
        has = seen.capabilities[job.backend]
        return self._keep(job, status, "submits", tuple(self._ask.submit(job, each, has) for each in absent))

    def _await_stages(self, job: Job, seen: Seen, now: datetime) -> Decision | None:
        """None once every host's inputs are there: a job starts as a whole."""
        states = {each: seen.transfers.get(steps.stage_id(each)) for each in job.workloads}
        if unknown := [each for each, state in states.items() if state is None]:
            stages = tuple(self._ask.stage(job, each) for each in unknown)
            return self._keep(job, job.status, "staging starts", stages)
        known = [state for state in states.values() if state]
        for state in known:
            if state.phase is TransferPhase.FAILED:
                return self._finish(job, steps.failed(failure.of_staging(state.message)), now)
        if any(state.phase is TransferPhase.RUNNING for state in known):
            status = replace(job.status, unreachable_since=None)
            status = steps.detailed(status, steps.progress(*known), now)
            return self._keep(job, self._calmly(job, status, now), "staging")
        return None

    def _prepare(self, job: Job, seen: Seen, now: datetime) -> Decision:
        message = hosts.preparing(job, seen)
        status = steps.enter(job.status, steps.DOWNLOADING, steps.IMAGE_TEXT, now, message)
        return self._keep(job, self._calmly(job, status, now), "the backend prepares")

    def _run(self, job: Job, seen: Seen, now: datetime) -> Decision:
        left = job.max_runtime - attempts.earlier(job) - (now - hosts.started_at(job, seen))
        if left <= NOW:
            return self._head_for(job, steps.max_runtime_exceeded(), now, "it reached MaxRuntimeInSeconds")
        wake_in = min(left, self._timing.poll, attempts.interrupt_due(job, seen, now) or self._timing.poll)
        return self._keep(job, job.status, "runs", wake_in=wake_in)

    def _failed(self, job: Job, first: hosts.HostFailure, seen: Seen, now: datetime) -> Decision:
        """One host has failed: the others are stopped, and then the job ends with its reason."""
        if not first.drained:
            return self._keep(job, job.status, "waits for its last log lines")
        if attempts.is_retried(job, first.reason):
            return self._keep(job, attempts.restarting(job, first.reason, now), "is tried again", wake_in=NOW)
        ending = steps.failed(first.reason)
        live = hosts.live(job, seen)
        if not live:
            return self._exited(job, ending, seen, now)
        status = replace(job.status, ending=ending)
        stopped = "it is stopped" if first.workload in live else "the others are stopped"
        status = steps.detailed(status, f"{job.host(first.workload).name} has failed, {stopped}", now)
        return self._keep(job, status, "one host has failed", tuple(Stop(job.backend, each) for each in live))

    def _give_up(self, job: Job, seen: Seen, now: datetime) -> Decision:
        """End the attempt, so that another can begin."""
        if lost := mirrors.not_saved(job, seen):
            return self._finish(job, steps.failed(failure.of_collection(lost)), now)
        status, actions, note = attempts.go_on(job, seen, self._ask)
        decision = self._keep(job, status, note, actions)
        return decision if status.workloads else replace(decision, wake_in=NOW, wakes=self._make_room(job))

    def _exited(self, job: Job, ending: Mapping[str, Any], seen: Seen, now: datetime) -> Decision:
        """Nothing of it runs any more."""
        if not hosts.drained(job, seen):
            return self._keep(job, job.status, "waits for its last log lines")
        if seen.workloads:
            job = job.with_status(replace(job.status, metrics=hosts.metrics(job, seen)))
        return self._collect(job, ending, now) if job.ran else self._finish(job, ending, now)

    def _head_for(self, job: Job, ending: Mapping[str, Any], now: datetime, why: str) -> Decision:
        """Decide the end before it is reached: from here on the exit code says nothing."""
        status = steps.enter(replace(job.status, ending=ending, giving_up=""), steps.STOPPING, steps.STOPPING_TEXT, now)
        stops: tuple[Action, ...] = tuple(Stop(job.backend, each) for each in job.workloads)
        wait = self._timing.poll if stops else NOW
        return Decision(status.to_row(), job_kind.STOPPING, stops, wake_in=wait, note=f"stops, because {why}")

    def _end(self, job: Job, seen: Seen, now: datetime) -> Decision:
        """The end is decided; get there."""
        ending = job.status.ending
        assert ending is not None
        if not job.workloads:
            return self._finish(job, ending, now)
        if job.status.secondary == steps.UPLOADING:
            return self._upload(job, ending, seen, now)
        waited = job.status.unreachable_since is not None
        job = hosts.noted(job, seen)
        if waited:
            job = job.with_status(steps.detailed(job.status, "", now))
        if live := hosts.live(job, seen):
            return self._keep(job, job.status, "stopping", tuple(Stop(job.backend, each) for each in live))
        return self._exited(job, ending, seen, now)

    def _collect(self, job: Job, ending: Mapping[str, Any], now: datetime) -> Decision:
        status = replace(job.status, ending=dict(ending), unreachable_since=None)
        status = steps.enter(status, steps.UPLOADING, steps.UPLOADING_TEXT, now)
        decision = self._keep(job, status, "uploads", self._ask.collect(job))
        return replace(decision, wakes=self._make_room(job))

    def _upload(self, job: Job, ending: Mapping[str, Any], seen: Seen, now: datetime) -> Decision:
        state = seen.transfers.get(steps.collect_id(job.workloads[0]))
        if state is None:
            return self._keep(job, job.status, "uploads", self._ask.collect(job))
        if state.phase is TransferPhase.RUNNING:
            status = steps.enter(job.status, steps.UPLOADING, steps.UPLOADING_TEXT, now, steps.progress(state))
            return self._keep(job, self._calmly(job, status, now), "uploading")
        if state.phase is TransferPhase.FAILED:
            first = ending.get("failure_reason")
            message = state.message
            reason = failure.with_collection(first, message) if first else failure.of_collection(message)
            return self._finish(job, steps.failed(reason), now)
        ending = steps.without_model(ending, job.archives["model"], state.written)
        return self._finish(job.with_status(replace(job.status, written=state.written)), ending, now)

    def _finish(self, job: Job, ending: Mapping[str, Any], now: datetime) -> Decision:
        status = pools.ended(job.with_status(steps.finish(job.status, ending, now)), now)
        job = job.with_status(status)
        return Decision(
            status.to_row(),
            ending["state"],
            self._ask.remove(job),
            wake_in=NOW,
            note=f"ends as {ending['state']}",
            wakes=self._make_room(job),
        )

    def _make_room(self, job: Job) -> tuple[Key, ...]:
        """Nothing of it runs any more: who waits may look again."""
        self._memory.queue.release(job.resource.key)
        return self._memory.queue.waiting()

    # -- what the steps ask for ----------------------------------------------

    def _keep(
        self,
        job: Job,
        status: TrainingStatus,
        note: str,
        actions: tuple[Action, ...] = (),
        wake_in: timedelta | None = None,
    ) -> Decision:
        """Stay in the same state and look again, after a poll if nothing is said."""
        row = status.to_row()
        changed = row if row != job.resource.status else None
        wake_in = self._timing.poll if wake_in is None else wake_in
        return Decision(changed, job.resource.state, actions, wake_in=wake_in, note=note)

    def _calmly(self, job: Job, status: TrainingStatus, now: datetime) -> TrainingStatus:
        """Progress is written once per poll, however often it is looked at; steps are written at once."""
        same_step = len(status.transitions) == len(job.status.transitions)
        fresh = NOW <= now - job.resource.changed_at < self._timing.poll  # the clock may have been set back
        return job.status if same_step and fresh else status
