"""Managed warm pools: what a training job leaves for the next one of the same configuration.

    begun with KeepAlivePeriodInSeconds, or in another's pool   InUse
    ended, and not by an internal error                         Available ─┬─ a matching job begins ─► Reused
                                                                           └─ time is up, set to 0  ─► Terminated

Source: contract A.13; https://docs.aws.amazon.com/sagemaker/latest/dg/train-warm-pools.html. A machine of one's own has
nothing to provision, and memory is not held back from other jobs: what is kept is the persistent cache, a folder for
each host at /opt/ml/sagemaker/warmpoolcache, which moves on from job to job.

The ended job's row says that its pool is Available; the beginning job's row says whose pool it took, and then the first
one is told. In between, and after a restart until both rows were looked at, `WarmPools` remembers who took what.
Owns: these moves, and the memory of claims. Does not own: removing folders (`training_requests`), the order of steps.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from sagewright.controllers import training_steps as steps
from sagewright.controllers.training_steps import Job
from sagewright.core.clock import from_text, to_text
from sagewright.core.ids import Key, ResourceName, WorkloadId
from sagewright.store.kinds import training_job as kind
from sagewright.store.kinds.training_job import TrainingStatus

REUSED_TEXT: Final = "Resource reused by training job: {}"
LOOK_AGAIN: Final = timedelta(seconds=60)  # between looks at a pool that waits
_NOTHING: Final = timedelta(0)
_INTERNAL: Final = "InternalServerError"
_MATCHED: Final = ("InstanceType", "InstanceCount", "VolumeSizeInGB", "VolumeKmsKeyId")

Match = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Claim:
    """`taken` once the claimant's row says so; before, it may yet come to nothing."""

    name: ResourceName
    taken: bool


@dataclass(frozen=True, slots=True)
class _Free:
    match: Match
    cache: str


class WarmPools:
    """Who may take whose pool. In memory: each look at a row tells it the truth again. Safe to call from any thread."""

    def __init__(self) -> None:
        self._free: dict[Key, _Free] = {}
        self._claims: dict[Key, Claim] = {}
        self._lock = threading.Lock()

    def note(self, job: Job) -> None:
        """What its row says."""
        key, pool = job.resource.key, job.status.pool or {}
        with self._lock:
            if job.has_pool:
                self._free[key] = _Free(match(job), pool["cache"])
            else:
                self._free.pop(key, None)
                self._claims.pop(key, None)
            if job.resource.state in kind.TERMINAL:
                self._let_go(key)
            elif pool.get("from"):
                self._claims[replace(key, name=pool["from"])] = Claim(key.name, taken=True)

    def forget(self, key: Key) -> None:
        with self._lock:
            self._free.pop(key, None)
            self._claims.pop(key, None)
            self._let_go(key)

    def claim(self, job: Job) -> tuple[Key, str] | None:
        """The pool that the job is to begin in, and its cache. Nobody else gets it from now on."""
        if job.status.pool or not may_keep(job):
            return None
        own, wanted = job.resource.key, match(job)
        with self._lock:
            mine = [key for key, claim in self._claims.items() if claim.name == own.name and key in self._free]
            free = [key for key, each in self._free.items() if each.match == wanted and key not in self._claims]
            if not (mine or free):
                return None
            taken = min(mine or free, key=str)
            self._claims[taken] = Claim(own.name, taken=False)
            return taken, self._free[taken].cache

    def asked_for(self, job: Job, now: datetime) -> Claim | None:
        """Who has claimed the job's pool. Once its time is up nobody can any more."""
        with self._lock:
            claim = self._claims.get(job.resource.key)
            if job.has_pool and not claim and left(job, now) <= _NOTHING:
                self._free.pop(job.resource.key, None)
            return claim

    def _let_go(self, key: Key) -> None:
        """The job has ended before it could begin in what it claimed."""
        for pool, claim in list(self._claims.items()):
            if claim == Claim(key.name, taken=False) and pool.account == key.account:
                del self._claims[pool]


def match(job: Job) -> Match:
    """What has to be equal for a pool to be reused."""
    request, key = job.spec.request, job.resource.key
    config, vpc = request["ResourceConfig"], request.get("VpcConfig") or {}
    return (
        key.account,
        key.region,
        job.backend,
        request["RoleArn"],
        *(config.get(name) for name in _MATCHED),
        tuple(sorted(vpc.get("Subnets", ()))),
        tuple(sorted(vpc.get("SecurityGroupIds", ()))),
        bool(request.get("EnableInterContainerTrafficEncryption")),
        bool(request.get("EnableNetworkIsolation")),
    )


def may_keep(job: Job) -> bool:
    """Neither spot jobs nor those with instance groups have pools, or use them."""
    return not job.is_spot and not job.spec.request["ResourceConfig"].get("InstanceGroups")


def begun(job: Job, taken: tuple[Key, str] | None, first: WorkloadId) -> Mapping[str, Any] | None:
    """`TrainingStatus.pool` of a job that begins. A later attempt goes on with the cache of the first."""
    if job.status.pool:
        return job.status.pool
    if taken:
        return {"cache": taken[1], "from": taken[0].name}
    if _keep_alive(job) and may_keep(job):
        return {"cache": f"{first}.warm", "from": None}
    return None


def ended(job: Job, now: datetime) -> TrainingStatus:
    """The status of a job that has just ended: its pool is kept, or is no more."""
    status = job.status
    if not status.pool:
        return status
    internal = (status.failure_reason or "").startswith(_INTERNAL)
    kept = bool(_keep_alive(job)) and not internal
    state = {"status": kind.POOL_AVAILABLE, "since": to_text(now)} if kept else {"status": kind.POOL_TERMINATED}
    return replace(status, pool={**status.pool, **state})


def looked_at(job: Job, claim: Claim | None, now: datetime) -> TrainingStatus:
    """A pool that waits: taken, over, or as it was."""
    status, pool = job.status, job.status.pool or {}
    if claim and not claim.taken:
        return status
    since = from_text(pool["since"])
    if now < since:  # the clock was set back: it is kept from now on, and not until the clock is there again
        return replace(status, pool={**pool, "since": to_text(now)})
    retained = {"retained": max(0, int((now - since).total_seconds()))}
    if claim:
        told = steps.note(status, REUSED_TEXT.format(claim.name), now)
        return replace(told, pool={**pool, **retained, "status": kind.POOL_REUSED, "reused_by": claim.name})
    if left(job, now) <= _NOTHING:
        return replace(status, pool={**pool, **retained, "status": kind.POOL_TERMINATED}, cleaned=False)
    return status


def left(job: Job, now: datetime) -> timedelta:
    """How long the pool is still kept. UpdateTrainingJob changes it."""
    pool = job.status.pool or {}
    return from_text(pool["since"]) + timedelta(seconds=_keep_alive(job)) - now


def _keep_alive(job: Job) -> int:
    return int(job.spec.request["ResourceConfig"].get("KeepAlivePeriodInSeconds") or 0)
