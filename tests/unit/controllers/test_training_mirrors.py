"""Training jobs with checkpoints: when they are mirrored, and that nothing is removed before it is published."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagewright.controllers.controller import ForgetTransfers, HandOver, Seen, StartTransfer
from sagewright.controllers.training_steps import Job, mirror_id, root, save_id
from sagewright.store.kinds.training_job import IN_PROGRESS, STOPPING, TrainingSpec
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.transfer import (
    CollectOutputs,
    Mirror,
    MirrorFolders,
    StageInputs,
    TransferPhase,
    TransferState,
)
from suites import training as given
from suites.training import DRAINED, HOME, WORKLOAD, after, controller, exited, kinds, preparing, running

CHECKPOINTS = Mirror("checkpoints", "s3://b/ckpt", restore=True)
BOARD = Mirror("output/tensorboard", "s3://b/board/job/tensorboard-output", growing=True)
MIRROR = MirrorFolders(mirror_id(WORKLOAD), root(HOME, WORKLOAD), (CHECKPOINTS, BOARD))


def spec(**more: Any) -> TrainingSpec:
    return given.spec(
        CheckpointConfig={"S3Uri": "s3://b/ckpt/"}, TensorBoardOutputConfig={"S3OutputPath": "s3://b/board/"}, **more
    )


def job(status: Any = None, state: str = IN_PROGRESS, **more: Any) -> Job:
    return given.job(spec(**more), status or given.training(), state)


def mirrored(seen: Seen, **states: TransferPhase) -> Seen:
    ids = {"mirror": mirror_id(WORKLOAD), "save": save_id(WORKLOAD)}
    told = {TransferPhase.FAILED: "there is no bucket"}
    found = {ids[name]: TransferState(ids[name], phase, told.get(phase, "")) for name, phase in states.items()}
    return replace(seen, transfers={**seen.transfers, **found})


def transfers(decision: Any) -> list[Any]:
    return [action.transfer for action in decision.actions if isinstance(action, StartTransfer)]


def test_what_is_there_is_restored_with_the_inputs() -> None:
    (stage,) = transfers(controller().decide(job(given.TrainingStatus()), given.seen(), after(1)))
    assert isinstance(stage, StageInputs)
    assert (stage.mirrors, stage.folders[-2:]) == ((CHECKPOINTS, BOARD), ("checkpoints", "output/tensorboard"))


def test_a_running_container_is_mirrored_and_again_when_that_is_unknown() -> None:
    assert mirror_id(WORKLOAD) in controller().watch(job()).transfers
    assert transfers(controller().decide(job(), given.seen(running()), after(20))) == [MIRROR]
    under_way = mirrored(given.seen(running()), mirror=TransferPhase.RUNNING)
    assert transfers(controller().decide(job(), under_way, after(20))) == []
    assert transfers(controller().decide(job(given.begun()), given.seen(preparing()), after(20))) == []
    plain = given.job(given.spec(), given.training())
    assert transfers(controller().decide(plain, given.seen(running()), after(20))) == []


@pytest.mark.parametrize("found", [exited(0), exited(1), exited(137, ExitCause.OUT_OF_MEMORY)])
def test_the_last_pass_comes_with_collecting_whatever_the_end(found: Any) -> None:
    decision = controller().decide(job(), given.seen(found, logs=DRAINED), after(30))
    (collect,) = transfers(decision)
    assert isinstance(collect, CollectOutputs)
    assert (collect.mirrors, len(collect.archives)) == ((MIRROR,), 2)


def test_a_stop_is_followed_by_the_last_pass() -> None:
    stopping = given.training(ending={"state": "Stopped", "secondary": "Stopped", "message": "stopped"})
    decision = controller().decide(job(stopping, STOPPING), given.seen(exited(143), logs=DRAINED), after(30))
    (collect,) = transfers(decision)
    assert collect.mirrors == (MIRROR,)


class TestGivingUp:
    status = given.training(giving_up="Interrupted")
    spot: dict[str, Any] = {"EnableManagedSpotTraining": True}  # noqa: RUF012 - read only

    def test_nothing_is_removed_before_it_is_published(self) -> None:
        ended = given.seen(exited(143), logs=DRAINED)
        decision = controller().decide(job(self.status, **self.spot), ended, after(30))
        assert kinds(decision) == [HandOver, StartTransfer]
        (save,) = transfers(decision)
        assert (save.id, save.archives, save.mirrors) == (save_id(WORKLOAD), {}, (MIRROR,))
        assert save_id(WORKLOAD) in controller().watch(job(self.status, **self.spot)).transfers
        under_way = mirrored(ended, save=TransferPhase.RUNNING)
        waits = controller().decide(job(self.status, **self.spot), under_way, after(31))
        assert not [each for each in waits.actions if isinstance(each, ForgetTransfers)]
        saved = mirrored(ended, save=TransferPhase.DONE)
        removes = controller().decide(job(self.status, **self.spot), saved, after(32))
        (forget,) = [each for each in removes.actions if isinstance(each, ForgetTransfers)]
        assert {save_id(WORKLOAD), mirror_id(WORKLOAD)} <= set(forget.ids)

    def test_checkpoints_that_cannot_be_published_end_the_job_with_the_reason(self) -> None:
        """It would wait for ever otherwise: the bucket may be gone for good."""
        failed = mirrored(given.seen(exited(143), logs=DRAINED), save=TransferPhase.FAILED)
        decision = controller().decide(job(self.status, **self.spot), failed, after(31))
        assert given.reason(decision) == "ClientError: Artifact upload failed: there is no bucket"

    def test_an_attempt_that_never_ran_has_nothing_to_publish(self) -> None:
        never = given.begun(giving_up="Restarting")
        decision = controller().decide(job(never, **self.spot), given.seen(), after(30))
        assert not transfers(decision)
