"""`decide` of endpoints, step by step: values in, a decision out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from sagewright.controllers.controller import Decision, ForgetModels, Remove, StartTransfer, Stop, Submit
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import CREATING, FAILED, IN_SERVICE
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.transfer import StageModel, TransferPhase
from suites.hosting import ARTIFACT, MODELS, Story, container, spec, variant

SENTENCE = (
    "The primary container for production variant v did not pass the ping health check. Please check CloudWatch logs "
    "for this endpoint."
)


def kinds(decision: Decision) -> list[type]:
    return [type(action) for action in decision.actions]


def served(*variants: Any, **more: Any) -> Story:
    story = Story(spec(*variants, **more))
    story.come_up()
    assert story.row.state == IN_SERVICE
    return story


# -- creation ----------------------------------------------------------------------------------------------------


def test_a_new_endpoint_gets_a_fleet_and_stages_its_model_once_for_all_instances() -> None:
    story = Story(spec(variant(count=3)))
    decision = story.look()
    assert (story.phases, story.row.state) == ([kind.STAGING] * 3, CREATING)
    (action,) = decision.actions
    assert isinstance(action, StartTransfer)
    assert isinstance(action.transfer, StageModel)
    assert (action.transfer.uri, action.transfer.unpack, action.transfer.models) == (ARTIFACT, True, MODELS)


def test_ids_are_committed_in_the_status_that_comes_with_the_submits() -> None:
    story = Story()
    story.look()
    story.stage()
    decision = story.look()
    (action,) = decision.actions
    assert isinstance(action, Submit)
    (instance,) = story.instances
    assert instance.phase == kind.STARTING
    assert instance.workloads == {"primary": action.workload.id}
    assert (action.workload.arguments, action.workload.ports) == (("serve",), (8080,))
    assert action.workload.env["AWS_ENDPOINT_URL"] == "http://here"
    assert (action.workload.mounts[0].source, action.workload.mounts[0].read_only) == (MODELS / "f00d", True)
    assert action.log_stream == ("/aws/sagemaker/Endpoints/e", f"v/{instance.id}")


def test_one_good_ping_is_enough_for_in_service() -> None:
    story = Story()
    story.look()
    story.stage()
    story.look()
    story.run()
    story.look(0.2)
    assert (story.phases, story.row.state) == ([kind.STARTING], CREATING)
    assert story.instances[0].addresses == {"primary": "10.0.0.1:8080"}
    story.ping()
    decision = story.look(0.1)
    assert (story.phases, story.row.state, kinds(decision)) == ([kind.READY], IN_SERVICE, [])
    assert (story.serving.id, story.status.deployed_config) == (story.fleet.id, "c")
    assert story.serving.digests == {"mine:1": "sha256:1"}


def test_an_endpoint_is_in_service_only_once_every_instance_of_every_variant_is() -> None:
    story = Story(spec(variant("a", count=2), variant("b")))
    story.look()
    story.stage()
    story.look()
    story.run()
    story.ping(*story.instances[:2])
    story.look(1)
    assert (story.row.state, story.status.serving) == (CREATING, None)
    story.ping()
    story.look(1)
    assert story.row.state == IN_SERVICE


def test_a_pipeline_is_healthy_once_all_of_its_containers_are() -> None:
    story = Story(spec(variant("v", container("one"), container("two", artifact=None))))
    story.look()
    story.stage()
    submits = [action for action in story.look().actions if isinstance(action, Submit)]
    assert [each.workload.ports for each in submits] == [(8080,), (8081,)]
    assert [each.workload.env["SAGEMAKER_BIND_TO_PORT"] for each in submits] == ["8080", "8081"]
    assert submits[1].log_stream[1] == f"v/{story.instances[0].id}/two"
    story.run()
    story.ping()
    del story.health[submits[1].workload.id]
    story.look(1)
    assert story.phases == [kind.STARTING]
    story.ping()
    story.look(1)
    assert story.row.state == IN_SERVICE


def test_a_submit_that_was_lost_is_repeated_with_the_same_id() -> None:
    story = Story()
    story.look()
    story.stage()
    first = story.look().actions[0]
    again = story.look(1).actions[0]
    assert isinstance(first, Submit)
    assert isinstance(again, Submit)
    assert first.workload == again.workload


# -- creation that fails -----------------------------------------------------------------------------------------


def fail(story: Story) -> str:
    assert story.row.state == FAILED
    reason = story.status.failure_reason
    assert reason is not None
    assert len(reason) <= 1024
    return reason


@pytest.mark.parametrize("cause", [ExitCause.IMAGE, ExitCause.START])
def test_what_is_certain_fails_at_once(cause: ExitCause) -> None:
    story = Story()
    story.look()
    story.stage()
    story.look()
    story.exit(story.instances[0], None, cause=cause, message="There is no serve in the image.")
    story.look(0.5)
    assert fail(story) == f"{SENTENCE} There is no serve in the image. Last log lines:\nlast words"


def test_a_container_that_keeps_dying_is_started_again_until_its_time_is_over() -> None:
    story = Story()
    story.look()
    story.stage()
    ids = set()
    while story.row.state == CREATING:
        for each in story.instances:
            if each.phase == kind.STARTING:
                ids.update(each.workloads.values())
                story.exit(each, 3)
            if each.phase == kind.STOPPING:
                story.vanish(each)
        story.look(1)
        assert story.now < 1000
    assert 480 <= story.now < 560
    assert 8 <= len(ids) <= 30
    reason = fail(story)
    assert reason.startswith(f"{SENTENCE} It was started ")
    assert "exit code 3" in reason
    assert reason.endswith("last words")


def test_a_container_that_never_answers_fails_with_its_pings_and_a_hint() -> None:
    story = Story(spec(variant(startup_seconds=60)))
    story.look()
    story.stage()
    story.look()
    story.run()
    story.ping(failures=9, error="connection refused")
    story.look(1)
    assert story.row.state == CREATING
    story.look(60)
    reason = fail(story)
    assert reason.startswith(SENTENCE)
    assert "connection refused (3 times)" in reason
    assert "0.0.0.0:8080" in reason


def test_pulling_an_image_does_not_count_against_the_start_up_limit() -> None:
    story = Story(spec(variant(startup_seconds=60)))
    story.look()
    story.stage()
    story.look()
    story.look(3600)
    assert story.row.state == CREATING


def test_a_model_that_cannot_be_had_fails_with_the_reason() -> None:
    story = Story()
    story.look()
    story.stage(TransferPhase.FAILED, "it is damaged")
    story.look(1)
    assert fail(story) == "Failed to download model data for production variant v. it is damaged"


def test_a_download_that_takes_too_long_fails() -> None:
    story = Story(spec(variant(download_seconds=100)))
    story.look()
    story.stage(TransferPhase.RUNNING)
    story.look(99)
    assert story.row.state == CREATING
    story.look(2)
    assert "longer than 100 s" in fail(story)


def test_after_a_failure_nothing_is_left_but_the_row() -> None:
    story = Story()
    story.look()
    story.stage()
    story.look()
    story.exit(story.instances[0], None, cause=ExitCause.IMAGE, message="no such image")
    story.look()
    assert Remove in kinds(story.look())
    story.workloads.clear()
    story.look()
    assert ForgetModels in kinds(story.look())
    story.transfers = {}
    assert story.look().wake_in is None
    assert (story.status.fleets, story.row.state) == ((), FAILED)


# -- in service --------------------------------------------------------------------------------------------------


def test_a_container_that_dies_goes_out_of_rotation_at_once_and_has_a_successor() -> None:
    story = served(variant(count=2))
    dead, other = story.instances
    story.exit(dead)
    story.look(1)
    phases = {each.id: each.phase for each in story.instances}
    assert (phases[dead.id], phases[other.id], story.row.state) == (kind.STOPPING, kind.READY, IN_SERVICE)
    (successor,) = [each for each in story.instances if each.id not in {dead.id, other.id}]
    assert (successor.phase, successor.restarts, successor.proven) == (kind.STAGING, 1, True)
    story.vanish(dead)
    story.come_up()
    assert story.phases == [kind.READY] * 2
    assert not {*successor.workloads.values()} & {*dead.workloads.values()}


def test_three_misses_take_an_instance_out_and_one_success_brings_it_back() -> None:
    story = served()
    story.ping(failures=2)
    story.look(5)
    assert story.phases == [kind.READY]
    story.ping(failures=3)
    story.look(5)
    assert (story.phases, len(story.instances[0].transcript)) == ([kind.UNHEALTHY], 3)
    story.ping()
    story.look(5)
    assert (story.phases, story.instances[0].transcript) == ([kind.READY], ())


def test_an_instance_that_stays_unhealthy_is_replaced_and_its_successor_waits_until_it_is_dead() -> None:
    story = served()
    (sick,) = story.instances
    story.ping(failures=3)
    story.look(5)
    story.look(121)
    assert story.phases == [kind.STOPPING, kind.STAGING]
    assert Stop in kinds(story.decision)
    story.look(1)
    assert not [action for action in story.decision.actions if isinstance(action, Submit)]
    story.exit(sick, 143)
    story.look(1)
    assert [action for action in story.decision.actions if isinstance(action, Submit)]


def test_after_our_restart_nothing_is_concluded_from_health_that_is_not_known_yet() -> None:
    story = served()
    story.health.clear()
    story.look(3600)
    assert story.phases == [kind.READY]
    sick = served()
    sick.ping(failures=3)
    sick.look(5)
    sick.health.clear()
    sick.look(3600)
    assert sick.phases == [kind.UNHEALTHY]


def test_what_has_served_is_started_again_for_ever_with_growing_pauses() -> None:
    story = served(variant(startup_seconds=60))
    starts: list[float] = []
    while story.now < 2000:
        for each in story.instances:
            if each.phase in {kind.STARTING, kind.READY}:
                starts.append(story.now)
                story.exit(each, None, cause=ExitCause.IMAGE, message="deleted")
            if each.phase == kind.STOPPING:
                story.vanish(each)
        story.look(1)
    assert story.row.state == IN_SERVICE
    gaps = [later - earlier for earlier, later in pairwise(starts)]
    assert gaps[0] < 5
    assert 60 <= gaps[-1] < 70
    assert gaps == sorted(gaps)
