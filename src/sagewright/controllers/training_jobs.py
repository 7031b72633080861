"""Training jobs: what to do next, from what was asked and what is seen. Pure.

    wait       until the machine has room for it (`training_queue`)           ─► Pending
    begin      choose the workload's id and backend                          ─► Starting
    stage      inputs and config files into DATA/workloads/ID/ml              ─► Downloading
    submit     the container; the image is pulled if need be                  ─► Downloading
    run        until it exits, is stopped, or has run for too long            ─► Training | Stopping
    collect    once it has exited and its last line is in the log stream      ─► Uploading
    finish     commit the terminal state, then remove what was used           ─► Completed | Failed | Stopped
    clean      look whether everything is gone; drop the row if that is wished

A container that was once seen running is never started again: execution is at most once from there on. One that was
never seen and is absent is submitted (again): it is the same id, so it runs once if the first attempt did arrive.
Owns: the order. Does not own: the moves themselves (`training_steps`), failure texts (`failure`), acting (`loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sagewright.controllers import failure
from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import (
    Action,
    Decision,
    ForgetTransfers,
    LogState,
    Problem,
    Remove,
    Seen,
    StartTransfer,
    Stop,
    Submit,
    Watch,
)
from sagewright.controllers.training_queue import JobQueue
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import BackendName, Key, Kind, WorkloadId, workload_id
from sagewright.settings import ControllerSettings
from sagewright.store.kinds import training_job as job_kind
from sagewright.store.kinds.training_job import TrainingStatus
from sagewright.store.resources import Resource, Tx
from sagewright.workloads import container
from sagewright.workloads.channels import channel_inputs
from sagewright.workloads.observation import Observation, Phase
from sagewright.workloads.transfer import CollectOutputs, StageInputs, TransferPhase

NOW = timedelta(0)
_IN_LINE = timedelta(seconds=15)
_NOT_YET = LogState(drained=False)


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
        self._queue = queue or JobQueue()
        self._workloads = workloads
        self._surroundings = surroundings
        self._timing = timing or Timing()
        self._new_id = new_id

    def load(self, tx: Tx, key: Key) -> tuple[Resource, Job] | None:
        self._queue.fill(tx)
        row = tx.find(key)
        if row is None:
            self._queue.release(key)
            return None
        job = Job.of(row)
        self._queue.note(job)
        return row, job

    def watch(self, job: Job) -> Watch:
        workload = job.workload
        if workload is None:
            return Watch(backends=(job.backend,) if steps.may_start(job) else ())
        if job.resource.state in job_kind.TERMINAL:
            return Watch() if job.status.cleaned else self._watch_leftovers(job, workload)
        if job.status.secondary == steps.UPLOADING:
            return Watch(transfers=(steps.collect_id(workload),))
        return Watch(
            workloads={workload: job.backend},
            backends=(job.backend,) if steps.may_start(job) else (),
            log_streams={workload: job.log_stream},
            transfers=() if job.ran else (steps.stage_id(workload),),
            metric_definitions={workload: job.metric_definitions},
            failure_files={workload: steps.root(self._workloads, workload) / "output" / "failure"},
        )

    def _watch_leftovers(self, job: Job, workload: WorkloadId) -> Watch:
        return Watch(
            workloads={workload: job.backend},
            transfers=(steps.stage_id(workload), steps.collect_id(workload)),
            folders={workload: steps.own_folder(self._workloads, workload)},
        )

    def decide(self, job: Job, seen: Seen, now: datetime) -> Decision:
        if job.resource.state in job_kind.TERMINAL:
            return self._clean(job, seen, now)
        if job.status.ending is not None:
            return self._end(job, seen, now)
        if job.spec.stop_requested_at is not None:
            return self._head_for(job, steps.stopped(), now, "the user asked for it")
        if job.workload is None:
            return self._enter(job, seen, now)
        found = seen.workloads.get(job.workload)
        if found is None:
            return self._start(job, job.workload, seen, now)
        match found.phase:
            case Phase.PREPARING:
                return self._prepare(job, found, now)
            case Phase.RUNNING:
                return self._run(job, found, now)
            case Phase.EXITED:
                return self._exited(job, found, seen, now)

    def unreachable(self, job: Job, problems: Mapping[BackendName, Problem], now: datetime) -> Decision:
        """Wait and say for what. Give up when waiting is in vain, or has been too long."""
        problem = problems[job.backend]
        if job.resource.state in job_kind.TERMINAL:
            return self._clean_alone(job, problem)
        since = from_text(job.status.unreachable_since) if job.status.unreachable_since else now
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
        missing = self._queue.enter(job, has) if has else ""
        if not missing:
            return self._begin(job, now)
        status = replace(job.status, unreachable_since=None)
        status = steps.enter(status, steps.PENDING, steps.PENDING_TEXT, now, missing)
        waits = self._keep(job, self._calmly(job, status, now), "waits for room")
        return replace(waits, wake_in=_IN_LINE)  # the end of another job wakes it, or the next full pass after this

    def _begin(self, job: Job, now: datetime) -> Decision:
        attempt = job.status.attempt + 1
        workload = self._new_id(job_kind.KIND, job.name, attempt, 1)
        begun = now if job.status.transitions else min(job.resource.created_at, now)
        status = steps.enter(job.status, steps.STARTING, steps.STARTED_TEXT, begun)
        status = steps.enter(status, steps.STARTING, steps.PREPARING_TEXT, now)
        status = replace(
            status,
            attempt=attempt,
            workload=workload,
            backend=job.backend,
            training_started_at=to_text(now),
            unreachable_since=None,
        )
        if job.spec.request.get("InputDataConfig"):
            status = steps.enter(status, steps.DOWNLOADING, steps.INPUT_TEXT, now)
        stage = StartTransfer(self._stage(job, workload))
        return self._keep(job, status, f"begins as {workload}", (stage,))

    def _start(self, job: Job, workload: WorkloadId, seen: Seen, now: datetime) -> Decision:
        """The workload does not exist: it has yet to be staged or submitted, or it is gone."""
        if job.ran:
            reason = failure.of_vanished(seen.logs.get(workload, _NOT_YET).tail)
            return self._collect(job, workload, steps.failed(reason), now)
        staged = seen.transfers.get(steps.stage_id(workload))
        if staged is None:
            return self._keep(job, job.status, "staging starts", (StartTransfer(self._stage(job, workload)),))
        if staged.phase is TransferPhase.FAILED:
            return self._finish(job, steps.failed(failure.of_staging(staged.message)), now)
        if staged.phase is TransferPhase.RUNNING:
            status = replace(job.status, unreachable_since=None)
            status = steps.detailed(status, steps.progress(staged), now)
            return self._keep(job, self._calmly(job, status, now), "staging")
        status = steps.enter(job.status, steps.DOWNLOADING, steps.IMAGE_TEXT, now)
        return self._keep(job, status, "submits", (self._submission(job, workload, seen),))

    def _prepare(self, job: Job, found: Observation, now: datetime) -> Decision:
        status = replace(job.status, unreachable_since=None)
        status = steps.enter(status, steps.DOWNLOADING, steps.IMAGE_TEXT, now, found.message)
        return self._keep(job, self._calmly(job, status, now), "the backend prepares")

    def _run(self, job: Job, found: Observation, now: datetime) -> Decision:
        status = steps.enter(job.status, steps.TRAINING, steps.TRAINING_TEXT, now, found.message)
        job = job.with_status(steps.noted(status, found))
        left = job.max_runtime - (now - steps.started_at(job, found))
        if left <= NOW:
            return self._head_for(job, steps.max_runtime_exceeded(), now, "it reached MaxRuntimeInSeconds")
        return replace(self._keep(job, job.status, "runs"), wake_in=min(left, self._timing.poll))

    def _exited(self, job: Job, found: Observation, seen: Seen, now: datetime) -> Decision:
        if steps.started(found):
            job = job.with_status(
                steps.enter(job.status, steps.TRAINING, steps.TRAINING_TEXT, now, steps.remark(found))
            )
        job = job.with_status(steps.noted(job.status, found))
        logs = seen.logs.get(found.id, _NOT_YET)
        if not logs.drained:
            return self._keep(job, job.status, "waits for its last log lines")
        job = job.with_status(replace(job.status, metrics=logs.metrics))
        if steps.succeeded(found):
            ending = steps.completed()
        else:
            ending = steps.failed(failure.of_exit(found, seen.failure_files.get(found.id, ""), logs.tail))
        return self._collect(job, found.id, ending, now) if job.ran else self._finish(job, ending, now)

    def _head_for(self, job: Job, ending: Mapping[str, Any], now: datetime, why: str) -> Decision:
        """Decide the end before it is reached: from here on the exit code says nothing."""
        status = steps.enter(replace(job.status, ending=ending), steps.STOPPING, steps.STOPPING_TEXT, now)
        stops: tuple[Action, ...] = (Stop(job.backend, job.workload),) if job.workload else ()
        wait = self._timing.poll if stops else NOW
        return Decision(status.to_row(), job_kind.STOPPING, stops, wake_in=wait, note=f"stops, because {why}")

    def _end(self, job: Job, seen: Seen, now: datetime) -> Decision:
        """The end is decided; get there."""
        ending, workload = job.status.ending, job.workload
        assert ending is not None
        if workload is None:
            return self._finish(job, ending, now)
        if job.status.secondary == steps.UPLOADING:
            return self._upload(job, workload, ending, seen, now)
        found = seen.workloads.get(workload)
        if found is not None:
            answered = replace(job.status, unreachable_since=None)
            job = job.with_status(steps.detailed(answered, "", now))
            if found.phase is not Phase.EXITED:
                return self._keep(job, job.status, "stopping", (Stop(job.backend, workload),))
            logs = seen.logs.get(workload, _NOT_YET)
            if not logs.drained:
                return self._keep(job, job.status, "waits for its last log lines")
            job = job.with_status(replace(steps.noted(job.status, found), metrics=logs.metrics))
        if job.ran or (found is not None and steps.started(found)):
            return self._collect(job, workload, ending, now)
        return self._finish(job, ending, now)

    def _collect(self, job: Job, workload: WorkloadId, ending: Mapping[str, Any], now: datetime) -> Decision:
        status = replace(job.status, ending=dict(ending), unreachable_since=None)
        status = steps.enter(status, steps.UPLOADING, steps.UPLOADING_TEXT, now)
        decision = self._keep(job, status, "uploads", (StartTransfer(self._collection(job, workload)),))
        return replace(decision, wakes=self._make_room(job))

    def _upload(self, job: Job, workload: WorkloadId, ending: Mapping[str, Any], seen: Seen, now: datetime) -> Decision:
        state = seen.transfers.get(steps.collect_id(workload))
        if state is None:
            return self._keep(job, job.status, "uploads", (StartTransfer(self._collection(job, workload)),))
        if state.phase is TransferPhase.RUNNING:
            status = steps.enter(job.status, steps.UPLOADING, steps.UPLOADING_TEXT, now, steps.progress(state))
            return self._keep(job, self._calmly(job, status, now), "uploading")
        if state.phase is TransferPhase.FAILED:
            first = ending.get("failure_reason")
            message = state.message
            reason = failure.with_collection(first, message) if first else failure.of_collection(message)
            return self._finish(job, steps.failed(reason), now)
        return self._finish(job.with_status(replace(job.status, written=state.written)), ending, now)

    def _finish(self, job: Job, ending: Mapping[str, Any], now: datetime) -> Decision:
        status = steps.finish(job.status, ending, now)
        return Decision(
            status.to_row(),
            ending["state"],
            self._removal(job),
            wake_in=NOW,
            note=f"ends as {ending['state']}",
            wakes=self._make_room(job),
        )

    def _make_room(self, job: Job) -> tuple[Key, ...]:
        """Its container runs no more: who waits may look again."""
        self._queue.release(job.resource.key)
        return self._queue.waiting()

    def _clean(self, job: Job, seen: Seen, now: datetime) -> Decision:
        if seen.workloads or seen.transfers or seen.folders:
            return Decision(actions=self._removal(job), wake_in=self._timing.poll, note="cleans up")
        if job.spec.delete_requested:
            return self._forget(job, now)
        if job.status.cleaned:
            return Decision(note="settled")
        return Decision(replace(job.status, cleaned=True).to_row(), job.resource.state, note="is cleaned up")

    def _clean_alone(self, job: Job, problem: Problem) -> Decision:
        """Without the backend: wait for it, unless it was taken off this machine, and its containers with it."""
        if problem.installed:
            return Decision(wake_in=self._timing.poll, note="cannot clean up: the backend does not answer")
        folders = self._removal(job)[1:]
        return Decision(
            replace(job.status, cleaned=True).to_row(), job.resource.state, folders, wake_in=NOW, note="is cleaned up"
        )

    def _forget(self, job: Job, now: datetime) -> Decision:
        """Not within the second of the creation: a new job of this name would share the log stream's name."""
        free = job.resource.created_at.replace(microsecond=0) + timedelta(seconds=1)
        if now < free:
            return Decision(wake_in=free - now, note="is deleted in a moment")
        return Decision(forget=True, note="is deleted")

    # -- what the steps ask for ----------------------------------------------

    def _keep(self, job: Job, status: TrainingStatus, note: str, actions: tuple[Action, ...] = ()) -> Decision:
        """Stay in the same state and look again after a poll."""
        row = status.to_row()
        unchanged = row == job.resource.status
        return Decision(None if unchanged else row, job.resource.state, actions, wake_in=self._timing.poll, note=note)

    def _calmly(self, job: Job, status: TrainingStatus, now: datetime) -> TrainingStatus:
        """Progress is written once per poll, however often it is looked at; steps are written at once."""
        same_step = len(status.transitions) == len(job.status.transitions)
        fresh = now - job.resource.changed_at < self._timing.poll
        return job.status if same_step and fresh else status

    def _stage(self, job: Job, workload: WorkloadId) -> StageInputs:
        request, key = job.spec.request, job.resource.key
        return StageInputs(
            id=steps.stage_id(workload),
            account=key.account,
            region=key.region,
            root=steps.root(self._workloads, workload),
            files=container.training_files(request),
            folders=container.training_folders(request),
            channels=channel_inputs(request, host=container.FIRST_HOST, hosts=(container.FIRST_HOST,)),
        )

    def _collection(self, job: Job, workload: WorkloadId) -> CollectOutputs:
        key = job.resource.key
        return CollectOutputs(
            steps.collect_id(workload), key.account, key.region, steps.root(self._workloads, workload), job.archives
        )

    def _submission(self, job: Job, workload: WorkloadId, seen: Seen) -> Submit:
        has = seen.capabilities[job.backend]
        made = container.training_workload(
            job.spec.request,
            workload=workload,
            image=steps.image(job.spec.image),
            arn=job_kind.job_arn(job.resource.key),
            region=job.resource.key.region,
            root=steps.root(self._workloads, workload),
            machine=container.Machine(has.cpus, has.memory, has.gpus),
            platform=self._surroundings(job),
        )
        return Submit(job.backend, made, job.log_stream)

    def _removal(self, job: Job) -> tuple[Action, ...]:
        workload = job.workload
        if workload is None:
            return ()
        ids = (steps.stage_id(workload), steps.collect_id(workload))
        return (
            Remove(job.backend, workload),
            ForgetTransfers(ids, steps.own_folder(self._workloads, workload)),
        )
