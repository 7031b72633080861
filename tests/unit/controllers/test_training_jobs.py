"""`decide` of training jobs, step by step: values in, a decision out."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sagewright.controllers.controller import (
    ForgetTransfers,
    HandOver,
    LogState,
    Remove,
    Seen,
    StartTransfer,
    Stop,
    Submit,
)
from sagewright.core.clock import to_text
from sagewright.store.kinds.training_job import COMPLETED, IN_PROGRESS, STOPPED, STOPPING
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.transfer import ChannelInput, CollectOutputs, StageInputs, TransferPhase
from suites.training import (
    DOCKER,
    DRAINED,
    HOME,
    STOP_WISH,
    T0,
    WORKLOAD,
    after,
    begun,
    committed,
    controller,
    exited,
    in_step,
    job,
    kinds,
    last,
    preparing,
    reason,
    running,
    seen,
    spec,
    training,
)

POLL = timedelta(seconds=1)
RUNNING, DONE, BROKEN = TransferPhase.RUNNING, TransferPhase.DONE, TransferPhase.FAILED


# -- begin and stage ---------------------------------------------------------------------------------------------


def test_a_new_job_gets_its_id_before_anything_is_started() -> None:
    decision = controller().decide(job(), Seen(), after(1))
    assert decision.status is not None
    assert decision.status["workloads"] == [WORKLOAD]
    assert decision.status["backend"] == "docker"
    assert (decision.status["attempt"], decision.state) == (1, IN_PROGRESS)
    assert [each["StatusMessage"] for each in decision.status["transitions"]] == [
        "Starting the training job",
        "Preparing the instances for training",
    ]
    (action,) = decision.actions
    assert isinstance(action, StartTransfer)
    assert isinstance(action.transfer, StageInputs)
    assert action.transfer.root == HOME / WORKLOAD / "ml"
    assert b"job" in action.transfer.files["input/config/trainingjobconfig.json"]


def test_a_job_with_channels_shows_that_it_downloads_them() -> None:
    decision = controller().decide(job(spec("job", "train", "test")), Seen(), after(1))
    assert (last(decision)["Status"], last(decision)["StatusMessage"]) == ("Downloading", "Downloading input data")
    (action,) = decision.actions
    assert isinstance(action, StartTransfer)
    assert isinstance(action.transfer, StageInputs)
    assert action.transfer.channels == (ChannelInput("train", "s3://b/train"), ChannelInput("test", "s3://b/test"))


def test_a_folder_image_is_run_by_the_process_backend() -> None:
    folder = {"name": "demo", "digest": "sha256:1", "path": "/images/1", "entrypoint": ["python"], "requirements": ""}
    wanted = replace(spec(), image={"name": "demo", "folder": folder})
    decision = controller().decide(job(wanted), Seen(), after(1))
    assert decision.status is not None
    assert decision.status["backend"] == "process"


def test_staging_that_was_forgotten_is_started_again_and_nothing_is_submitted() -> None:
    decision = controller().decide(job(status=begun()), seen(), after(2))
    assert (kinds(decision), decision.status) == ([StartTransfer], None)


def test_staging_shows_its_progress_once_per_poll() -> None:
    wanted = spec("job", "train")
    status = in_step("Downloading", "Downloading input data")
    soon = controller().decide(job(wanted, status), seen(stage=RUNNING), after(0.5))
    assert (soon.status, soon.actions, soon.wake_in) == (None, (), POLL)
    later = controller().decide(job(wanted, status), seen(stage=RUNNING), after(2))
    assert last(later)["StatusMessage"] == "Downloading input data - 1.0 of 4.0 MiB"
    assert len(later.status["transitions"]) == len(status.transitions)


def test_staging_that_fails_ends_the_job_with_its_reason() -> None:
    decision = controller().decide(job(status=begun()), seen(stage=BROKEN, message="key x clashes"), after(2))
    assert reason(decision) == "ClientError: Data download failed: key x clashes"
    assert kinds(decision) == [Remove, ForgetTransfers]


# -- submit and run ----------------------------------------------------------------------------------------------


def test_what_is_staged_is_submitted_complete() -> None:
    decision = controller().decide(job(status=begun()), seen(stage=DONE), after(2))
    assert (last(decision)["Status"], last(decision)["StatusMessage"]) == (
        "Downloading",
        "Downloading the training image",
    )
    (action,) = decision.actions
    assert isinstance(action, Submit)
    assert (action.backend, action.workload.id, action.workload.image.name) == (DOCKER, WORKLOAD, "mine:latest")
    assert action.workload.env["AWS_ENDPOINT_URL"] == "http://here"
    assert action.workload.mounts[0].source == HOME / WORKLOAD / "ml"
    assert action.log_stream == ("/aws/sagemaker/TrainingJobs", f"job/algo-1-{int(T0.timestamp())}")


def test_a_pull_shows_the_progress_of_the_backend() -> None:
    status = in_step("Downloading", "Downloading the training image")
    decision = controller().decide(job(status=status), seen(preparing("12 of 80 MB"), stage=DONE), after(3))
    assert last(decision)["StatusMessage"] == "Downloading the training image - 12 of 80 MB"
    assert decision.actions == ()


def test_what_was_never_seen_is_submitted_again_under_the_same_id() -> None:
    status = in_step("Downloading", "Downloading the training image")
    decision = controller().decide(job(status=status), seen(stage=DONE), after(3))
    assert kinds(decision) == [Submit]
    assert decision.status is None


def test_a_running_container_is_training() -> None:
    decision = controller().decide(job(status=begun()), seen(running()), after(11))
    assert last(decision)["StatusMessage"] == "Training image download completed. Training in progress."
    assert decision.status is not None
    assert decision.status["image_digest"] == "sha256:1"
    assert decision.actions == ()


def test_a_container_that_ran_and_is_gone_is_never_started_again() -> None:
    kept = LogState(drained=False, tail=("epoch 3",))
    decision = controller().decide(job(status=training()), seen(stage=DONE, logs=kept), after(30))
    assert kinds(decision) == [HandOver, StartTransfer]
    assert last(decision)["Status"] == "Uploading"
    ended = controller().decide(job(status=committed(decision)), seen(collect=DONE), after(31))
    assert reason(ended).startswith("InternalServerError: The container was lost while the job ran")
    assert reason(ended).endswith("Last log lines:\nepoch 3")


# -- the end -----------------------------------------------------------------------------------------------------


def test_an_exit_waits_for_the_last_log_lines() -> None:
    decision = controller().decide(job(status=training()), seen(exited(0)), after(21))
    assert (decision.actions, decision.state) == ((), IN_PROGRESS)


def test_a_container_too_quick_to_be_seen_running_is_remembered_as_started() -> None:
    decision = controller().decide(job(status=begun()), seen(exited(0)), after(21))
    assert last(decision)["Status"] == "Training"


def test_exit_zero_uploads_and_completes_with_metrics_and_times() -> None:
    metrics = ({"MetricName": "loss", "Value": 0.5, "Timestamp": to_text(after(15))},)
    drained = LogState(drained=True, metrics=metrics)
    collecting = controller().decide(job(status=training()), seen(exited(0), logs=drained), after(21))
    _, action = collecting.actions
    assert isinstance(action, StartTransfer)
    assert isinstance(action.transfer, CollectOutputs)
    assert action.transfer.archives == {
        "model": "s3://b/out/job/output/model.tar.gz",
        "output/data": "s3://b/out/job/output/output.tar.gz",
    }
    done = controller().decide(job(status=committed(collecting)), seen(collect=DONE), after(25))
    assert done.state == COMPLETED
    assert done.status is not None
    assert (done.status["secondary"], done.status["failure_reason"], done.status["exit_code"]) == (COMPLETED, None, 0)
    assert done.status["metrics"] == list(metrics)
    assert (done.status["training_started_at"], done.status["training_ended_at"]) == (to_text(T0), to_text(after(25)))
    assert last(done)["EndTime"] == last(done)["StartTime"]
    assert kinds(done) == [Remove, ForgetTransfers]
    assert done.wake_in == timedelta(0)


@pytest.mark.parametrize(
    ("found", "failure", "starts", "ends"),
    [
        (exited(1), "why\n", "AlgorithmError: why", ", exit code: 1"),
        (exited(1), "", "AlgorithmError: The program ended", "last line, exit code: 1"),
        (exited(139), "", "AlgorithmError: The program crashed", ", exit code: 139 (SIGSEGV)"),
        (exited(137), "", "AlgorithmError: The container was killed from outside", "(SIGKILL)"),
        (exited(137, ExitCause.OUT_OF_MEMORY), "", "ClientError: Please use an instance type with more memory", ""),
        (exited(None, ExitCause.LOST, "the machine restarted."), "", "InternalServerError: ", "last line"),
    ],
)
def test_a_failed_container_fails_the_job_after_its_outputs_were_saved(
    found: Any, failure: str, starts: str, ends: str
) -> None:
    logs = LogState(drained=True, tail=("first line", "last line"))
    collecting = controller().decide(job(status=training()), seen(found, logs=logs, failure=failure), after(21))
    assert (last(collecting)["Status"], kinds(collecting)) == ("Uploading", [HandOver, StartTransfer])
    ended = controller().decide(job(status=committed(collecting)), seen(collect=DONE), after(22))
    assert reason(ended).startswith(starts)
    assert reason(ended).endswith(ends)


@pytest.mark.parametrize("cause", [ExitCause.IMAGE, ExitCause.START])
def test_what_never_started_fails_at_once_with_the_words_of_the_backend(cause: ExitCause) -> None:
    found = exited(None, cause, "No such image: mine:latest. Push it, or check its name.")
    decision = controller().decide(job(status=begun()), seen(found, logs=DRAINED), after(5))
    assert reason(decision) == "ClientError: No such image: mine:latest. Push it, or check its name."
    assert kinds(decision) == [Remove, ForgetTransfers]


def test_a_failed_upload_fails_a_job_that_would_have_completed() -> None:
    collecting = controller().decide(job(status=training()), seen(exited(0), logs=DRAINED), after(21))
    ended = controller().decide(
        job(status=committed(collecting)), seen(collect=BROKEN, message="no bucket b"), after(22)
    )
    assert reason(ended) == "ClientError: Artifact upload failed: no bucket b"


def test_a_failed_upload_of_a_failed_job_comes_second() -> None:
    collecting = controller().decide(job(status=training()), seen(exited(1), logs=DRAINED, failure="x"), after(21))
    ended = controller().decide(job(status=committed(collecting)), seen(collect=BROKEN, message="no bucket"), after(22))
    assert reason(ended) == "AlgorithmError: x, exit code: 1 In addition: Artifact upload failed: no bucket"


def test_an_upload_that_was_forgotten_is_started_again() -> None:
    collecting = controller().decide(job(status=training()), seen(exited(0), logs=DRAINED), after(21))
    decision = controller().decide(job(status=committed(collecting)), Seen(), after(22))
    assert kinds(decision) == [HandOver, StartTransfer]


# -- stopping ----------------------------------------------------------------------------------------------------


def test_a_stop_before_anything_began_never_begins() -> None:
    stopping = controller().decide(job(STOP_WISH), Seen(), after(1))
    assert (stopping.state, stopping.actions) == (STOPPING, ())
    assert last(stopping)["StatusMessage"] == "Stopping the training job"
    stopped = controller().decide(job(STOP_WISH, committed(stopping), STOPPING), Seen(), after(1))
    assert (stopped.state, last(stopped)["StatusMessage"]) == (STOPPED, "Training job stopped")


def test_a_stop_while_staging_never_submits() -> None:
    stopping = controller().decide(job(STOP_WISH, begun()), seen(stage=DONE), after(1))
    assert (stopping.state, kinds(stopping)) == (STOPPING, [Stop])
    stopped = controller().decide(job(STOP_WISH, committed(stopping), STOPPING), seen(stage=DONE), after(1))
    assert (stopped.state, kinds(stopped)) == (STOPPED, [Remove, ForgetTransfers])


@pytest.mark.parametrize("code", [0, 1, 137, 143])
def test_a_stop_saves_outputs_and_ignores_the_exit_code(code: int) -> None:
    stopping = controller().decide(job(STOP_WISH, training()), seen(running()), after(15))
    assert (stopping.state, kinds(stopping)) == (STOPPING, [Stop])
    status = committed(stopping)
    again = controller().decide(job(STOP_WISH, status, STOPPING), seen(running()), after(16))
    assert kinds(again) == [Stop]
    uploading = controller().decide(job(STOP_WISH, status, STOPPING), seen(exited(code), logs=DRAINED), after(21))
    assert (last(uploading)["Status"], kinds(uploading), uploading.state) == (
        "Uploading",
        [HandOver, StartTransfer],
        STOPPING,
    )
    stopped = controller().decide(job(STOP_WISH, committed(uploading), STOPPING), seen(collect=DONE), after(22))
    assert stopped.state == STOPPED
    assert stopped.status is not None
    assert (stopped.status["exit_code"], stopped.status["failure_reason"]) == (code, None)


def test_a_stop_that_comes_while_outputs_are_saved_changes_nothing() -> None:
    uploading = controller().decide(job(status=training()), seen(exited(0), logs=DRAINED), after(21))
    ended = controller().decide(job(STOP_WISH, committed(uploading)), seen(collect=DONE), after(22))
    assert ended.state == COMPLETED


def test_a_container_that_vanished_while_stopping_still_has_its_outputs_saved() -> None:
    stopping = controller().decide(job(STOP_WISH, training()), seen(running()), after(15))
    uploading = controller().decide(job(STOP_WISH, committed(stopping), STOPPING), seen(), after(16))
    assert kinds(uploading) == [HandOver, StartTransfer]


def test_the_time_limit_counts_from_the_start_of_the_container_and_stops_it() -> None:
    wanted = spec(max_runtime=60)
    before = controller().decide(job(wanted, training()), seen(running(since=10)), after(69.5))
    assert (before.actions, before.wake_in) == ((), timedelta(seconds=0.5))
    over = controller().decide(job(wanted, training()), seen(running(since=10)), after(70))
    assert (over.state, kinds(over)) == (STOPPING, [Stop])
    uploading = controller().decide(job(wanted, committed(over), STOPPING), seen(exited(143), logs=DRAINED), after(72))
    ended = controller().decide(job(wanted, committed(uploading), STOPPING), seen(collect=DONE), after(73))
    assert ended.state == STOPPED
    assert ended.status is not None
    assert ended.status["secondary"] == "MaxRuntimeExceeded"
    assert last(ended)["StatusMessage"] == "Training job runtime exceeded MaxRuntimeInSeconds provided"
