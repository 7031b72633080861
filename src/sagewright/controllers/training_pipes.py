"""Pipe channels of a training job: when they are fed, and when what they gave can no longer be trusted. Pure.

    submitted or there, not fed      feed: a feeder lives as long as its container does     with_feeds
    what was fed is wrong            the job fails, even if its program ended with 0        failure

Owns: these two. Does not own: the order of a job's steps (`training_jobs`), feeding (`staging.feeds`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from sagewright.controllers import failure as texts
from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import Decision, Seen, StartTransfer, Submit
from sagewright.controllers.training_hosts import HostFailure, on_host
from sagewright.controllers.training_steps import Job
from sagewright.core.ids import TransferId, WorkloadId
from sagewright.workloads.channels import has_pipes
from sagewright.workloads.hosts import seen_by
from sagewright.workloads.observation import Phase
from sagewright.workloads.transfer import FeedPipes, TransferPhase


def fed(job: Job) -> tuple[WorkloadId, ...]:
    """The workloads that are fed through pipes."""
    return tuple(each for each in job.workloads if has_pipes(seen_by(job.spec.request, job.host(each))))


def transfers(job: Job) -> tuple[TransferId, ...]:
    return tuple(steps.feed_id(each) for each in fed(job))


def failure(job: Job, seen: Seen) -> HostFailure | None:
    """The first host whose channels cannot be fed any more."""
    for each in fed(job):
        state = seen.transfers.get(steps.feed_id(each))
        if state is not None and state.phase is TransferPhase.FAILED:
            return HostFailure(each, on_host(job, each, texts.of_feeding(state.message)), drained=True)
    return None


def with_feeds(decision: Decision, job: Job, seen: Seen, workloads: Path) -> Decision:
    """The decision, and a feeder for every container that needs one and has none."""
    starting = {action.workload.id for action in decision.actions if isinstance(action, Submit)}
    wanted = [
        StartTransfer(FeedPipes(steps.feed_id(each), steps.root(workloads, each)))
        for each in fed(job)
        if (each in starting or each in _alive(seen)) and steps.feed_id(each) not in seen.transfers
    ]
    return replace(decision, actions=(*wanted, *decision.actions)) if wanted else decision


def _alive(seen: Seen) -> Iterator[WorkloadId]:
    return (each for each, found in seen.workloads.items() if found.phase is not Phase.EXITED)
