"""`decide` of endpoints that change, end, or whose backend is away: values in, a decision out."""

from __future__ import annotations

from dataclasses import replace

from sagewright.controllers.controller import Decision, ForgetModels, Problem, Remove, Stop
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import CREATING, DELETING, IN_SERVICE, ROLLING_BACK, UPDATING
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.transfer import TransferPhase
from suites.hosting import DOCKER, Story, after, container, plan, variant
from unit.controllers.test_endpoints import fail, kinds, served

# -- updates -----------------------------------------------------------------------------------------------------


def updating(story: Story, image: str = "mine:2") -> Story:
    old = story.endpoint.spec
    wanted = plan(variant("v", container(image=image)), config="c2")
    story.ask(replace(old, revision=old.revision + 1, config="c2", plan=wanted))
    return story


def test_the_old_fleet_serves_until_the_new_one_does_and_then_drains_before_it_is_stopped() -> None:
    story = updating(served())
    old = story.serving
    story.look()
    assert (story.row.state, story.serving.id, len(story.status.fleets)) == (UPDATING, old.id, 2)
    story.stage()
    story.look()
    story.run()
    story.look(1)
    assert story.serving.instances[0].phase == kind.READY
    story.ping()
    decision = story.look(1)
    assert (story.serving.id != old.id, story.status.deployed_config) == (True, "c2")
    assert story.status.fleets[0].instances[0].phase == kind.DRAINING
    assert Stop not in kinds(decision)
    assert Stop not in kinds(story.look(1))
    story.drained.add(old.instances[0].id)
    assert kinds(story.look(1)) == [Stop]
    story.vanish(*old.instances)
    story.look(1)
    story.transfers = {each: state for each, state in story.transfers.items() if old.id not in each}
    story.look(1)
    story.look(1)
    assert (story.row.state, [each.id for each in story.status.fleets]) == (IN_SERVICE, [story.serving.id])


def test_a_drain_that_never_ends_is_ended() -> None:
    story = served()
    story.ask(replace(story.endpoint.spec, delete_requested=True))
    story.look()
    assert story.phases == [kind.DRAINING]
    assert kinds(story.look(64)) == []
    assert kinds(story.look(2)) == [Stop]


def test_a_bad_new_version_is_removed_and_the_old_one_is_never_touched() -> None:
    story = updating(served())
    old = story.serving
    mine = set(old.instances[0].workloads.values())
    story.look()
    story.stage()
    story.look()
    story.exit(story.instances[0], None, cause=ExitCause.IMAGE, message="no such image")
    story.look()
    assert (story.row.state in {ROLLING_BACK, IN_SERVICE}, story.serving) == (True, old)
    actions = list(story.decision.actions)
    for _ in range(6):
        story.workloads = {each: found for each, found in story.workloads.items() if each in mine}
        story.transfers = {}
        actions += story.look(1).actions
    assert (story.row.state, story.status.fleets) == (IN_SERVICE, (old,))
    assert "no such image" in (story.status.failure_reason or "")
    assert not [each for each in actions if isinstance(each, Stop | Remove) and each.workload in mine]


def scaled(story: Story, count: int, weight: float = 1.0) -> Story:
    old = story.endpoint.spec
    changed = replace(old.plan.variants[0], count=count, weight=weight)
    story.ask(replace(old, scale=old.scale + 1, plan=replace(old.plan, variants=(changed,))))
    return story


def test_scaling_out_adds_to_the_fleet_that_serves() -> None:
    story = scaled(served(), 3, weight=2.0)
    old = story.serving
    story.look()
    assert (story.row.state, story.serving.id, story.serving.plan.variants[0].weight) == (UPDATING, old.id, 2.0)
    story.come_up()
    assert (story.row.state, story.phases, story.serving.previous) == (IN_SERVICE, [kind.READY] * 3, None)
    assert story.instances[0] == old.instances[0]


def test_scaling_out_that_fails_goes_back_to_what_was_there() -> None:
    story = scaled(served(), 2)
    (old,) = story.serving.instances
    story.look()
    story.look()
    added = story.instances[1]
    story.exit(added, None, cause=ExitCause.START, message="no memory for it")
    story.look(1)
    assert (story.row.state, story.serving.plan.variants[0].count) == (ROLLING_BACK, 1)
    story.vanish(added)
    for _ in range(4):
        story.look(1)
    assert (story.row.state, story.instances) == (IN_SERVICE, (old,))
    assert "no memory for it" in (story.status.failure_reason or "")


def test_scaling_in_drains_the_newest_and_keeps_the_rest() -> None:
    story = scaled(served(variant(count=3)), 1)
    story.look()
    assert story.phases == [kind.READY, kind.DRAINING, kind.DRAINING]
    story.drained.update(each.id for each in story.instances)
    story.look(1)
    story.vanish(*story.instances[1:])
    story.look(1)
    story.look(1)
    assert (story.phases, story.row.state) == ([kind.READY], IN_SERVICE)


# -- deletion ----------------------------------------------------------------------------------------------------


def deleted(story: Story) -> Story:
    story.ask(replace(story.endpoint.spec, delete_requested=True))
    for _ in range(10):
        decision = story.look(1)
        if decision.forget:
            return story
        assert story.row.state == DELETING
        story.drained.update(each.id for each in story.instances)
        story.vanish(*(each for each in story.instances if each.phase == kind.STOPPING))
        if ForgetModels in kinds(decision):
            story.transfers = {}
    raise AssertionError(story.status)


def test_delete_works_in_every_state() -> None:
    deleted(Story())
    staging = Story()
    staging.look()
    deleted(staging)
    starting = Story()
    starting.look()
    starting.stage()
    starting.look()
    deleted(starting)
    deleted(served(variant(count=2)))
    deleted(updating(served()))
    failed = Story()
    failed.look()
    failed.stage(TransferPhase.FAILED, "gone")
    failed.look()
    deleted(failed)


def test_routes_end_before_anything_is_stopped() -> None:
    story = served()
    story.ask(replace(story.endpoint.spec, delete_requested=True))
    decision = story.look()
    assert (story.status.serving, story.phases, kinds(decision)) == (None, [kind.DRAINING], [])


# -- without a backend -------------------------------------------------------------------------------------------


def away(story: Story, seconds: float, problem: Problem) -> Decision:
    story.now += seconds
    decision = story.controller.unreachable(story.endpoint, {DOCKER: problem}, after(story.now))
    story.commit(decision)
    return decision


def test_an_endpoint_in_service_outlives_any_outage() -> None:
    story = served()
    before = story.serving
    for _ in range(5):
        away(story, 600, Problem("the engine does not answer"))
    assert (story.row.state, story.serving) == (IN_SERVICE, before)
    story.look()
    assert story.status.unreachable_since is None


def test_a_creation_waits_for_the_backend_but_not_in_vain() -> None:
    story = Story()
    story.look()
    away(story, 1, Problem("the engine does not answer"))
    assert story.row.state == CREATING
    away(story, 601, Problem("the engine does not answer"))
    assert "waited 10 min" in fail(story)
    hopeless = Story()
    hopeless.look()
    away(hopeless, 1, Problem("There is no engine: install Docker.", installed=False))
    assert "install Docker" in fail(hopeless)


def test_what_ran_on_a_backend_that_was_taken_away_does_not_keep_an_endpoint_from_being_deleted() -> None:
    story = served()
    story.ask(replace(story.endpoint.spec, delete_requested=True))
    away(story, 1, Problem("There is no engine.", installed=False))
    story.transfers = {}
    assert story.look().forget
