"""One fleet, one look: every instance a step on, as many of them as the plan says, started when they may. Pure.

Owns: how many instances there are, which go first, when one starts, models. Does not own: the phases of an instance
(`endpoint_instances`), which fleet serves and what a failure means for the endpoint (`endpoints`).

A successor starts when its predecessor is dead, not before: so many containers as the plan says have room on the
machine, one more may not. Only instances that drain run beside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Final

from sagewright.controllers import endpoint_failures as failures
from sagewright.controllers import endpoint_steps as steps
from sagewright.controllers.controller import ForgetModels
from sagewright.controllers.endpoint_instances import NOW, Look, dismiss, is_live, replaced, step, submit, time_left
from sagewright.controllers.endpoint_steps import ACTIVE, Artifact
from sagewright.controllers.training_steps import progress
from sagewright.core.clock import from_text, to_text
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import ContainerPlan, Fleet, Instance, VariantPlan
from sagewright.workloads.transfer import TransferPhase

_SOON: Final = timedelta(milliseconds=20)
_FIRST_TO_GO: Final = (kind.STAGING, kind.STARTING, kind.UNHEALTHY, kind.READY)


def advance(look: Look) -> Fleet:
    """Towards what the plan says."""
    instances = [moved for each in look.fleet.instances for moved in step(look, each)]
    for variant in look.fleet.plan.variants:
        instances = _fit(look, instances, variant)
    instances = [moved for each in instances for moved in _resubmitted(look, each)]
    for index, each in enumerate(instances):
        instances[index] = _start_if_staged(look, each, instances)
    return _with(look, instances)


def retire(look: Look) -> Fleet | None:
    """Towards nothing; None once it is that."""
    if not look.fleet.instances:
        return _forget_models(look)
    instances: list[Instance] = []
    for each in look.fleet.instances:
        if each.phase not in ACTIVE:
            instances += step(look, each)
        elif left := dismiss(look, each):
            instances.append(left)
    look.within(NOW if not instances else look.means.timing.poll)
    return replace(_with(look, instances), retired=True)


def is_up(fleet: Fleet) -> bool:
    """Every instance of the plan is in service."""
    return all(_ready(fleet, variant) >= variant.count for variant in fleet.plan.variants)


def is_settled(fleet: Fleet) -> bool:
    """It has all instances, and no others but those that are being stopped. One that has served and is just started
    again does not count against it."""
    for variant in fleet.plan.variants:
        instances = [each for each in fleet.of(variant.name) if each.phase != kind.STOPPING]
        if len(instances) != variant.count or not all(each.phase == kind.READY or each.proven for each in instances):
            return False
    return True


def is_out_of_use(fleet: Fleet) -> bool:
    """No request is under way in it, and none will come."""
    return all(each.phase == kind.STOPPING for each in fleet.instances)


def needs_models(instance: Instance, variant: VariantPlan) -> bool:
    """Whether a container of it has yet to be started, as far as is known."""
    return instance.phase == kind.STAGING or (
        instance.phase == kind.STARTING and any(each.name not in instance.addresses for each in variant.containers)
    )


def _ready(fleet: Fleet, variant: VariantPlan) -> int:
    return sum(each.phase == kind.READY for each in fleet.of(variant.name))


def _with(look: Look, instances: Sequence[Instance]) -> Fleet:
    return replace(look.fleet, instances=tuple(instances), digests={**look.fleet.digests, **look.digests})


def _fit(look: Look, instances: list[Instance], variant: VariantPlan) -> list[Instance]:
    """Too many: those that are least use go, the newest first. Too few: new ones."""
    active = [each for each in instances if each.variant == variant.name and each.phase in ACTIVE]
    surplus = len(active) - variant.count
    if surplus > 0:
        newest_first = reversed(active)
        going = sorted(newest_first, key=lambda each: (each.proven, _FIRST_TO_GO.index(each.phase)))[:surplus]
        return [left for each in instances if (left := dismiss(look, each) if each in going else each)]
    return [*instances, *(_new(look, variant) for _ in range(-surplus))]


def _new(look: Look, variant: VariantPlan) -> Instance:
    look.within(_SOON)
    return Instance(look.means.new_token(), variant.name, {}, {}, kind.STAGING, to_text(look.now))


# -- starting ------------------------------------------------------------------


def _resubmitted(look: Look, instance: Instance) -> tuple[Instance, ...]:
    """A start whose reply was lost, or that was committed and not carried out: the same id again."""
    if instance.phase != kind.STARTING:
        return (instance,)
    absent = [
        container
        for container, workload in steps.containers(look.fleet, instance)
        if workload not in look.seen.workloads and container.name not in instance.addresses
    ]
    if absent and not look.may_fail(instance) and (message := _lost_models(look, absent)):
        return replaced(look, instance, message)
    for container in absent:
        folder = _folder(look, instance, steps.artifact(container))
        if folder and steps.backend_of(container) in look.seen.capabilities:
            submit(look, instance, container, folder)
    return (instance,)


def _start_if_staged(look: Look, instance: Instance, instances: Sequence[Instance]) -> Instance:
    if instance.phase != kind.STAGING or look.failure:
        return instance
    limit = time_left(look, instance)
    if look.may_fail(instance) and limit is not None and limit <= NOW:
        look.fail(instance.message)
        return instance
    if instance.not_before and (left := from_text(instance.not_before) - look.now) > NOW:
        look.within(left)
        return instance
    variant = look.fleet.plan.variant(instance.variant)
    if paused := _retry_models(look, instance, variant):
        return paused
    folders = {each: _folder(look, instance, each) for each in dict.fromkeys(map(steps.artifact, variant.containers))}
    if None in folders.values() or not _has_room(look, instances, variant):
        return instance
    if any(steps.backend_of(each) not in look.seen.capabilities for each in variant.containers):
        look.within(NOW)  # it was not asked for yet
        return instance
    return _start(look, instance, variant, folders)


def _start(look: Look, instance: Instance, variant: VariantPlan, folders: dict[Artifact, Path | None]) -> Instance:
    workloads = steps.workload_ids(look.endpoint, instance.id, variant, look.means.new_token)
    started = replace(instance, phase=kind.STARTING, workloads=workloads, since=to_text(look.now), not_before=None)
    for container in variant.containers:
        folder = folders[steps.artifact(container)]
        assert folder is not None
        submit(look, started, container, folder)
    return started


def _has_room(look: Look, instances: Sequence[Instance], variant: VariantPlan) -> bool:
    taken = 0
    for each in instances:
        started = each.phase in {kind.STARTING, kind.READY, kind.UNHEALTHY}
        taken += each.variant == variant.name and (started or (each.phase == kind.STOPPING and is_live(look, each)))
    if taken < variant.count:
        return True
    look.within(look.means.timing.poll)
    return False


# -- models --------------------------------------------------------------------


def _folder(look: Look, instance: Instance, artifact: Artifact) -> Path | None:
    """The model's folder once it is there; until then it is seen to that it will be."""
    transfer = steps.transfer_ids(look.endpoint, look.fleet)[artifact]
    state = look.seen.transfers.get(transfer)
    variant = look.fleet.plan.variant(instance.variant)
    if state is None:
        start = steps.stage(look.endpoint, artifact, transfer, look.means.models)
        if start not in look.actions:
            look.actions.append(start)
        look.within(_SOON)
    elif state.phase is TransferPhase.DONE:
        return state.folder
    elif state.phase is TransferPhase.FAILED:
        look.fail(failures.of_model(variant.name, state.message))
    elif look.may_fail(instance):
        left = from_text(look.fleet.since) + timedelta(seconds=variant.download_seconds) - look.now
        if left <= NOW:
            look.fail(failures.of_slow_model(variant.name, variant.download_seconds, progress(state)))
        look.within(min(left, look.means.timing.poll))
    else:
        look.within(look.means.timing.poll)
    return None


def _retry_models(look: Look, instance: Instance, variant: VariantPlan) -> Instance | None:
    """An instance of a fleet that serves is never given up: what failed to come is fetched again, after a pause."""
    if look.may_fail(instance):
        return None
    ids = steps.transfer_ids(look.endpoint, look.fleet)
    failed = _failed_models(look, variant.containers)
    if not failed:
        return None
    for each in failed:
        look.actions.append(steps.stage(look.endpoint, each, ids[each], look.means.models))
    restarts = instance.restarts + 1
    pause = max(look.means.timing.pause(restarts), look.means.timing.poll)
    look.within(pause)
    return replace(instance, restarts=restarts, not_before=to_text(look.now + pause))


def _failed_models(look: Look, containers: Sequence[ContainerPlan]) -> dict[Artifact, str]:
    """Artifact → why it did not come."""
    ids = steps.transfer_ids(look.endpoint, look.fleet)
    states = {each: look.seen.transfers.get(ids[each]) for each in map(steps.artifact, containers)}
    return {each: state.message for each, state in states.items() if state and state.phase is TransferPhase.FAILED}


def _lost_models(look: Look, containers: Sequence[ContainerPlan]) -> str:
    """Why a model that was there once is not there any more, and did not come again."""
    return next(iter(_failed_models(look, containers).values()), "")


def _forget_models(look: Look) -> Fleet | None:
    ids = tuple(steps.transfer_ids(look.endpoint, look.fleet).values())
    look.actions.append(ForgetModels(ids, look.means.models))
    look.within(NOW)
    return look.fleet if look.seen.transfers.keys() & set(ids) else None
