"""`decide` of training jobs without their backend, after their end, and what is watched meanwhile."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sagewright.controllers.controller import (
    Decision,
    ForgetTransfers,
    Problem,
    Remove,
    Seen,
)
from sagewright.controllers.training_jobs import Timing
from sagewright.store.kinds.training_job import COMPLETED, IN_PROGRESS, STOPPING
from sagewright.workloads.transfer import TransferPhase
from suites.training import (
    DOCKER,
    HOME,
    READY,
    STOP_WISH,
    WORKLOAD,
    after,
    committed,
    controller,
    exited,
    in_step,
    job,
    kinds,
    last,
    reason,
    running,
    seen,
    spec,
    training,
)

POLL = timedelta(seconds=1)
RUNNING, DONE, BROKEN = TransferPhase.RUNNING, TransferPhase.DONE, TransferPhase.FAILED


# -- no backend --------------------------------------------------------------------------------------------------


def test_an_engine_that_is_down_is_waited_for_and_the_job_says_so() -> None:
    down = {DOCKER: Problem("Cannot connect to the Docker engine. Start it: systemctl start docker")}
    waiting = controller().unreachable(job(), down, after(1))
    assert waiting.state == IN_PROGRESS
    assert last(waiting)["StatusMessage"] == (
        "Starting the training job - waiting for the docker backend: Cannot connect to the Docker engine. "
        "Start it: systemctl start docker"
    )
    still = controller().unreachable(job(status=committed(waiting)), down, after(599))
    assert still.state == IN_PROGRESS
    assert still.status is None
    gone_on = controller().decide(job(status=committed(waiting)), Seen(), after(600))
    assert gone_on.status is not None
    assert gone_on.status["unreachable_since"] is None
    assert gone_on.status["transitions"][0]["StatusMessage"] == "Starting the training job"


def test_an_engine_that_stays_down_fails_the_job_with_that_reason() -> None:
    down = {DOCKER: Problem("The Docker engine does not answer.")}
    waiting = controller().unreachable(job(status=training()), down, after(1))
    assert waiting.state == IN_PROGRESS
    given_up = controller().unreachable(job(status=committed(waiting)), down, after(601))
    assert reason(given_up) == (
        "InternalServerError: The Docker engine does not answer. Sagewright waited 10 min for it."
    )


def test_an_engine_that_comes_back_starts_the_patience_anew() -> None:
    down = {DOCKER: Problem("down")}
    made = controller(timing=Timing(unreachable_limit=timedelta(seconds=10)))
    waiting = made.unreachable(job(status=training()), down, after(1))
    back = made.decide(job(status=committed(waiting)), seen(running()), after(2))
    assert last(back)["StatusMessage"] == "Training image download completed. Training in progress."
    again = made.unreachable(job(status=committed(back)), down, after(11))
    assert again.state == IN_PROGRESS


def test_a_stopping_job_too_forgets_an_outage_that_is_over() -> None:
    down = {DOCKER: Problem("down")}
    stopping = controller().decide(job(STOP_WISH, training()), seen(running()), after(1))
    waiting = controller().unreachable(job(STOP_WISH, committed(stopping), STOPPING), down, after(2))
    assert last(waiting)["StatusMessage"] == "Stopping the training job - waiting for the docker backend: down"
    back = controller().decide(job(STOP_WISH, committed(waiting), STOPPING), seen(running()), after(3))
    assert back.status is not None
    assert (back.status["unreachable_since"], last(back)["StatusMessage"]) == (None, "Stopping the training job")


def test_an_engine_that_is_not_there_at_all_fails_the_job_at_once_with_the_fix() -> None:
    absent = {DOCKER: Problem("There is no container engine on this machine. Install Docker.", installed=False)}
    assert reason(controller().unreachable(job(), absent, after(1))) == (
        "ClientError: There is no container engine on this machine. Install Docker."
    )


def test_a_running_job_does_not_fail_at_once_when_the_engine_is_being_replaced() -> None:
    absent = {DOCKER: Problem("There is no container engine on this machine.", installed=False)}
    assert controller().unreachable(job(status=training()), absent, after(1)).state == IN_PROGRESS


# -- clean-up ----------------------------------------------------------------------------------------------------

ENDED = {"state": COMPLETED}


def ended_job(**more: Any) -> Any:
    return job(replace(spec(), **more), training(ending=ENDED), COMPLETED)


@pytest.mark.parametrize(
    "left", [seen(exited(0)), seen(stage=DONE), Seen(folders=(WORKLOAD,))], ids=["workload", "transfer", "folder"]
)
def test_whatever_is_left_is_removed_until_nothing_is(left: Seen) -> None:
    decision = controller().decide(ended_job(), left, after(30))
    assert kinds(decision) == [Remove, ForgetTransfers]
    assert (decision.status, decision.wake_in) == (None, POLL)
    removed = decision.actions[1]
    assert isinstance(removed, ForgetTransfers)
    assert removed.root == HOME / WORKLOAD


def test_nothing_left_is_settled() -> None:
    decision = controller().decide(ended_job(), Seen(), after(30))
    assert decision.status is not None
    assert (decision.status["cleaned"], decision.wake_in, decision.forget) == (True, None, False)
    settled = job(status=committed(decision), state=COMPLETED)
    assert controller().decide(settled, Seen(), after(31)) == Decision(note="settled")
    assert not controller().watch(settled).workloads


def test_a_deleted_job_is_forgotten_once_nothing_is_left() -> None:
    wish = ended_job(delete_requested=True)
    assert not controller().decide(wish, seen(exited(0)), after(30)).forget
    assert controller().decide(wish, Seen(), after(30)).forget


def test_a_job_deleted_in_the_second_of_its_creation_keeps_its_log_stream_name_to_itself() -> None:
    decision = controller().decide(ended_job(delete_requested=True), Seen(), after(0.1))
    assert (decision.forget, decision.wake_in) == (False, timedelta(seconds=0.3))


def test_clean_up_waits_for_an_engine_that_is_down_but_not_for_one_that_was_removed() -> None:
    down = controller().unreachable(ended_job(), {DOCKER: Problem("down")}, after(30))
    assert (down.status, down.actions, down.wake_in) == (None, (), POLL)
    gone = controller().unreachable(ended_job(), {DOCKER: Problem("gone", installed=False)}, after(30))
    assert gone.status is not None
    assert (gone.status["cleaned"], kinds(gone)) == (True, [ForgetTransfers])


# -- what is watched ---------------------------------------------------------------------------------------------


def test_a_new_job_needs_a_ready_backend_and_a_stopped_one_does_not() -> None:
    assert controller().watch(job()).backends == (DOCKER,)
    assert controller().watch(job(STOP_WISH)).backends == ()
    assert READY.available


def test_a_running_job_watches_its_container_logs_metrics_and_failure_file() -> None:
    wanted = spec()
    algorithm = {**wanted.request["AlgorithmSpecification"], "MetricDefinitions": [{"Name": "loss", "Regex": "l=(.*)"}]}
    wanted = replace(wanted, request={**wanted.request, "AlgorithmSpecification": algorithm})
    watch = controller().watch(job(wanted, training()))
    assert watch.workloads == {WORKLOAD: DOCKER}
    assert watch.metric_definitions == {WORKLOAD: (("loss", "l=(.*)"),)}
    assert watch.failure_files == {WORKLOAD: Path(HOME / WORKLOAD / "ml/output/failure")}
    assert watch.transfers == ()


def test_once_the_outputs_are_being_saved_the_backend_is_not_needed_any_more() -> None:
    watch = controller().watch(job(status=in_step("Uploading", "Uploading generated training model", ending=ENDED)))
    assert (watch.workloads, watch.backends) == ({}, ())
