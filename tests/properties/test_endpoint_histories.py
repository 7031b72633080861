"""Generated histories of endpoints: crashes at every seam, outages, lost replies, updates, scaling, dying containers.

SAGEWRIGHT_HISTORIES sets how many are run; a failure names its seed, and SAGEWRIGHT_HISTORY=SEED runs it alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from sagewright.backends.fake import backend as fake
from sagewright.backends.fake.script import End, OnTerm, Run, Say, Script
from sagewright.controllers.endpoint_steps import Timing
from sagewright.core.ids import Key
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, VariantPlan
from sagewright.workloads.observation import ExitCause
from suites.endpoint_world import EndpointWorld, Serving
from suites.hosting import container, plan, variant
from suites.reconcile_chaos import Chaos
from suites.virtual_time import run

HISTORIES = int(os.environ.get("SAGEWRIGHT_HISTORIES", "16"))
ALONE = os.environ.get("SAGEWRIGHT_HISTORY")
SHARDS = 4
CHAOS_LASTS = 600.0  # virtual seconds
CALM_BY = 1600.0  # by then what was being changed has come up or failed, and two sweeps are over

IMAGES = {
    "good": Serving(Script((Say(b"serving\n"), Run(None)), on_term=OnTerm(143)), 0.3),
    "slow": Serving(Script((Run(None),), prepare=20.0, on_term=OnTerm(0, b"bye\n", 3.0)), 15.0),
    "deaf": Serving(Script((Run(None),), on_term=None), 1.0, deaf=(40.0, 90.0)),
    "hangs": Serving(Script((Run(None),), on_term=None), 1.0, deaf=(100.0, 1e9)),
    "never": Serving(Script((Say(b"no\n"), Run(None)), on_term=OnTerm()), None),
    "dies": Serving(Script((Say(b"dying\n"), Run(2.0), End(1))), None),
    "mortal": Serving(Script((Run(150.0), End(137, ExitCause.OUT_OF_MEMORY))), 1.0),
    "missing": Serving(Script(fails=(ExitCause.IMAGE, "no such image"))),
    "broken": Serving(Script(fails=(ExitCause.START, "no such program"))),
}


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """Memory, where there is some: the histories are about order, not about disks."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def rare_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log reader of the fake looks 200 times a second: too often for hours of virtual time."""
    monkeypatch.setattr(fake, "_LOOK_AGAIN", 11.0)


def variants(random: Random) -> tuple[VariantPlan, ...]:
    def one(name: str) -> VariantPlan:
        image = random.choice(["good", "good", "good", "slow", "hangs", *IMAGES])
        artifact = random.choice([None, "s3://b/m.tar.gz"])
        names = ("primary",) if random.random() < 0.8 else ("one", "two")
        containers = (container(each, image, artifact) for each in names)
        return variant(name, *containers, count=random.choice([1, 1, 2, 3]), startup_seconds=60)

    return tuple(one(name) for name in ("a", "b")[: random.choice([1, 1, 2])])


def wanted(random: Random) -> EndpointSpec:
    return EndpointSpec("c", plan(*variants(random)))


def update(world: EndpointWorld, key: Key, random: Random) -> None:
    def changed(spec: EndpointSpec, status: EndpointStatus) -> EndpointSpec:
        return replace(spec, revision=spec.revision + 1, plan=plan(*variants(random)))

    world.change(key, changed)


def scale(world: EndpointWorld, key: Key, random: Random) -> None:
    def changed(spec: EndpointSpec, status: EndpointStatus) -> EndpointSpec:
        now = kind.current_plan(spec, status)
        counts = tuple(replace(each, count=random.randrange(5), weight=2.0) for each in now.variants)
        return replace(spec, scale=spec.scale + 1, plan=replace(now, variants=counts))

    world.change(key, changed)


def draw_chaos(random: Random) -> Chaos:
    return Chaos(
        crash=random.choice([0.0, 0.01, 0.05]),
        unavailable=random.choice([0.0, 0.1, 0.3]),
        reply_lost=random.choice([0.0, 0.1]),
        hint_lost=random.choice([0.0, 0.5, 1.0]),
        transfer_fails=random.choice([0.0, 0.1]),
    )


def outage(world: EndpointWorld, random: Random, name: str, where: object) -> None:
    setattr(where, name, True)
    asyncio.get_running_loop().call_later(random.choice([1.0, 10.0, 60.0]), lambda: setattr(where, name, False))


def trouble_the_machine(world: EndpointWorld, random: Random, what: int) -> None:
    match what:
        case 9:
            world.vanish()
        case 10 if random.random() < 0.3:
            world.reboot()
        case 11:
            outage(world, random, "down", world.engine)
        case 12:
            outage(world, random, "full_disk", world)


async def trouble(world: EndpointWorld, random: Random) -> None:
    """The users and the machine, until the chaos is over; then everything works again."""
    clock = asyncio.get_running_loop()
    while clock.time() < CHAOS_LASTS:
        await asyncio.sleep(random.choice([0.0, 0.05, 1.0, 5.0, 15.0, 15.0]))
        key = random.choice(world.keys)
        match random.randrange(16):
            case 0 | 1 | 2:
                update(world, key, random)
            case 3 | 4 | 5:
                scale(world, key, random)
            case 6 if random.random() < 0.3:
                world.delete(key)
            case 7 | 8:
                world.deploy(wanted(random), random.choice(["e", "f"]))
            case other:
                trouble_the_machine(world, random, other)
    world.engine.down = world.full_disk = False
    world.chaos = Chaos()
    world.engine.faults = lambda verb, workload: fake.Fault.NONE
    if random.random() < 0.3:
        world.delete(random.choice(world.keys))


async def history(folder: Path, seed: int) -> EndpointWorld:
    random = Random(seed)
    timing = Timing(calm=timedelta(seconds=20), unreachable_limit=timedelta(seconds=200))
    world = EndpointWorld(folder, random, IMAGES, timing)
    world.chaos = draw_chaos(random)
    world.deploy(EndpointSpec("c", plan(variant("a", container(image="good"), count=random.choice([1, 2, 3])))))
    troubles = asyncio.create_task(trouble(world, random))
    clock = asyncio.get_running_loop()
    while CALM_BY - clock.time() > 0.001:  # a timer may fire a nanosecond early
        crashed = await world.live(CALM_BY)
        await asyncio.sleep(random.choice([0.0, 1.0, 30.0]) if crashed else 0.0)
    await troubles
    world.check_settled()
    world.store.close()
    return world


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_history_ends_well(shard: int, quick_disk: Path) -> None:
    seeds = [int(ALONE)] if ALONE else range(shard, HISTORIES, SHARDS)
    for seed in seeds:
        folder = quick_disk / str(seed)
        folder.mkdir()
        try:
            run(history(folder, seed))
        except BaseException as error:
            error.add_note(f"SAGEWRIGHT_HISTORY={seed}")
            raise


def test_a_quiet_endpoint_starts_each_container_once_and_keeps_them_over_a_restart(quick_disk: Path) -> None:
    async def quiet() -> EndpointWorld:
        world = EndpointWorld(quick_disk, Random(1), IMAGES, Timing())
        world.deploy(EndpointSpec("c", plan(variant("v", container(image="good"), count=2))))
        await world.live(50)
        await world.live(100)
        world.check_settled()
        world.store.close()
        return world

    world = run(quiet())
    assert world.states[world.keys[0]] == kind.IN_SERVICE
    assert list(world.engine.starts.values()) == [1, 1]
    assert len(world.routable[world.keys[0]]) == 2
