"""Training jobs with Pipe channels: when they are fed, and what a channel that cannot be fed any more means."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagewright.controllers.controller import ForgetTransfers, Seen, StartTransfer, Stop, Submit
from sagewright.controllers.training_steps import Job, feed_id, root, stage_id
from sagewright.store.kinds.training_job import FAILED, IN_PROGRESS, STOPPING
from sagewright.workloads.transfer import FeedPipes, TransferPhase, TransferState
from suites import training as given
from suites.training import HOME, WORKLOAD, after, controller, exited, preparing, row, running

FEED = feed_id(WORKLOAD)
BROKEN = "Object s3://b/train cannot be unpacked"


def piped(status: Any = None, state: str = IN_PROGRESS) -> Job:
    algorithm = {"TrainingImage": "mine:latest", "TrainingInputMode": "Pipe"}
    return given.job(given.spec("job", "train", AlgorithmSpecification=algorithm), status or given.begun(), state)


def fed(seen: Seen, phase: TransferPhase | None = TransferPhase.RUNNING, message: str = "") -> Seen:
    states = {FEED: TransferState(FEED, phase, message)} if phase else {}
    return replace(seen, transfers={**seen.transfers, **states})


def feeds(decision: Any) -> list[FeedPipes]:
    transfers = [action.transfer for action in decision.actions if isinstance(action, StartTransfer)]
    return [each for each in transfers if isinstance(each, FeedPipes)]


def test_the_feeder_is_started_with_the_container() -> None:
    staged = given.seen(stage=TransferPhase.DONE)
    decision = controller().decide(piped(), fed(staged, None), after(1))
    assert feeds(decision) == [FeedPipes(FEED, root(HOME, WORKLOAD))]
    submit = next(action for action in decision.actions if isinstance(action, Submit))
    assert submit.workload.pipes
    assert decision.actions.index(submit) > 0, "before the container can look"
    assert not feeds(controller().decide(piped(), fed(staged), after(1)))


def test_nothing_is_fed_while_inputs_are_staged_or_without_pipes() -> None:
    assert not feeds(controller().decide(piped(), given.seen(stage=TransferPhase.RUNNING), after(1)))
    plain = given.job(given.spec("job", "train"), given.begun())
    assert not feeds(controller().decide(plain, given.seen(stage=TransferPhase.DONE), after(1)))


@pytest.mark.parametrize(("status", "found"), [(given.begun(), preparing()), (given.training(), running())])
def test_a_feeder_that_is_not_there_is_started_again_while_the_container_lives(status: Any, found: Any) -> None:
    job = piped(status)
    assert FEED in controller().watch(job).transfers
    assert feeds(controller().decide(job, given.seen(found), after(20)))
    assert not feeds(controller().decide(job, fed(given.seen(found)), after(20)))


def test_none_is_started_for_a_container_that_has_ended() -> None:
    decision = controller().decide(piped(given.training()), given.seen(exited(), logs=given.DRAINED), after(20))
    assert not feeds(decision)


def test_a_broken_channel_stops_the_container_and_then_fails_the_job() -> None:
    broken = fed(given.seen(running()), TransferPhase.FAILED, BROKEN)
    decision = controller().decide(piped(given.training()), broken, after(20))
    assert decision.state == IN_PROGRESS, "nobody asked for a stop"
    assert [type(action) for action in decision.actions] == [Stop]
    job = piped(given.committed(decision))
    ended = fed(given.seen(exited(0), logs=given.DRAINED), TransferPhase.FAILED, BROKEN)
    collecting = controller().decide(job, ended, after(21))
    assert collecting.status is not None
    assert collecting.status["secondary"] == "Uploading"
    done = controller().decide(piped(given.committed(collecting)), given.seen(collect=TransferPhase.DONE), after(22))
    assert done.state == FAILED
    assert given.reason(done) == f"ClientError: Data download failed: {BROKEN}"


def test_success_on_broken_data_is_none() -> None:
    """It ended with 0, and what it had read was cut off."""
    killed = fed(given.seen(exited(0), logs=given.DRAINED), TransferPhase.FAILED, "InternalServerError: killed")
    decision = controller().decide(piped(given.training()), killed, after(20))
    assert decision.status is not None
    assert decision.status["ending"]["failure_reason"] == "InternalServerError: killed"


def test_a_job_that_is_being_stopped_stays_one() -> None:
    wish = replace(piped().spec, stop_requested_at="2026-01-02T03:04:05.000000Z")
    job = Job.of(row(wish, given.training()))
    decision = controller().decide(job, fed(given.seen(running()), TransferPhase.FAILED, BROKEN), after(20))
    assert decision.state == STOPPING


def test_the_end_forgets_the_feeder() -> None:
    done = piped(given.training(cleaned=False), FAILED)
    assert set(controller().watch(done).transfers) >= {FEED, stage_id(WORKLOAD)}
    decision = controller().decide(done, fed(given.seen()), after(30))
    assert any(isinstance(action, ForgetTransfers) and FEED in action.ids for action in decision.actions)


def test_a_killed_feeder_is_an_internal_error_and_may_be_retried() -> None:
    algorithm = {"TrainingImage": "mine:latest", "TrainingInputMode": "Pipe"}
    retries = {"RetryStrategy": {"MaximumRetryAttempts": 1}, "AlgorithmSpecification": algorithm}
    job = given.job(given.spec("job", "train", **retries), given.training())
    killed = fed(given.seen(running()), TransferPhase.FAILED, "InternalServerError: killed")
    decision = controller().decide(job, killed, after(20))
    assert decision.state == IN_PROGRESS
    assert given.last(decision)["Status"] == "Restarting"
