"""`decide` of transform jobs, step by step: values in, a decision out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from sagewright.controllers.controller import (
    Decision,
    ForgetModels,
    ForgetTransfers,
    Health,
    LogState,
    Ping,
    Problem,
    Remove,
    Seen,
    StartTransfer,
    Stop,
    Submit,
)
from sagewright.controllers.training_jobs import Timing
from sagewright.controllers.transform_jobs import TransformController
from sagewright.controllers.transform_steps import Job, environment
from sagewright.core.clock import to_text
from sagewright.core.ids import WorkloadId
from sagewright.store.kinds import transform_job as kind
from sagewright.store.kinds.transform_job import TransformSpec, TransformStatus
from sagewright.store.resources import Resource
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.transfer import RunTransform, StageModel, TransferPhase, TransferState
from suites.hosting import ACCOUNT, DOCKER, MODELS, READY, REGION, T0, after, container, variant

WORKLOADS = Path("/data/workloads")
REQUEST: dict[str, Any] = {"TransformJobName": "job", "TransformInput": {}, "TransformOutput": {}}


class Story:
    """One job through decisions, and a world that the test states."""

    def __init__(self, instances: int = 1, *containers: str, **request: Any) -> None:
        tokens = count(1)
        self.controller = TransformController(
            WORKLOADS, MODELS, lambda plan, backend: {}, Timing(), lambda: f"{next(tokens):04x}"
        )
        parts = [container(name) for name in containers] or [container()]
        spec = TransformSpec({**REQUEST, **request}, variant("transform", *parts, count=instances))
        key = kind.key(ACCOUNT, REGION, "job")
        self.row = Resource(key, spec.to_row(), TransformStatus().to_row(), kind.IN_PROGRESS, 1, T0, T0, T0)
        self.now = 0.0
        self.workloads: dict[WorkloadId, Observation] = {}
        self.health: dict[WorkloadId, Health] = {}
        self.logs: dict[WorkloadId, LogState] = {}
        self.transfers: dict[Any, TransferState] = {}
        self.folders = False

    @property
    def job(self) -> Job:
        return Job.of(self.row)

    @property
    def state(self) -> str:
        return self.row.state

    def look(self, seconds: float = 0.0) -> Decision:
        self.now += seconds
        watch = self.controller.watch(self.job)
        seen = Seen(
            workloads={each: self.workloads[each] for each in watch.workloads if each in self.workloads},
            transfers={each: self.transfers[each] for each in watch.transfers if each in self.transfers},
            logs={each: self.logs[each] for each in watch.log_streams if each in self.logs},
            capabilities=dict.fromkeys(watch.backends, READY),
            health={each: self.health[each] for each in watch.pings if each in self.health},
            folders=list(watch.folders) if self.folders else [],
        )
        decision = self.controller.decide(self.job, seen, after(self.now))
        self.commit(decision)
        return decision

    def commit(self, decision: Decision) -> None:
        state = decision.state or self.row.state
        assert state in kind.MOVES[self.row.state], (self.row.state, state)
        status = self.row.status if decision.status is None else decision.status
        self.row = replace(self.row, status=status, state=state, version=self.row.version + 1)

    def stop(self) -> None:
        spec = {**self.row.spec, "stop_requested_at": to_text(after(self.now))}
        self.row = replace(self.row, spec=spec, version=self.row.version + 1)

    # -- the world ----------------------------------------------------------------

    def stage(self) -> None:
        for each in self.controller.watch(self.job).transfers:
            if "model" in each:
                self.transfers[each] = TransferState(each, TransferPhase.DONE, folder=MODELS / "f00d")

    def start(self) -> None:
        for number, each in enumerate(self.job.workloads(), start=1):
            self.workloads[each] = Observation(each, Phase.RUNNING, address=f"10.0.0.{number}:8080")
            self.logs[each] = LogState(drained=False, tail=())

    def ping(self) -> None:
        for each in self.job.workloads():
            self.health[each] = Health(1, 0)

    def run(self, phase: TransferPhase = TransferPhase.RUNNING, message: str = "", **progress: Any) -> None:
        for each in self.controller.watch(self.job).transfers:
            if "run" in each:
                self.transfers[each] = TransferState(each, phase, message, progress=progress)

    def end(self, exit_code: int | None = 0, cause: ExitCause = ExitCause.EXIT) -> None:
        for each in self.workloads:
            self.workloads[each] = Observation(each, Phase.EXITED, exit_code=exit_code, cause=cause)
            self.logs[each] = LogState(drained=True, tail=("the last words",))

    def running(self) -> None:
        """As far as the data flows."""
        self.look()
        self.stage()
        self.look()
        self.start()
        self.look()
        self.ping()
        self.look()
        self.run()
        assert self.look().note == "runs"


def kinds(decision: Decision) -> list[type]:
    return [type(action) for action in decision.actions]


def test_the_steps_in_order() -> None:
    story = Story()
    (stage,) = story.look().actions
    assert isinstance(stage, StartTransfer)
    assert isinstance(stage.transfer, StageModel)
    assert story.job.status.began_at == to_text(T0)
    story.stage()
    (submit,) = story.look().actions
    assert isinstance(submit, Submit)
    assert (submit.workload.arguments, submit.workload.ports) == (("serve",), (8080,))
    epoch = int(T0.timestamp())
    assert submit.log_stream == ("/aws/sagemaker/TransformJobs", f"job/i-0001-{epoch}")
    story.start()
    assert story.look().note == "waits for /ping"
    story.ping()
    (run,) = story.look().actions
    assert isinstance(run, StartTransfer)
    assert isinstance(run.transfer, RunTransform)
    assert run.transfer.addresses == ("10.0.0.1:8080",)
    assert run.transfer.log_stream == ("/aws/sagemaker/TransformJobs", f"job/i-0001-{epoch}/data-log")
    assert (run.transfer.instance, run.transfer.instances, run.transfer.started_at) == (0, 1, to_text(T0))
    story.run(records=5, seconds_left=3)
    assert kinds(story.look()) == []
    assert story.job.status.progress == {"records": 5, "seconds_left": 3}
    story.run(TransferPhase.DONE, records=9, seconds_left=0)
    assert story.look().note.startswith("ends")
    assert kinds(story.look()) == [ForgetTransfers, Stop]
    story.end()
    story.transfers.clear()
    decision = story.look()
    assert (story.state, kinds(decision)) == (kind.COMPLETED, [Remove, ForgetTransfers, ForgetModels])
    story.workloads.clear()
    assert story.look().note == "is cleaned up"
    assert story.look().note == "settled"


def test_instances_have_runs_of_their_own_and_one_folder() -> None:
    story = Story(3)
    story.look()
    story.stage()
    assert kinds(story.look()) == [Submit] * 3
    story.start()
    story.look()
    story.ping()
    runs = [action.transfer for action in story.look().actions]
    assert [(run.instance, run.instances, run.addresses) for run in runs] == [
        (0, 3, ("10.0.0.1:8080",)), (1, 3, ("10.0.0.2:8080",)), (2, 3, ("10.0.0.3:8080",))
    ]  # fmt: skip
    assert len({run.root.parent for run in runs}) == 1
    story.run(objects=1, records=2, seconds_left=4)
    story.look()
    assert story.job.status.progress == {"objects": 3, "records": 6, "seconds_left": 4}


def test_containers_of_a_pipeline_have_streams_and_addresses_in_order() -> None:
    story = Story(1, "first", "second")
    story.look()
    story.stage()
    submits = story.look().actions
    assert [submit.log_stream[1].rsplit("/", 1)[1] for submit in submits] == ["first", "second"]
    story.start()
    story.look()
    story.ping()
    (run,) = story.look().actions
    assert run.transfer.addresses == ("10.0.0.1:8080", "10.0.0.2:8080")


def test_a_run_that_was_cut_off_is_started_again() -> None:
    story = Story()
    story.running()
    story.transfers = {each: state for each, state in story.transfers.items() if "run" not in each}
    assert kinds(story.look()) == [StartTransfer]
    assert story.state == kind.IN_PROGRESS


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("ClientError: See job logs", "ClientError: See job logs"),
        ("AlgorithmError: See job logs", "AlgorithmError: See job logs"),
        ("No space is left", "InternalServerError: No space is left"),
    ],
)
def test_a_run_that_failed_fails_the_job(message: str, reason: str) -> None:
    story = Story()
    story.running()
    story.run(TransferPhase.FAILED, message)
    story.look()
    assert story.state == kind.IN_PROGRESS
    story.look()
    story.end()
    story.transfers.clear()
    story.look()
    assert (story.state, story.job.status.failure_reason) == (kind.FAILED, reason)


def test_instances_that_still_run_are_waited_for() -> None:
    """C.5: other objects continue."""
    story = Story(2)
    story.running()
    first, second = (each for each in story.controller.watch(story.job).transfers if "run" in each)
    story.transfers[first] = TransferState(first, TransferPhase.FAILED, "ClientError: bad")
    assert story.look().note == "runs"
    story.transfers[second] = TransferState(second, TransferPhase.DONE)
    assert story.look().note.startswith("ends")


@pytest.mark.parametrize(
    ("exit_code", "cause", "starts"),
    [
        (1, ExitCause.EXIT, "AlgorithmError: The container ended by itself with exit code 1"),
        (137, ExitCause.OUT_OF_MEMORY, "AlgorithmError: "),
        (0, ExitCause.EXIT, "AlgorithmError: "),
    ],
)
def test_a_container_that_ends_fails_the_job_and_is_not_started_again(
    exit_code: int, cause: ExitCause, starts: str
) -> None:
    story = Story()
    story.running()
    story.end(exit_code, cause)
    assert Submit not in kinds(story.look())
    story.look()
    story.transfers.clear()
    story.look()
    assert story.state == kind.FAILED
    reason = story.job.status.failure_reason or ""
    assert reason.startswith(starts)
    assert "the last words" in reason


def test_a_container_that_has_gone_fails_the_job() -> None:
    story = Story()
    story.running()
    story.workloads.clear()
    story.look()
    story.transfers.clear()
    story.look()
    assert story.state == kind.FAILED
    assert (story.job.status.failure_reason or "").startswith("InternalServerError: ")


def test_a_container_that_never_answers_fails_the_job() -> None:
    story = Story()
    story.look()
    story.stage()
    story.look()
    story.start()
    story.look()
    (workload,) = story.job.workloads()
    story.health[workload] = Health(0, 3, (Ping(to_text(T0), 500),))
    story.look(400)
    assert story.state == kind.IN_PROGRESS
    decision = story.look(200)
    assert "did not pass the ping" in decision.note or "ping" in decision.note


def test_a_model_that_cannot_be_staged_fails_the_job() -> None:
    story = Story()
    story.look()
    (transfer,) = (each for each in story.controller.watch(story.job).transfers if "model" in each)
    story.transfers[transfer] = TransferState(transfer, TransferPhase.FAILED, "it is no archive")
    story.look()
    story.look()
    assert (story.state, story.job.status.failure_reason) == (
        kind.FAILED, "ClientError: Data download failed: it is no archive"
    )  # fmt: skip


@pytest.mark.parametrize("steps", range(6))
def test_stop_in_every_state(steps: int) -> None:
    story = Story()
    world = (story.look, story.stage, story.look, story.start, story.look, story.running)
    if steps == 5:
        story.running()
    else:
        for step in world[:steps]:
            step()
    story.stop()
    for _ in range(6):
        story.look(1)
        if story.state == kind.STOPPED:
            break
        assert story.state in {kind.STOPPING, kind.IN_PROGRESS}
        story.end()
        story.transfers = {each: state for each, state in story.transfers.items() if "run" not in each}
    assert story.state == kind.STOPPED
    assert story.job.status.failure_reason is None


def test_a_job_that_is_already_failing_is_not_stopped_instead() -> None:
    story = Story()
    story.running()
    story.run(TransferPhase.FAILED, "ClientError: bad")
    story.look()
    story.stop()
    story.look()
    story.end()
    story.transfers.clear()
    story.look()
    assert story.state == kind.FAILED


def test_a_backend_that_does_not_answer_is_waited_for() -> None:
    story = Story()
    story.running()
    problem = {DOCKER: Problem("the engine does not answer")}
    decision = story.controller.unreachable(story.job, problem, after(1))
    story.commit(decision)
    assert (story.state, story.job.status.waiting) == (kind.IN_PROGRESS, "the engine does not answer")
    story.look()
    assert story.job.status.waiting == ""
    story.commit(story.controller.unreachable(story.job, problem, after(2)))
    long = after(2) + Timing().unreachable_limit + timedelta(seconds=1)
    assert story.controller.unreachable(story.job, problem, long).state == kind.FAILED


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({}, {}),
        ({"MaxPayloadInMB": 0}, {"SAGEMAKER_MAX_PAYLOAD_IN_MB": "0"}),
        ({"BatchStrategy": "SingleRecord"}, {"SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD"}),
        ({"MaxConcurrentTransforms": 3}, {"SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "3"}),
        ({"MaxConcurrentTransforms": 0}, {}),
        ({"Environment": {"A": "b", "SAGEWRIGHT_TRANSFORM_ON_ERROR": "skip"}}, {"A": "b"}),
        ({"Environment": {"SAGEMAKER_BATCH": "mine"}}, {}),
    ],
)
def test_what_the_container_is_told(asked: dict[str, Any], told: Mapping[str, str]) -> None:
    always = {"SAGEMAKER_BATCH": "true", "TRANSFORM_JOB_ARN": f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:transform-job/job"}
    assert environment(Story(**asked).job) == {**always, **told}
