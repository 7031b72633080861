"""Checkpoints and TensorBoard's files of a training job: mirrored while its containers run (contract A.10). Pure.

    running, not mirrored        mirror: again after a restart of ours, as it lives in our process     with_mirrors
    all hosts have ended         a last pass, as a part of collecting                                  last_passes
    an attempt is given up       a last pass before anything of it is removed                          is_saved

Owns: these three. Does not own: the order of a job's steps (`training_jobs`), a pass (`staging.mirror`).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import Decision, Seen, StartTransfer
from sagewright.controllers.training_steps import Job
from sagewright.core.ids import TransferId, WorkloadId
from sagewright.workloads.mirrors import mirrors
from sagewright.workloads.observation import Phase
from sagewright.workloads.transfer import MirrorFolders, TransferPhase


def transfers(job: Job) -> tuple[TransferId, ...]:
    if not mirrors(job.spec.request) or not job.workloads:
        return ()
    return (*(steps.mirror_id(each) for each in job.workloads), steps.save_id(job.workloads[0]))


def is_saved(job: Job, seen: Seen) -> bool:
    """Whether an attempt that has ended left nothing to be published."""
    state = seen.transfers.get(steps.save_id(job.workloads[0]))
    return not job.ran or not mirrors(job.spec.request) or (state is not None and state.phase is TransferPhase.DONE)


def not_saved(job: Job, seen: Seen) -> str:
    """Why an attempt's checkpoints cannot be published: the next one must not begin without them."""
    state = seen.transfers.get(steps.save_id(job.workloads[0])) if not job.status.removing else None
    return state.message if state is not None and state.phase is TransferPhase.FAILED else ""


def with_mirrors(decision: Decision, job: Job, seen: Seen, workloads: Path) -> Decision:
    """The decision, and a mirror for every running container that has none."""
    if not mirrors(job.spec.request):
        return decision
    running = [each for each, found in seen.workloads.items() if found.phase is Phase.RUNNING]
    wanted = [each for each in running if steps.mirror_id(each) not in seen.transfers]
    started = tuple(StartTransfer(_of(job, each, workloads)) for each in wanted)
    return replace(decision, actions=(*started, *decision.actions)) if started else decision


def last_passes(job: Job, workloads: Path) -> tuple[MirrorFolders, ...]:
    return tuple(_of(job, each, workloads) for each in job.workloads) if mirrors(job.spec.request) else ()


def _of(job: Job, workload: WorkloadId, workloads: Path) -> MirrorFolders:
    return MirrorFolders(steps.mirror_id(workload), steps.root(workloads, workload), mirrors(job.spec.request))
