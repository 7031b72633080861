"""What a training job asks of staging and of its backend: one request for each host. Pure.

    stage      a host's folder of config files and its share of the channels
    submit     a host's container
    collect    the folders of all hosts, merged into the job's artifacts
    remove     all that is left of any of them

Owns: these requests. Does not own: which comes next (`training_jobs`), names (`training_steps`), what a container sees
(`workloads.container`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from sagewright.controllers import training_steps as steps
from sagewright.controllers.controller import Action, ForgetTransfers, HandOver, Remove, StartTransfer, Submit
from sagewright.controllers.training_mirrors import last_passes
from sagewright.controllers.training_steps import Job
from sagewright.core.ids import WorkloadId
from sagewright.store.kinds import training_job as kind
from sagewright.workloads import container, warm
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.channels import channel_inputs
from sagewright.workloads.mirrors import mirrors
from sagewright.workloads.transfer import CollectOutputs, StageInputs


class Requests:
    """`workloads` holds one folder per workload. `surroundings` gives a job's container what only the installation
    knows: endpoint, keys, region."""

    def __init__(self, workloads: Path, surroundings: Callable[[Job], Mapping[str, str]]) -> None:
        self._workloads = workloads
        self._surroundings = surroundings

    def stage(self, job: Job, workload: WorkloadId) -> StartTransfer:
        request, key = job.spec.request, job.resource.key
        host = job.host(workload)
        transfer = StageInputs(
            id=steps.stage_id(workload),
            account=key.account,
            region=key.region,
            root=steps.root(self._workloads, workload),
            files=container.training_files(request, host),
            folders=(*container.training_folders(request, host), *(warm.folders() if job.status.pool else ())),
            channels=channel_inputs(request, host),
            layered=job.status.layered,
            mirrors=mirrors(request),
            beside=(self._cache(job, workload),) if job.status.pool else (),
        )
        return StartTransfer(transfer)

    def collect(self, job: Job) -> tuple[Action, ...]:
        """Of all hosts, into the same archives (contract A.9)."""
        key = job.resource.key
        first, *others = (steps.root(self._workloads, each) for each in job.workloads)
        passes = last_passes(job, self._workloads)
        transfer = CollectOutputs(
            steps.collect_id(job.workloads[0]), key.account, key.region, first, job.archives, tuple(others), passes
        )
        return (*(HandOver(job.backend, each) for each in job.workloads), StartTransfer(transfer))

    def save(self, job: Job) -> tuple[Action, ...]:
        """What an attempt that ends before its job does leaves to the next one: its checkpoints."""
        key = job.resource.key
        first, *others = (steps.root(self._workloads, each) for each in job.workloads)
        passes = last_passes(job, self._workloads)
        transfer = CollectOutputs(
            steps.save_id(job.workloads[0]), key.account, key.region, first, {}, tuple(others), passes
        )
        return (*(HandOver(job.backend, each) for each in job.workloads), StartTransfer(transfer))

    def submit(self, job: Job, workload: WorkloadId, has: Capabilities) -> Submit:
        request, layered = job.spec.request, job.status.layered
        channels = channel_inputs(request, job.host(workload)) if layered else ()
        made = container.training_workload(
            request,
            workload=workload,
            image=steps.image(job.spec.image),
            arn=kind.job_arn(job.resource.key),
            region=job.resource.key.region,
            root=steps.root(self._workloads, workload),
            machine=steps.machine(has),
            first_gpu=job.status.first_gpu,
            platform=self._surroundings(job),
            host=job.workloads.index(workload),
            peers=job.peers,
            layered=[each.channel for each in channels if not each.pipe],
        )
        if job.status.pool:
            made = warm.with_cache(made, self._cache(job, workload))
        return Submit(job.backend, made, job.log_streams[workload])

    def remove(self, job: Job) -> tuple[Action, ...]:
        removes = tuple(Remove(job.backend, each) for each in job.workloads)
        caches = (ForgetTransfers((), steps.own_folder(self._workloads, each)) for each in job.caches)
        return (*removes, *(self._forget(job, each) for each in job.workloads), *caches)

    def _cache(self, job: Job, workload: WorkloadId) -> Path:
        """The host's share of the warm pool's cache."""
        cache: str = (job.status.pool or {})["cache"]
        return self._workloads / cache / job.host(workload).name

    def _forget(self, job: Job, workload: WorkloadId) -> ForgetTransfers:
        ids = (
            steps.stage_id(workload),
            steps.feed_id(workload),
            steps.mirror_id(workload),
            steps.save_id(workload),
            steps.collect_id(workload),
        )
        return ForgetTransfers(ids, steps.own_folder(self._workloads, workload))
