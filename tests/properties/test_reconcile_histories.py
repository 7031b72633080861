"""Generated histories of training jobs: crashes at every seam, outages, lost replies, users, vanishing containers,
clocks that are set, spot interruptions, retries, warm pools.

SAGEWRIGHT_HISTORIES sets how many are run; a failure names its seed, and SAGEWRIGHT_HISTORY=SEED runs it alone.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from sagewright.backends.fake import backend as fake
from sagewright.backends.fake.script import End, OnTerm, Run, Say, Script
from sagewright.controllers.training_attempts import INTERRUPT_AFTER
from sagewright.store.db import Database
from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import Workload
from suites.reconcile_world import Chaos, World
from suites.virtual_time import run

HISTORIES = int(os.environ.get("SAGEWRIGHT_HISTORIES", "200"))
ALONE = os.environ.get("SAGEWRIGHT_HISTORY")
SHARDS = 8
CHAOS_LASTS = 120.0  # virtual seconds
CALM_BY = 6000.0  # by then every job has ended: time limits, the patience with the engine and two sweeps are over
PIPED = {
    "AlgorithmSpecification": {"TrainingImage": "mine:latest", "TrainingInputMode": "Pipe"},
    "InputDataConfig": [
        {"ChannelName": "c", "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b/c"}}}
    ],
}
CALM_LIFE = 200.0  # long enough for two sweeps


@pytest.fixture
def quick_disk() -> Iterator[Path]:
    """Memory, where there is some: the histories are about order, not about disks."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.fixture(autouse=True)
def rare_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A log reader of the fake looks 200 times a second: too often for hours of virtual time."""
    monkeypatch.setattr(fake, "_LOOK_AGAIN", 0.7)


def script(random: Random) -> Script:
    """What a container does: quickly done, long, silent, chatty, deaf to SIGTERM, failing, or never starting."""
    if random.random() < 0.1:
        return Script(fails=random.choice([(ExitCause.IMAGE, "no such image"), (ExitCause.START, "no such program")]))
    steps: list[Any] = []
    for number in range(random.randrange(4)):
        steps.append(Say(b"".join(b"line %d.%d\n" % (number, n) for n in range(random.choice([1, 3, 40])))))
        steps.append(Run(random.choice([0.0, 0.01, 1.0, 20.0, 90.0])))
    end = random.choice([End(0), End(0), End(1), End(137, ExitCause.OUT_OF_MEMORY), End(139)])
    on_term = random.choice([OnTerm(), OnTerm(0, b"saved\n", 5.0), None])
    return Script((*steps, end), prepare=random.choice([0.0, 0.0, 0.5, 90.0]), on_term=on_term)


def draw_chaos(random: Random) -> Chaos:
    return Chaos(
        crash=random.choice([0.0, 0.02, 0.1]),
        unavailable=random.choice([0.0, 0.15, 0.5]),
        reply_lost=random.choice([0.0, 0.1]),
        hint_lost=random.choice([0.0, 0.5, 1.0]),
        transfer_fails=random.choice([0.0, 0.1]),
        slow=random.choice([0.0, 0.0, 0.1]),
    )


def create(world: World, random: Random, name: str) -> None:
    """A job of one host, or of several; with files, or fed through pipes; on spot instances, or to be tried again."""
    hosts = random.choice([1, 1, 2, 3])
    more: dict[str, Any] = {
        "ResourceConfig": {"InstanceType": "ml.t3.medium", "InstanceCount": hosts, "VolumeSizeInGB": 1},
        **random.choice([{}, PIPED]),
    }
    runtime = random.choice([30, 3600])
    more["ResourceConfig"]["KeepAlivePeriodInSeconds"] = random.choice([0, 0, 5, 600])
    if random.random() < 0.3:
        more["EnableManagedSpotTraining"] = True
        more["StoppingCondition"] = {"MaxRuntimeInSeconds": runtime, "MaxWaitTimeInSeconds": runtime * 2}
        more["Environment"] = {INTERRUPT_AFTER: random.choice(["", "1", "0,25"])}
    if random.random() < 0.3:
        more["CheckpointConfig"] = {"S3Uri": "s3://b/checkpoints"}
    if random.random() < 0.3:
        more["RetryStrategy"] = {"MaximumRetryAttempts": random.choice([1, 3])}
    world.create(name, max_runtime=runtime, **more)


async def trouble(world: World, random: Random) -> None:
    """The user and the machine, until the chaos is over; then everything works again."""
    clock = asyncio.get_running_loop()
    while clock.time() < CHAOS_LASTS:
        await asyncio.sleep(random.choice([0.0, 0.001, 0.05, 1.0, 15.0]))
        random.choice([user_acts, machine_fails])(world, random)
    world.engine.down = world.full_disk = False
    world.chaos = Chaos()


def user_acts(world: World, random: Random) -> None:
    match random.randrange(7):
        case 0 if random.random() < 0.3:
            world.stop(random.choice(world.keys))
        case 1 | 2:
            world.delete(random.choice(world.keys))
        case 3 if random.random() < 0.5:
            world.interrupt(random.choice(world.keys))
        case 4 | 5 if len(world.keys) < 5:
            create(world, random, f"{world.keys[0].name}-{len(world.keys)}")
        case 6 if random.random() < 0.3:
            world.keep_alive(random.choice(world.keys), random.choice([0, 5, 600]))


def machine_fails(world: World, random: Random) -> None:
    match random.randrange(7):
        case 0 if random.random() < 0.3:
            world.vanish()
        case 1 if random.random() < 0.1:
            world.reboot()
        case 2:
            world.kill_feeder()
        case 3:
            world.engine.down = not world.engine.down
        case 4:
            world.full_disk = not world.full_disk
        case 5 if random.random() < 0.2:
            world.set_clock()


async def history(store: Database, folder: Path, seed: int) -> World:
    random = Random(seed)
    world = World(store, folder, random, lambda workload: script(random))
    world.chaos = draw_chaos(random)
    world.at_once = random.choice([1, 2, 100, None])
    create(world, random, f"job-{seed}-0")
    troubles = asyncio.create_task(trouble(world, random))
    clock = asyncio.get_running_loop()
    while clock.time() < CHAOS_LASTS:
        crashed = await world.live(random.choice([CHAOS_LASTS, clock.time() + 60]))
        await asyncio.sleep(random.choice([0.0, 1.0, 30.0]) if crashed else 0.0)
    await troubles
    while clock.time() < CALM_BY and not world.is_settled():
        await world.live(clock.time() + CALM_LIFE)
    world.check_settled()
    return world


@pytest.mark.parametrize("shard", range(SHARDS))
def test_every_history_ends_well(shard: int, quick_disk: Path) -> None:
    seeds = [int(ALONE)] if ALONE else range(shard, HISTORIES, SHARDS)
    with closing(Database.open(quick_disk / "store.db")) as store:
        for seed in seeds:
            folder = quick_disk / str(seed)
            folder.mkdir()
            try:
                run(history(store, folder, seed))
            except BaseException as error:
                error.add_note(f"SAGEWRIGHT_HISTORY={seed}")
                raise


def test_a_history_without_trouble_runs_each_container_once_and_keeps_each_line(quick_disk: Path) -> None:
    async def calm(store: Database) -> World:
        world = World(store, quick_disk, Random(1), _prints)
        world.create("job-0")
        await world.live(100)
        world.check_settled()
        return world

    with closing(Database.open(quick_disk / "store.db")) as store:
        world = run(calm(store))
    job = world.states[world.keys[0]]
    assert job == "Completed"
    assert list(world.engine.starts.values()) == [1]


def test_a_job_of_which_nobody_told_begins_although_the_clock_was_set_back(quick_disk: Path) -> None:
    async def set_back(store: Database) -> World:
        world = World(store, quick_disk, Random(1), _prints)
        world.chaos.hint_lost = 1.0
        asyncio.get_running_loop().call_later(7, world.create, "job-0")  # between two full passes
        asyncio.get_running_loop().call_later(8, lambda: setattr(world.clock, "jump", -3600.0))
        asyncio.get_running_loop().call_later(100, lambda: world.delete(world.keys[0]))
        await world.live(200)
        return world

    with closing(Database.open(quick_disk / "store.db")) as store:
        world = run(set_back(store))
        assert world.states[world.keys[0]] == "Completed"
        assert world.job(world.keys[0]) is None, "and is deleted before the clock is there again"


def _prints(workload: Workload) -> Script:
    return Script((Say(b"one\ntwo\n"), Run(5), Say(b"three"), End(0)))
