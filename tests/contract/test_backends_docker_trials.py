"""What a server left in the engine that was killed while it tried layered mounts: found, and removed by whoever may."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sagewright.backends.docker.engine import Engine
from sagewright.backends.docker.layer_trial import LayerTrial

pytestmark = pytest.mark.docker

OURS, GONE, ALIVE = "7e57a0000001", "7e57a0000002", "7e57a0000003"


class Killed(Engine):
    """An engine whose caller never comes to remove anything."""

    async def delete(self, container: str) -> None:
        pass

    async def delete_image(self, name: str) -> None:
        pass


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = Engine()
    yield engine
    await engine.aclose()


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    yield
    for installation in (OURS, GONE, ALIVE):
        for name in in_engine(installation):
            subprocess.run(["docker", "rm", "-fv", name], capture_output=True)
            subprocess.run(["docker", "rmi", "-f", name], capture_output=True)


def asked(*words: str) -> set[str]:
    return set(subprocess.run(["docker", *words], check=True, capture_output=True, text=True).stdout.split())


def in_engine(installation: str) -> set[str]:
    names = f"sagewright-layers-{installation}-*"
    images = asked("images", "--filter", f"reference={names}", "--format", "{{.Repository}}")
    label = f"label=sagewright.installation.trial={installation}"
    return images | asked("ps", "-a", "--filter", label, "--format", "{{.Names}}")


def volumes(installation: str) -> set[str]:
    return asked("volume", "ls", "-q", "--filter", f"label=sagewright.installation.trial={installation}")


async def leave(installation: str, data: Path) -> str:
    """The name of what it left."""
    (data / "workloads").mkdir(parents=True)
    killed = Killed()
    await LayerTrial(killed, installation, data / "workloads").result()
    await killed.aclose()
    assert volumes(installation)
    return max(in_engine(installation))


async def test_the_old_ones_of_this_installation_and_of_those_that_are_gone(tmp_path: Path, engine: Engine) -> None:
    ours, gone, alive = [await leave(each, tmp_path / each) for each in (OURS, GONE, ALIVE)]
    shutil.rmtree(tmp_path / GONE)
    trial = LayerTrial(engine, OURS, tmp_path / OURS / "workloads")
    assert not {ours, gone, alive} & set(await trial.left(time.time() - 60)), "one may be under way"
    left = {ours, gone, alive} & set(await trial.left(time.time() + 60))
    assert left == {ours, gone}, "the owner of the third sweeps it itself"
    await trial.discard(left)
    assert (in_engine(OURS), in_engine(GONE), in_engine(ALIVE)) == (set(), set(), {alive})
    assert (volumes(OURS), volumes(GONE)) == (set(), set())


async def test_the_sweep_finds_a_container_without_its_image(
    tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = await leave(OURS, tmp_path / OURS)
    alive = await leave(ALIVE, tmp_path / ALIVE)
    subprocess.run(["docker", "rmi", "-f", ours], check=True, capture_output=True)
    trial = LayerTrial(engine, OURS, tmp_path / OURS / "workloads")
    monkeypatch.setattr("sagewright.backends.docker.layer_trial._OLD", -60.0)
    await trial.sweep()
    assert (in_engine(OURS), volumes(OURS), in_engine(ALIVE)) == (set(), set(), {alive})
