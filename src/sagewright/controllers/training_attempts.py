"""Training jobs that begin anew: spot interruptions and RetryStrategy. Pure.

    an attempt is given up ─► its containers are stopped ─► logs to the end, checkpoints published
      Interrupted | Restarting                               ─► everything of it removed ─► the next one   Starting

Source: contract A.12; https://docs.aws.amazon.com/sagemaker/latest/dg/model-managed-spot-training.html;
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_RetryStrategy.html: only an InternalServerError is
retried, never what the algorithm or its user did.

Nobody takes machines away here, so an interruption is simulated: by `sagewright interrupt JOB`, or at a time that the
job itself gives (`INTERRUPT_AFTER`), so that a test can have one without a second hand.
Owns: whether an attempt is given up and how, the time that attempts took. Does not own: what follows (`training_jobs`).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sagewright.controllers import training_hosts as hosts
from sagewright.controllers import training_mirrors as mirrors
from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import Action, Seen, Stop
from sagewright.controllers.training_requests import Requests
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import from_text
from sagewright.store.kinds.training_job import TrainingStatus

INTERRUPT_AFTER: Final = "SAGEWRIGHT_INTERRUPT_AFTER"
"""In a spot job's Environment: `20` or `20,60`, the seconds after which its first, second … attempt is interrupted."""

INTERRUPTED, RESTARTING = "Interrupted", "Restarting"
INTERRUPTED_TEXT: Final = "Managed spot training was interrupted"
RESTARTING_TEXT: Final = "Restarting the training job after an internal error"
_RETRIED: Final = "InternalServerError"
_NOTHING: Final = timedelta(0)


def is_interrupted(job: Job, seen: Seen, now: datetime) -> bool:
    """Whether the attempt is to be taken away from under the job. What has ended by itself no longer can be."""
    if not job.is_spot or not hosts.live(job, seen):
        return False
    if job.spec.interrupts > job.status.interrupts_heard:
        return True
    due = _interrupt_after(job)
    return due is not None and job.ran and now - hosts.started_at(job, seen) >= due


def interrupt_due(job: Job, seen: Seen, now: datetime) -> timedelta | None:
    """How long until the job wants to be interrupted."""
    due = _interrupt_after(job)
    return due - (now - hosts.started_at(job, seen)) if due is not None and job.ran else None


def is_retried(job: Job, reason: str) -> bool:
    most = (job.spec.request.get("RetryStrategy") or {}).get("MaximumRetryAttempts", 0)
    return reason.startswith(_RETRIED) and job.status.retries < most


def interrupted(job: Job, now: datetime) -> TrainingStatus:
    status = replace(
        job.status,
        giving_up=INTERRUPTED,
        interruptions=job.status.interruptions + 1,
        interrupts_heard=job.spec.interrupts,
    )
    return steps.enter(status, INTERRUPTED, INTERRUPTED_TEXT, now)


def restarting(job: Job, reason: str, now: datetime) -> TrainingStatus:
    status = replace(job.status, giving_up=RESTARTING, retries=job.status.retries + 1)
    return steps.enter(status, RESTARTING, RESTARTING_TEXT, now, reason.partition(": ")[2])


def go_on(job: Job, seen: Seen, ask: Requests) -> tuple[TrainingStatus, tuple[Action, ...], str]:
    """The next step of giving an attempt up. Once nothing of it is left, the status has no workloads."""
    status = job.status
    if not status.removing:
        if live := hosts.live(job, seen):
            return status, tuple(Stop(job.backend, each) for each in live), "stops the attempt"
        if not hosts.drained(job, seen):
            return status, (), "waits for the attempt's last log lines"
        if not mirrors.is_saved(job, seen):
            return status, ask.save(job), "publishes the attempt's checkpoints"
        return replace(status, removing=True), ask.remove(job), "removes the attempt"
    if seen.workloads or seen.transfers or seen.folders:
        return status, ask.remove(job), "removes the attempt"
    return replace(status, workloads=(), seen=(), giving_up="", removing=False), (), "the attempt is gone"


def earlier(job: Job) -> timedelta:
    """How long the attempts before this one trained. MaxRuntimeInSeconds is for all of them together."""
    times = [
        from_text(entry["EndTime"]) - from_text(entry["StartTime"])
        for entry in job.status.transitions
        if entry["Status"] == steps.TRAINING and entry.get("EndTime")
    ]
    return sum(times, _NOTHING)


def has_waited_too_long(job: Job, now: datetime) -> bool:
    """MaxWaitTimeInSeconds: for capacity and for training together, so from the creation on."""
    longest = job.max_wait
    return longest is not None and now - job.resource.created_at >= longest


def has_been_pending_too_long(job: Job, now: datetime) -> bool:
    """MaxPendingTimeInSeconds: since it began to wait for room."""
    longest, last = job.max_pending, job.status.transitions[-1:]
    if longest is None or not last or last[0]["Status"] != steps.PENDING:
        return False
    return now - from_text(last[0]["StartTime"]) >= longest


def log_epoch(job: Job, now: datetime) -> int | None:
    """What the names of this attempt's log streams end in: the time of the creation (None) for the first attempt, for
    each later one its own. A stream of two containers could not say where to go on in which."""
    if not job.status.attempt:
        return None
    before = job.status.log_epoch or int(job.resource.created_at.timestamp())
    return max(before + 1, int(now.timestamp()))


def _interrupt_after(job: Job) -> timedelta | None:
    told = (job.spec.request.get("Environment") or {}).get(INTERRUPT_AFTER, "")
    times = told.split(",")
    number = job.status.interruptions
    if not job.is_spot or number >= len(times):
        return None
    try:
        return timedelta(seconds=max(0.0, float(times[number])))
    except (ValueError, OverflowError):
        return None
