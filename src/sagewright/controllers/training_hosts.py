"""The hosts of a training job taken together: what one look at all of them says of the job. Pure.

    any has failed, or is gone after it ran     the job fails, with the reason of the first   first_failure
    any does not exist and never ran            it is to be submitted                         absent
    all have exited with 0                      the job is complete                           have_exited

Owns: these summaries. Does not own: what follows from them (`training_jobs`), the texts (`failure`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from sagewright.controllers import failure
from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import LogState, Seen
from sagewright.controllers.training_steps import Job
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Observation, Phase

_NOT_YET: Final = LogState(drained=False)
_LAST: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class HostFailure:
    """`reason` is known once the host's last log lines are (`drained`)."""

    workload: WorkloadId
    reason: str
    drained: bool


def noted(job: Job, seen: Seen) -> Job:
    """The job with the facts of one look that outlive its workloads. While some are still to be submitted, it is not
    known that the backend would take them."""
    status = job.status
    since = status.unreachable_since if absent(job, seen) and status.ending is None else None
    for found in sorted(_found(job, seen), key=_end):
        status = steps.noted(status, found)
        if steps.started(found) and found.id not in status.seen:
            status = replace(status, seen=(*status.seen, found.id))
    return job.with_status(replace(status, unreachable_since=since))


def absent(job: Job, seen: Seen) -> tuple[WorkloadId, ...]:
    return tuple(each for each in job.workloads if each not in seen.workloads)


def live(job: Job, seen: Seen) -> tuple[WorkloadId, ...]:
    """Those that exist and have not exited."""
    return tuple(found.id for found in _found(job, seen) if found.phase is not Phase.EXITED)


def have_exited(job: Job, seen: Seen) -> bool:
    return not absent(job, seen) and not live(job, seen)


def drained(job: Job, seen: Seen) -> bool:
    """Every line of those that exist is in its stream."""
    return all(seen.logs.get(found.id, _NOT_YET).drained for found in _found(job, seen))


def first_failure(job: Job, seen: Seen) -> HostFailure | None:
    """Of several that failed, the one that ended first: the others may have failed for want of it. One that was removed
    comes before them, as it cannot tell when."""
    for workload in absent(job, seen):
        if workload in job.status.seen:
            tail = seen.logs.get(workload, _NOT_YET).tail
            return HostFailure(workload, on_host(job, workload, failure.of_vanished(tail)), drained=True)
    failed = [each for each in _found(job, seen) if each.phase is Phase.EXITED and not steps.succeeded(each)]
    if not failed:
        return None
    first = min(failed, key=_end)
    logs = seen.logs.get(first.id, _NOT_YET)
    channels = [each["ChannelName"] for each in job.spec.request.get("InputDataConfig", ())]
    reason = failure.of_exit(first, seen.failure_files.get(first.id, ""), logs.tail, channels)
    return HostFailure(first.id, on_host(job, first.id, reason), logs.drained)


def started_at(job: Job, seen: Seen) -> datetime:
    """When the first of those that are there began to run."""
    running = [each for each in _found(job, seen) if steps.started(each)]
    return min(steps.started_at(job, each) for each in running)


def preparing(job: Job, seen: Seen) -> str:
    """What the backend says about the first that it prepares."""
    return next((each.message for each in _found(job, seen) if each.phase is Phase.PREPARING), "")


def late(job: Job, seen: Seen) -> str:
    """Which hosts are not running yet although others are; for a status message."""
    missing = [
        host.name for host, workload in zip(job.hosts, job.workloads, strict=True) if workload not in job.status.seen
    ]
    return f"{', '.join(missing)} not running yet" if missing else ""


def remark(job: Job, seen: Seen) -> str:
    """What the backend noticed about the image while it ran it; for a status message."""
    ran = (each for each in _found(job, seen) if steps.started(each) and each.cause is ExitCause.EXIT)
    return next((each.message for each in ran if each.message), "")


def metrics(job: Job, seen: Seen) -> tuple[Mapping[str, Any], ...]:
    """FinalMetricDataList of the job: of each metric, the last value of any host."""
    last: dict[str, Mapping[str, Any]] = {}
    for workload in job.workloads:
        for each in seen.logs.get(workload, _NOT_YET).metrics:
            known = last.get(each["MetricName"])
            if known is None or known["Timestamp"] <= each["Timestamp"]:
                last[each["MetricName"]] = each
    return tuple(last.values())


def on_host(job: Job, workload: WorkloadId, reason: str) -> str:
    """With one host there is no doubt which."""
    return failure.on_host(reason, job.host(workload).name) if len(job.workloads) > 1 else reason


def _found(job: Job, seen: Seen) -> list[Observation]:
    return [seen.workloads[each] for each in job.workloads if each in seen.workloads]


def _end(found: Observation) -> datetime:
    return found.ended_at or _LAST
