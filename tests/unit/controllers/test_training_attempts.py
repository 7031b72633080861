"""Attempts that are given up: spot interruptions and retries, step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sagewright.controllers.controller import Decision, ForgetTransfers, Remove, Seen, StartTransfer, Stop
from sagewright.controllers.training_attempts import INTERRUPT_AFTER
from sagewright.core.clock import to_text
from sagewright.store.kinds.training_job import FAILED, IN_PROGRESS, STOPPED, STOPPING, TrainingSpec, TrainingStatus
from sagewright.workloads.observation import ExitCause
from suites.training import DRAINED, WORKLOAD, after, controller, exited, job, kinds, last, running, seen, spec
from suites.training import training as in_training

LOST = exited(None, ExitCause.LOST)


def training(**more: Any) -> TrainingStatus:
    """So that a look at what runs has nothing new to note."""
    return in_training(image_digest="sha256:1", **more)


def spot(after_seconds: str = "", **more: Any) -> TrainingSpec:
    condition = {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 7200, **more.pop("StoppingCondition", {})}
    environment = {INTERRUPT_AFTER: after_seconds} if after_seconds else {}
    return spec(EnableManagedSpotTraining=True, StoppingCondition=condition, Environment=environment, **more)


def wished(wanted: TrainingSpec, times: int = 1) -> TrainingSpec:
    return replace(wanted, interrupts=times)


def status_of(decision: Decision) -> TrainingStatus:
    assert decision.status is not None
    return TrainingStatus.from_row(decision.status)


def test_a_spot_job_is_interrupted_by_a_wish() -> None:
    decision = controller().decide(job(wished(spot()), training()), seen(running()), after(30))
    assert (last(decision)["Status"], decision.state) == ("Interrupted", IN_PROGRESS)
    giving_up = status_of(decision)
    stops = controller().decide(job(wished(spot()), giving_up), seen(running()), after(31))
    assert kinds(stops) == [Stop]


@pytest.mark.parametrize("wanted", [wished(spec()), spot(), replace(spot(), interrupts=0)])
def test_without_spot_or_without_a_wish_nothing_is_interrupted(wanted: TrainingSpec) -> None:
    decision = controller().decide(job(wanted, training()), seen(running()), after(30))
    assert (decision.status, decision.actions) == (None, ())


def test_a_wish_is_heeded_once() -> None:
    heard = training(interrupts_heard=1)
    assert controller().decide(job(wished(spot()), heard), seen(running()), after(30)).status is None
    assert controller().decide(job(wished(spot(), 2), heard), seen(running()), after(30)).status is not None


def test_a_job_can_give_the_time_of_its_interruptions() -> None:
    early = controller().decide(job(spot("20,60"), training()), seen(running(10)), after(25))
    assert early.status is None
    due = controller().decide(job(spot("20,60"), training()), seen(running(10)), after(30))
    assert last(due)["Status"] == "Interrupted"
    second = training(interruptions=1)
    assert controller().decide(job(spot("20,60"), second), seen(running(10)), after(40)).status is None
    assert (
        last(controller().decide(job(spot("20,60"), second), seen(running(10)), after(71)))["Status"] == "Interrupted"
    )
    assert (
        controller().decide(job(spot("20,60"), training(interruptions=2)), seen(running(10)), after(500)).status is None
    )
    assert controller().decide(job(spot("soon"), training()), seen(running(10)), after(500)).status is None


def test_the_next_attempt_begins_when_nothing_is_left_of_the_first() -> None:
    wanted = wished(spot())
    giving_up = training(giving_up="Interrupted", interrupts_heard=1, interruptions=1)
    waits = controller().decide(job(wanted, giving_up), seen(exited(143)), after(40))
    assert waits.actions == ()
    drained = controller().decide(job(wanted, giving_up), seen(exited(143), logs=DRAINED), after(40))
    assert kinds(drained) == [Remove, ForgetTransfers]
    removing = status_of(drained)
    assert set(controller().watch(job(wanted, removing)).folders) == {WORKLOAD}
    again = controller().decide(job(wanted, removing), seen(exited(143)), after(41))
    assert kinds(again) == [Remove, ForgetTransfers]
    gone = controller().decide(job(wanted, removing), Seen(), after(42))
    assert gone.actions == ()
    assert status_of(gone).workloads == ()
    begins = controller().decide(job(wanted, status_of(gone)), Seen(), after(43))
    assert kinds(begins) == [StartTransfer]
    second = status_of(begins)
    assert (second.secondary, second.attempt, second.seen) == ("Starting", 2, ())
    first_epoch = int(job().resource.created_at.timestamp())
    assert second.log_epoch is not None
    assert second.log_epoch > first_epoch, "each attempt has log streams of its own"
    assert second.training_started_at == training().training_started_at


def test_an_exit_that_comes_before_the_interruption_stands() -> None:
    decision = controller().decide(job(wished(spot()), training()), seen(exited(0), logs=DRAINED), after(30))
    assert last(decision)["Status"] == "Uploading"


def test_a_stop_during_an_interruption_saves_what_there_is() -> None:
    wanted = replace(wished(spot()), stop_requested_at=to_text(after(20)))
    giving_up = training(giving_up="Interrupted", interrupts_heard=1)
    decision = controller().decide(job(wanted, giving_up), seen(running()), after(30))
    assert decision.state == STOPPING
    collects = controller().decide(
        job(wanted, status_of(decision), STOPPING), seen(exited(143), logs=DRAINED), after(31)
    )
    assert last(collects)["Status"] == "Uploading"


def test_a_stop_while_an_attempt_is_removed_has_nothing_to_save() -> None:
    wanted = replace(wished(spot()), stop_requested_at=to_text(after(20)))
    removing = training(giving_up="Interrupted", removing=True)
    gone = controller().decide(job(wanted, removing), Seen(), after(30))
    stops = controller().decide(job(wanted, status_of(gone)), Seen(), after(31))
    assert stops.state == STOPPING
    ends = controller().decide(job(wanted, status_of(stops), STOPPING), Seen(), after(32))
    assert ends.state == STOPPED


def test_all_attempts_together_have_the_runtime() -> None:
    wanted = spot(StoppingCondition={"MaxRuntimeInSeconds": 100})
    now = training()
    earlier = {"Status": "Training", "StartTime": to_text(after(-100)), "EndTime": to_text(after(-10))}
    second = replace(now, transitions=({**earlier, "StatusMessage": "x"}, *now.transitions))
    fine = controller().decide(job(wanted, second), seen(running(10)), after(19))
    assert fine.status is None
    over = controller().decide(job(wanted, second), seen(running(10)), after(21))
    assert over.status is not None
    assert over.status["ending"]["secondary"] == "MaxRuntimeExceeded"


@pytest.mark.parametrize("status", [TrainingStatus(), training()])
def test_a_spot_job_waits_only_so_long(status: TrainingStatus) -> None:
    wanted = spot(StoppingCondition={"MaxRuntimeInSeconds": 100, "MaxWaitTimeInSeconds": 100})
    over = controller().decide(job(wanted, status), seen(running()) if status.workloads else Seen(), after(101))
    assert over.status is not None
    assert over.status["ending"]["secondary"] == "MaxWaitTimeExceeded"


def retried(most: int = 2) -> TrainingSpec:
    return spec(RetryStrategy={"MaximumRetryAttempts": most})


def test_an_internal_error_is_retried_as_often_as_was_asked_for() -> None:
    for count in (0, 1):
        decision = controller().decide(job(retried(), training(retries=count)), seen(LOST, logs=DRAINED), after(30))
        assert (last(decision)["Status"], decision.state) == ("Restarting", IN_PROGRESS)
        assert "was lost" in last(decision)["StatusMessage"]
        assert status_of(decision).retries == count + 1
    ends = controller().decide(job(retried(), training(retries=2)), seen(LOST, logs=DRAINED), after(30))
    assert last(ends)["Status"] == "Uploading"


def test_what_the_algorithm_did_is_not_retried() -> None:
    for found in (exited(1), exited(137, ExitCause.OUT_OF_MEMORY), exited(None, ExitCause.IMAGE, "no such image")):
        status = training() if found.started_at else replace(training(), seen=())
        decision = controller().decide(job(retried(), status), seen(found, logs=DRAINED), after(30))
        assert status_of(decision).giving_up == ""
        assert decision.state == FAILED or last(decision)["Status"] == "Uploading"
