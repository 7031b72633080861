"""Generated histories of batch transform jobs: crashes at every seam, outages, lost replies, stops, dying containers.

SAGEWRIGHT_HISTORIES sets how many are run; a failure names its seed, and SAGEWRIGHT_HISTORY=SEED runs it alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest

from sagewright.backends.fake import backend as fake
from sagewright.backends.fake.script import End, OnTerm, Run, Say, Script
from sagewright.controllers.training_jobs import Timing
from sagewright.store.kinds.endpoint import VariantPlan
from sagewright.workloads.observation import ExitCause
from suites.endpoint_world import Serving
from suites.hosting import container, variant
from suites.reconcile_chaos import Chaos
from suites.transform_world import TransformWorld
from suites.virtual_time import run

HISTORIES = int(os.environ.get("SAGEWRIGHT_HISTORIES", "24"))
ALONE = os.environ.get("SAGEWRIGHT_HISTORY")
CHAOS_LASTS = 120.0  # virtual seconds
CALM_BY = 6000.0

IMAGES = {
    "good": Serving(Script((Say(b"serving\n"), Run(None)), on_term=OnTerm(0, b"bye\n", 2.0)), 0.3),
    "slow": Serving(Script((Run(None),), prepare=20.0), 15.0),
    "never": Serving(Script((Say(b"no\n"), Run(None)), on_term=None), None),
    "dies": Serving(Script((Say(b"dying\n"), Run(40.0), End(1))), 1.0),
    "missing": Serving(Script(fails=(ExitCause.IMAGE, "no such image"))),
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


def instances(random: Random) -> VariantPlan:
    image = random.choice(["good", "good", "good", *IMAGES])
    names = ("primary",) if random.random() < 0.8 else ("one", "two")
    parts = (container(each, image, random.choice([None, "s3://b/m.tar.gz"])) for each in names)
    return variant("transform", *parts, count=random.choice([1, 1, 2]), startup_seconds=60)


async def trouble(world: TransformWorld, random: Random) -> None:
    """The users and the machine, until the chaos is over; then everything works again."""
    clock = asyncio.get_running_loop()
    while clock.time() < CHAOS_LASTS:
        await asyncio.sleep(random.choice([0.0, 0.05, 1.0, 15.0]))
        match random.randrange(9):
            case 0 if random.random() < 0.3:
                world.stop(random.choice(world.keys))
            case 1 | 2 if len(world.keys) < 4:
                world.begin(f"job-{len(world.keys)}", instances(random))
            case 3 if random.random() < 0.3:
                world.vanish()
            case 4 if random.random() < 0.1:
                world.reboot()
            case 5:
                world.engine.down = not world.engine.down
            case 6:
                world.full_disk = not world.full_disk
            case 7 if random.random() < 0.2:
                world.set_clock()
    world.engine.down = world.full_disk = False
    world.chaos = Chaos()


async def history(folder: Path, seed: int) -> TransformWorld:
    random = Random(seed)
    world = TransformWorld(folder, random, IMAGES, Timing(poll=timedelta(seconds=4)))
    world.chaos = Chaos(
        crash=random.choice([0.0, 0.02, 0.1]),
        unavailable=random.choice([0.0, 0.15, 0.5]),
        reply_lost=random.choice([0.0, 0.1]),
        hint_lost=random.choice([0.0, 0.5, 1.0]),
        transfer_fails=random.choice([0.0, 0.1]),
    )
    world.begin("job-0", instances(random))
    troubles = asyncio.create_task(trouble(world, random))
    clock = asyncio.get_running_loop()
    while clock.time() < CHAOS_LASTS:
        crashed = await world.live(random.choice([CHAOS_LASTS, clock.time() + 60]))
        await asyncio.sleep(random.choice([0.0, 1.0, 30.0]) if crashed else 0.0)
    await troubles
    while clock.time() < CALM_BY and not world.is_settled():
        await world.live(clock.time() + 200)
    world.check_settled()
    world.store.close()
    return world


def test_every_history_ends_well(quick_disk: Path) -> None:
    for seed in [int(ALONE)] if ALONE else range(HISTORIES):
        folder = quick_disk / str(seed)
        folder.mkdir()
        try:
            run(history(folder, seed))
        except BaseException as error:
            error.add_note(f"SAGEWRIGHT_HISTORY={seed}")
            raise
