"""`decide` of training jobs with several hosts: started as a whole, ended by the first that fails."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
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
from sagewright.controllers.training_steps import Job, collect_id, stage_id
from sagewright.core.clock import to_text
from sagewright.store.kinds.training_job import COMPLETED, IN_PROGRESS, STOPPED, STOPPING, TrainingStatus
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.transfer import CollectOutputs, StageInputs, TransferPhase, TransferState
from suites.training import (
    DOCKER,
    DRAINED,
    HOME,
    READY,
    WORKLOADS,
    after,
    begun,
    committed,
    controller,
    job,
    kinds,
    last,
    reason,
    spec,
    training,
)

ONE, TWO, THREE = WORKLOADS
CONFIG = {"InstanceType": "ml.m5.large", "InstanceCount": 3, "VolumeSizeInGB": 1}
DONE, RUNNING = TransferPhase.DONE, TransferPhase.RUNNING


def three(status: TrainingStatus, state: str = IN_PROGRESS, *channels: str, **more: Any) -> Job:
    return job(replace(spec("job", *channels, ResourceConfig=CONFIG), **more), status, state)


def chosen(**more: Any) -> TrainingStatus:
    return begun(workloads=WORKLOADS, **more)


def under_way(**more: Any) -> TrainingStatus:
    return training(**{"workloads": WORKLOADS, "seen": WORKLOADS, **more})


def runs(workload: Any) -> Observation:
    return Observation(workload, Phase.RUNNING, started_at=after(10))


def ended(workload: Any, code: int | None, at: float, cause: ExitCause = ExitCause.EXIT) -> Observation:
    return Observation(workload, Phase.EXITED, after(10), after(at), code, cause)


def look(*found: Observation, stage: TransferPhase | None = None, undrained: Any = (), **more: Any) -> Seen:
    exited = {each.id for each in found if each.phase is Phase.EXITED}
    return Seen(
        workloads={each.id: each for each in found},
        transfers={stage_id(each): TransferState(stage_id(each), stage) for each in WORKLOADS} if stage else {},
        logs=dict.fromkeys(exited - set(undrained), DRAINED),
        capabilities={DOCKER: READY},
        **more,
    )


def decide(asked: Job, seen: Seen, at: datetime) -> Any:
    return controller().decide(asked, seen, at)


def test_every_host_gets_an_id_and_its_own_folder_before_anything_is_started() -> None:
    decision = decide(three(TrainingStatus(), IN_PROGRESS, "train"), Seen(capabilities={DOCKER: READY}), after(1))
    assert decision.status["workloads"] == list(WORKLOADS)
    assert decision.status["transitions"][1]["StatusMessage"] == (
        "Preparing the instances for training - "
        "3 x ml.m5.large have 6 vCPUs and 24 GiB, this machine gives 4 vCPUs and 15.2 GiB"
    )
    assert kinds(decision) == [StartTransfer] * 3
    stages = [each.transfer for each in decision.actions]
    assert all(isinstance(each, StageInputs) for each in stages)
    assert [each.root for each in stages] == [HOME / each / "ml" for each in WORKLOADS]
    configs = [json.loads(each.files["input/config/resourceconfig.json"]) for each in stages]
    assert [each["current_host"] for each in configs] == ["algo-1", "algo-2", "algo-3"]
    assert configs[2]["hosts"] == ["algo-1", "algo-2", "algo-3"]


def test_none_is_submitted_before_all_are_staged_and_then_all_are_with_their_peers() -> None:
    part = look(stage=DONE)
    part = replace(part, transfers={**part.transfers, stage_id(TWO): TransferState(stage_id(TWO), RUNNING)})
    assert decide(three(chosen()), part, after(2)).actions == ()
    decision = decide(three(chosen()), look(stage=DONE), after(3))
    assert kinds(decision) == [Submit] * 3
    made = [each.workload for each in decision.actions]
    assert [each.hostname for each in made] == ["algo-1", "algo-2", "algo-3"]
    assert all(each.peers == {"algo-1": ONE, "algo-2": TWO, "algo-3": THREE} for each in made)
    assert [each.log_stream[1].rpartition("-")[0] for each in decision.actions] == [
        "job/algo-1",
        "job/algo-2",
        "job/algo-3",
    ]
    assert sum(each.resources.memory or 0 for each in made) <= READY.memory


def test_one_whose_submit_was_lost_is_submitted_alone_and_nothing_is_staged_under_the_others() -> None:
    decision = decide(three(chosen()), look(runs(ONE), runs(THREE)), after(11))
    (action,) = decision.actions
    assert isinstance(action, Submit)
    assert action.workload.id == TWO
    assert last(decision)["StatusMessage"].endswith("in progress. - algo-2 not running yet")
    assert committed(decision).seen == (ONE, THREE)


def test_all_have_to_end_well_and_the_folders_of_all_are_collected() -> None:
    waits = decide(three(under_way()), look(ended(ONE, 0, 20), runs(TWO), ended(THREE, 0, 21)), after(22))
    assert (waits.actions, waits.state) == ((), IN_PROGRESS)
    found = [ended(each, 0, 20) for each in WORKLOADS]
    assert decide(three(under_way()), look(*found, undrained=[TWO]), after(23)).actions == ()
    uploads = decide(three(under_way()), look(*found), after(23))
    *_, action = uploads.actions
    assert isinstance(action.transfer, CollectOutputs)
    assert (action.transfer.id, action.transfer.root) == (collect_id(ONE), HOME / ONE / "ml")
    assert action.transfer.peers == (HOME / TWO / "ml", HOME / THREE / "ml")
    seen = Seen(transfers={collect_id(ONE): TransferState(collect_id(ONE), DONE)})
    done = decide(three(committed(uploads)), seen, after(24))
    assert (done.state, done.status["exit_code"]) == (COMPLETED, 0)
    assert kinds(done) == [Remove] * 3 + [ForgetTransfers] * 3


def test_one_that_fails_stops_the_others_and_gives_the_reason() -> None:
    seen = look(runs(ONE), ended(TWO, 3, 20), runs(THREE), failure_files={TWO: "no such column"})
    failing = decide(three(under_way()), seen, after(21))
    assert failing.actions == (Stop(DOCKER, ONE), Stop(DOCKER, THREE))
    assert failing.state == IN_PROGRESS
    assert last(failing)["StatusMessage"].endswith(" - algo-2 has failed, the others are stopped")
    again = decide(three(committed(failing)), look(ended(ONE, 143, 22), ended(TWO, 3, 20), runs(THREE)), after(22))
    assert again.actions == (Stop(DOCKER, THREE),)
    found = look(ended(ONE, 143, 22), ended(TWO, 3, 20), ended(THREE, 0, 23))
    uploads = decide(three(committed(failing)), found, after(24))
    assert kinds(uploads) == [HandOver, HandOver, HandOver, StartTransfer]
    done = decide(
        three(committed(uploads)),
        Seen(transfers={collect_id(ONE): TransferState(collect_id(ONE), DONE)}),
        after(25),
    )
    assert reason(done) == "AlgorithmError: [algo-2] no such column, exit code: 3"
    assert done.status["exit_code"] == 3


def test_of_several_that_failed_the_first_one_is_the_reason_whatever_its_number() -> None:
    found = (ended(ONE, 1, 20.5), ended(TWO, 9, 20.1), ended(THREE, 0, 19))
    uploads = decide(three(under_way()), look(*found), after(21))
    assert uploads.status["ending"]["failure_reason"].startswith("AlgorithmError: [algo-2] ")
    assert uploads.status["exit_code"] == 9


def test_the_first_ones_last_lines_are_waited_for() -> None:
    seen = look(runs(ONE), ended(TWO, 1, 20), runs(THREE), undrained=[TWO])
    assert decide(three(under_way()), seen, after(21)).actions == ()


def test_one_that_vanished_ends_the_job_and_is_not_started_again() -> None:
    seen = look(runs(ONE), runs(THREE))
    decision = decide(three(under_way()), seen, after(21))
    assert kinds(decision) == [Stop, Stop]
    assert decision.status["ending"]["failure_reason"].startswith(
        "InternalServerError: [algo-2] The container was lost"
    )


def test_one_whose_image_is_missing_ends_the_job_at_once() -> None:
    missing = Observation(TWO, Phase.EXITED, None, after(5), None, ExitCause.IMAGE, "No such image: mine.")
    waiting = [Observation(each, Phase.PREPARING) for each in (ONE, THREE)]
    failing = decide(three(chosen()), look(*waiting, missing), after(6))
    assert failing.actions == (Stop(DOCKER, ONE), Stop(DOCKER, THREE))
    stopped = [Observation(each, Phase.EXITED, cause=ExitCause.START) for each in (ONE, THREE)]
    done = decide(three(committed(failing)), look(*stopped, missing), after(7))
    assert reason(done) == "ClientError: [algo-2] No such image: mine."


def test_a_stop_reaches_every_host() -> None:
    wish = {"stop_requested_at": to_text(after(12))}
    stopping = decide(three(under_way(), **wish), look(*map(runs, WORKLOADS)), after(13))
    assert (stopping.state, stopping.actions) == (STOPPING, tuple(Stop(DOCKER, each) for each in WORKLOADS))
    found = [ended(each, 143, 14) for each in WORKLOADS]
    uploads = decide(three(committed(stopping), STOPPING, **wish), look(*found), after(15))
    seen = Seen(transfers={collect_id(ONE): TransferState(collect_id(ONE), DONE)})
    assert decide(three(committed(uploads), STOPPING, **wish), seen, after(16)).state == STOPPED


def test_the_time_counts_from_the_first_host() -> None:
    early = replace(runs(TWO), started_at=after(0))
    decision = decide(three(under_way()), look(runs(ONE), early, runs(THREE)), after(3600))
    assert kinds(decision) == [Stop] * 3
    assert last(decision)["Status"] == "Stopping"


def test_an_engine_that_takes_all_but_one_is_given_up_in_the_end() -> None:
    waiting = under_way(seen=(ONE, TWO), unreachable_since=to_text(after(12)))
    decision = decide(three(waiting), look(runs(ONE), runs(TWO)), after(13))
    assert kinds(decision) == [Submit]
    assert committed(decision if decision.status else replace(decision, status=waiting.to_row())).unreachable_since


def test_a_metric_is_the_last_value_of_any_host() -> None:
    def said(value: float, at: float) -> LogState:
        return LogState(True, (), ({"MetricName": "loss", "Value": value, "Timestamp": to_text(after(at))},))

    found = look(*(ended(each, 0, 20) for each in WORKLOADS))
    logs = {ONE: said(3.0, 11), TWO: said(1.0, 15), THREE: said(2.0, 13)}
    uploads = decide(three(under_way()), replace(found, logs=logs), after(21))
    assert [each["Value"] for each in uploads.status["metrics"]] == [1.0]


@pytest.mark.parametrize("ran", [True, False])
def test_a_row_of_the_time_when_a_job_had_one_host_is_understood(ran: bool) -> None:
    row = (training() if ran else begun()).to_row()
    row["workload"] = row.pop("workloads")[0]
    del row["seen"]
    status = TrainingStatus.from_row(row)
    assert (status.workloads, status.seen) == ((ONE,), (ONE,) if ran else ())


def test_a_long_reason_keeps_its_exit_code() -> None:
    seen = look(ended(ONE, 1, 20), failure_files={ONE: "x" * 5000})
    wanted = replace(spec("job", ResourceConfig={**CONFIG, "InstanceCount": 2}))
    uploads = decide(job(wanted, under_way(workloads=(ONE, TWO), seen=(ONE,))), seen, after(21))
    told = uploads.status["ending"]["failure_reason"]
    assert told.startswith("AlgorithmError: [algo-1] xxx")
    assert told.endswith(", exit code: 1")
    assert len(told) <= 1024


def test_what_the_backend_noticed_about_the_image_is_told_while_it_runs_and_kept() -> None:
    noticed = "The image's ENTRYPOINT is in shell form, so `train` never reached it"
    running = [replace(runs(each), message=noticed) for each in WORKLOADS]
    decision = decide(three(under_way()), look(*running), after(20))
    assert last(decision)["StatusMessage"].endswith(f"Training in progress. - {noticed}")
    late = decide(three(under_way(seen=(ONE,))), look(running[0], stage=DONE), after(20))
    assert "algo-2, algo-3 not running yet" in last(late)["StatusMessage"]
    status = committed(decision)
    exited = [replace(ended(each, 0, 30), message=noticed) for each in WORKLOADS]
    uploads = decide(three(status), look(*exited), after(31))
    assert [each["StatusMessage"].partition(" - ")[2] for each in uploads.status["transitions"]][-2:] == [noticed, ""]
    lost = replace(ended(ONE, None, 30, ExitCause.LOST), message="the machine was restarted while it ran")
    failed = decide(three(under_way()), look(lost), after(31))
    assert "restarted" not in str(failed.status["transitions"])
