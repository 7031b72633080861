"""Batch transform jobs: what to do next, from what was asked and what is seen. Pure.

    begin     choose instances, their workloads and their names
    stage     the model's artifacts become folders                     one transfer each
    submit    the containers; wait until every one answers /ping
    run       the objects through them                                 one transfer per instance
    end       stop the runs and the containers, wait for the last lines
    finish    the terminal state; then remove what was used

A container that was once seen is never started again: what it had not done fails. A run that was cut off with this
process is started again, and goes on with the objects that are not yet written.
Owns: the order. Does not own: names and requests (`transform_steps`), the runs (`batch`), acting (`loop`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sagewright.controllers import transform_steps as steps
from sagewright.controllers.controller import (
    Action,
    Decision,
    ForgetModels,
    ForgetTransfers,
    LogState,
    Problem,
    Remove,
    Seen,
    Stop,
    Watch,
)
from sagewright.controllers.endpoint_failures import exit_cause, ping_cause, waited
from sagewright.controllers.endpoint_steps import artifact, backend_of
from sagewright.controllers.failure import LIMIT, head, last_lines
from sagewright.controllers.training_jobs import Timing
from sagewright.controllers.transform_steps import Job, Surroundings
from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import BackendName, Key, Kind, WorkloadId
from sagewright.store.kinds import transform_job as job_kind
from sagewright.store.kinds.transform_job import TransformStatus
from sagewright.store.resources import Resource, Tx
from sagewright.workloads.hosting import PORT
from sagewright.workloads.observation import Phase
from sagewright.workloads.transfer import TransferPhase

NOW: Final = timedelta(0)
_NOT_YET: Final = LogState(drained=False)
_CLASSES: Final = ("AlgorithmError:", "ClientError:", "InternalServerError:")


class TransformController:
    """See `controllers.controller.Controller`. `workloads` holds the runs' folders, `models` the model folders."""

    kind: Kind = job_kind.KIND
    moves: Mapping[str, frozenset[str]] = job_kind.MOVES

    def __init__(
        self,
        workloads: Path,
        models: Path,
        surroundings: Surroundings,
        timing: Timing | None = None,
        new_token: Callable[[], str] = steps.new_token,
    ) -> None:
        self._workloads = workloads
        self._models = models
        self._surroundings = surroundings
        self._timing = timing or Timing()
        self._new_token = new_token

    def load(self, tx: Tx, key: Key) -> tuple[Resource, Job] | None:
        row = tx.find(key)
        return None if row is None else (row, Job.of(row))

    def watch(self, job: Job) -> Watch:
        if not job.status.instances or job.status.cleaned:
            return Watch()
        runs, workloads = steps.run_ids(job), job.workloads()
        if job.resource.state in job_kind.TERMINAL:
            folder = steps.own_folder(self._workloads, job)
            ids = (*runs, *steps.stage_ids(job).values())
            return Watch(workloads=workloads, transfers=ids, folders={next(iter(workloads)): folder})
        going = job.status.ending is None
        return Watch(
            workloads=workloads,
            log_streams=job.log_streams(),
            transfers=(*runs, *steps.stage_ids(job).values()),
            backends=job.backends if going and len(job.status.seen) < len(workloads) else (),
            pings=dict.fromkeys(workloads, not job.status.started) if going else {},
        )

    def decide(self, job: Job, seen: Seen, now: datetime) -> Decision:
        if job.resource.state in job_kind.TERMINAL:
            return self._clean(job, seen)
        job = job.with_status(replace(job.status, unreachable_since=None, waiting=""))
        if job.status.ending is not None:
            return self._end(job, seen, now)
        if job.spec.stop_requested_at is not None:
            return self._head_for(job, {"state": job_kind.STOPPED}, "the user asked for it")
        if not job.status.instances:
            return self._begin(job, now)
        if failure := self._dead(job, seen):
            return self._fail(job, failure)
        job = job.with_status(replace(job.status, seen=tuple(sorted({*job.status.seen, *seen.workloads}))))
        if job.status.started:
            return self._run(job, seen)
        return self._bring_up(job, seen, now)

    def unreachable(self, job: Job, problems: Mapping[BackendName, Problem], now: datetime) -> Decision:
        """Wait and say for what. Give up when waiting is in vain, or has been too long."""
        gone = any(not problem.installed for problem in problems.values())
        if job.resource.state in job_kind.TERMINAL:
            if not gone:
                return Decision(wake_in=self._timing.poll, note="cannot clean up: the backend does not answer")
            status = replace(job.status, cleaned=True)
            return Decision(status.to_row(), job.resource.state, self._leftovers(job), note="is cleaned up")
        since = min(now, from_text(job.status.unreachable_since)) if job.status.unreachable_since else now
        message = "; ".join(problem.message for problem in problems.values())
        if gone or now - since >= self._timing.unreachable_limit:
            reason = f"ClientError: {message}" if gone else f"InternalServerError: {waited(message, now - since)}"
            return self._finish(job, {"state": job_kind.FAILED, "failure_reason": head(reason, LIMIT)}, now)
        return self._keep(job, replace(job.status, unreachable_since=to_text(since), waiting=message), "waits")

    # -- the steps, in order -------------------------------------------------

    def _begin(self, job: Job, now: datetime) -> Decision:
        chosen = steps.choose_instances(job, self._new_token)
        job = job.with_status(replace(job.status, instances=chosen, began_at=to_text(now)))
        return self._keep(job, job.status, "begins", self._stage(job, Seen()))

    def _stage(self, job: Job, seen: Seen) -> tuple[Action, ...]:
        return tuple(
            steps.stage(job, each, transfer, self._models)
            for each, transfer in steps.stage_ids(job).items()
            if transfer not in seen.transfers
        )

    def _bring_up(self, job: Job, seen: Seen, now: datetime) -> Decision:
        staged = {each: seen.transfers.get(transfer) for each, transfer in steps.stage_ids(job).items()}
        for state in staged.values():
            if state is not None and state.phase is TransferPhase.FAILED:
                return self._fail(job, f"ClientError: Data download failed: {state.message}")
        folders = {each: state.folder for each, state in staged.items() if state is not None and state.folder}
        if len(folders) < len(staged):
            return self._keep(job, job.status, "stages the model", self._stage(job, seen))
        absent = [each for each in job.containers() if each[2] not in seen.workloads]
        if absent:
            submits = tuple(
                steps.submission(
                    job,
                    number,
                    each,
                    model=folders[artifact(each)],
                    has=seen.capabilities[backend_of(each)],
                    surroundings=self._surroundings,
                )
                for number, each, _ in absent
                if backend_of(each) in seen.capabilities
            )
            return self._keep(job, job.status, "submits", submits)
        return self._await_pings(job, seen, now)

    def _await_pings(self, job: Job, seen: Seen, now: datetime) -> Decision:
        healths = {workload: seen.health.get(workload) for _, _, workload in job.containers()}
        if all(health is not None and health.successes for health in healths.values()):
            return self._run(job.with_status(replace(job.status, started=True)), seen)
        if any(found.phase is not Phase.RUNNING for found in seen.workloads.values()):
            unready = (found for found in seen.workloads.values() if found.phase is not Phase.RUNNING)
            message = next((found.message for found in unready if found.message), "")
            return self._keep(job, replace(job.status, waiting=message), "the backend prepares")
        since = from_text(job.status.submitted_at) if job.status.submitted_at else now
        limit = job.spec.plan.startup_seconds
        if now - since >= timedelta(seconds=limit):
            missing = next(workload for workload, health in healths.items() if not (health and health.successes))
            cause = ping_cause(healths[missing], str(PORT), limit, several=len(job.spec.plan.containers) > 1)
            return self._fail(job, _with_tail(f"AlgorithmError: {cause}", seen, missing))
        return self._keep(job, replace(job.status, submitted_at=to_text(since)), "waits for /ping")

    def _run(self, job: Job, seen: Seen) -> Decision:
        states = {each: seen.transfers.get(each) for each in steps.run_ids(job)}
        starts: tuple[Action, ...] = tuple(
            steps.run(job, number, steps.addresses(job, number, seen.workloads), self._workloads)
            for number, state in enumerate(states.values())
            if state is None
        )
        told = [state for state in states.values() if state is not None]
        progress = _added([state.progress for state in told]) or job.status.progress
        job = job.with_status(replace(job.status, progress=progress))
        if starts or any(state.phase is TransferPhase.RUNNING for state in told):
            return self._keep(job, job.status, "runs", starts)
        failed = [state.message for state in told if state.phase is TransferPhase.FAILED]
        if failed:
            reason = failed[0] if failed[0].startswith(_CLASSES) else f"InternalServerError: {failed[0]}"
            return self._fail(job, reason)
        return self._head_for(job, {"state": job_kind.COMPLETED}, "every object is done")

    def _dead(self, job: Job, seen: Seen) -> str | None:
        """Why the job cannot go on: a container has ended, or has gone."""
        for _, _, workload in job.containers():
            found = seen.workloads.get(workload)
            if found is None and workload in job.status.seen:
                return f"InternalServerError: {exit_cause(None)}"
            if found is not None and found.phase is Phase.EXITED:
                kind = "ClientError" if found.exit_code is None else "AlgorithmError"
                return _with_tail(f"{kind}: {exit_cause(found)}", seen, workload)
        return None

    def _fail(self, job: Job, reason: str) -> Decision:
        return self._head_for(job, {"state": job_kind.FAILED, "failure_reason": head(reason, LIMIT)}, reason)

    def _head_for(self, job: Job, ending: Mapping[str, Any], why: str) -> Decision:
        """Decide the end before it is reached."""
        status = replace(job.status, ending=dict(ending))
        state = job_kind.STOPPING if ending["state"] == job_kind.STOPPED else job.resource.state
        return Decision(status.to_row(), state, wake_in=NOW, note=f"ends, because {why}")

    def _end(self, job: Job, seen: Seen, now: datetime) -> Decision:
        ending = job.status.ending
        assert ending is not None
        if not job.status.instances:
            return self._finish(job, ending, now)
        actions: list[Action] = []
        if any(each in seen.transfers for each in steps.run_ids(job)):
            actions.append(ForgetTransfers(steps.run_ids(job), steps.own_folder(self._workloads, job)))
        actions += [
            Stop(backend_of(each), workload)
            for _, each, workload in job.containers()
            if workload in seen.workloads and seen.workloads[workload].phase is not Phase.EXITED
        ]
        undrained = any(not seen.logs.get(workload, _NOT_YET).drained for workload in seen.workloads)
        if actions or undrained:
            return self._keep(job, job.status, "stops", tuple(actions))
        return self._finish(job, ending, now)

    def _finish(self, job: Job, ending: Mapping[str, Any], now: datetime) -> Decision:
        status = replace(
            job.status,
            ending=dict(ending),
            ended_at=to_text(now),
            failure_reason=ending.get("failure_reason"),
            unreachable_since=None,
        )
        actions = self._removal(job.with_status(status))
        return Decision(status.to_row(), ending["state"], actions, wake_in=NOW, note=f"ends as {ending['state']}")

    def _clean(self, job: Job, seen: Seen) -> Decision:
        if seen.workloads or seen.transfers or seen.folders:
            return Decision(actions=self._removal(job), wake_in=self._timing.poll, note="cleans up")
        if job.status.cleaned:
            return Decision(note="settled")
        return Decision(replace(job.status, cleaned=True).to_row(), job.resource.state, note="is cleaned up")

    # -- what the steps ask for ----------------------------------------------

    def _keep(self, job: Job, status: TransformStatus, note: str, actions: tuple[Action, ...] = ()) -> Decision:
        row = status.to_row()
        unchanged = row == job.resource.status
        return Decision(None if unchanged else row, job.resource.state, actions, wake_in=self._timing.poll, note=note)

    def _removal(self, job: Job) -> tuple[Action, ...]:
        removes = (Remove(backend, workload) for workload, backend in job.workloads().items())
        return (*removes, *self._leftovers(job))

    def _leftovers(self, job: Job) -> tuple[Action, ...]:
        if not job.status.instances:
            return ()
        return (
            ForgetTransfers(steps.run_ids(job), steps.own_folder(self._workloads, job)),
            ForgetModels(tuple(steps.stage_ids(job).values()), self._models),
        )


def _with_tail(text: str, seen: Seen, workload: WorkloadId) -> str:
    text = head(text, LIMIT)
    return text + last_lines(seen.logs.get(workload, _NOT_YET).tail, LIMIT - len(text))


def _added(each: list[Mapping[str, Any]]) -> dict[str, Any]:
    """The instances' counts together; the time that is left is the longest one's."""
    total: dict[str, Any] = {}
    for progress in each:
        for name, value in progress.items():
            if name == "seconds_left":
                total[name] = max(total.get(name) or 0, value or 0)
            else:
                total[name] = total.get(name, 0) + value
    return total
