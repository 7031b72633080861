"""After a training job's end: nothing is left of it but its row, its log, and a warm pool while that is kept. Pure.

    cleans up ─► nothing of it is seen any more ─► is cleaned up ─► (its warm pool ends) ─► settled | is deleted

Clean-up is observed, not remembered: it is over when the backend does not know the workloads, no transfer is known and
no folder exists. Owns: these steps. Does not own: what leads to the end (`training_jobs`), pools (`training_pools`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sagewright.controllers import training_pools as pools
from sagewright.controllers.controller import Decision, Problem, Remove, Seen
from sagewright.controllers.training_requests import Requests
from sagewright.controllers.training_steps import Job

NOW = timedelta(0)


@dataclass(frozen=True, slots=True)
class CleanUp:
    """`poll`: between looks at what is being removed."""

    ask: Requests
    poll: timedelta

    def decide(self, job: Job, seen: Seen, claim: pools.Claim | None, now: datetime) -> Decision:
        if seen.workloads or seen.transfers or seen.folders:
            return Decision(actions=self.ask.remove(job), wake_in=self.poll, note="cleans up")
        if job.spec.delete_requested and not job.has_pool:
            return _forget(job, now)
        if not job.status.cleaned:
            wake_in = NOW if job.has_pool else None
            row = replace(job.status, cleaned=True).to_row()
            return Decision(row, job.resource.state, wake_in=wake_in, note="is cleaned up")
        if job.has_pool:
            return self._keep_pool(job, claim, now)
        return Decision(note="settled")

    def alone(self, job: Job, problem: Problem) -> Decision:
        """Without the backend: wait for it, unless it was taken off this machine, and its containers with it."""
        if problem.installed:
            return Decision(wake_in=self.poll, note="cannot clean up: the backend does not answer")
        folders = tuple(each for each in self.ask.remove(job) if not isinstance(each, Remove))
        row = replace(job.status, cleaned=True).to_row()
        return Decision(row, job.resource.state, folders, wake_in=NOW, note="is cleaned up")

    def _keep_pool(self, job: Job, claim: pools.Claim | None, now: datetime) -> Decision:
        status = pools.looked_at(job, claim, now)
        if status is job.status:
            wake_in = self.poll if claim else max(NOW, min(pools.left(job, now), pools.LOOK_AGAIN))
            return Decision(wake_in=wake_in, note="keeps its warm pool")
        ends = f"its warm pool is {(status.pool or {})['status']}"
        return Decision(status.to_row(), job.resource.state, wake_in=NOW, note=ends)


def _forget(job: Job, now: datetime) -> Decision:
    """Not within the second of the creation: a new job of this name would share the log stream's name. A clock that
    was set back is far from it."""
    second = job.resource.created_at.replace(microsecond=0)
    free = second + timedelta(seconds=1)
    if second <= now < free:
        return Decision(wake_in=free - now, note="is deleted in a moment")
    return Decision(forget=True, note="is deleted")
