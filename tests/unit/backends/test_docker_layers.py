"""Layered mounts as volumes, and the trial whether an engine can have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sagewright.backends.docker import layers, spec
from sagewright.backends.docker.engine import EngineRefused
from sagewright.backends.docker.facts import Facts, Image
from sagewright.backends.docker.layer_trial import Layering, LayerTrial
from sagewright.backends.docker.ownership import make_room
from sagewright.core.errors import BackendUnavailable
from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.workload import ImageRef, Mount, Workload
from unit.backends.test_docker_spec import FACTS, IMAGE

CHANNEL = Mount(Path("/data/inputs/train"), "/opt/ml/input/data/train", changes=Path("/data/changes/train"))
WORK = Workload(WorkloadId("job-1"), ImageRef("i"), None, None, mounts=(Mount(Path("/data/ml"), "/opt/ml"), CHANNEL))


def mounts(work: Workload = WORK, image: Image = IMAGE) -> list[dict[str, Any]]:
    made = spec.container_config(work, "here", image, FACTS, layering="redirect_dir=on")
    return list(made["HostConfig"]["Mounts"])


def options(mount: Mapping[str, Any]) -> str:
    return str(mount["VolumeOptions"]["DriverConfig"]["Options"]["o"])


def test_a_layered_mount_is_an_overlay_without_a_name_that_carries_our_labels() -> None:
    plain, layered = mounts()
    assert plain == {"Type": "bind", "Source": "/data/ml", "Target": "/opt/ml", "ReadOnly": False}
    assert (layered["Type"], layered["Target"], "Source" in layered) == ("volume", CHANNEL.target, False)
    labels = layered["VolumeOptions"]["Labels"]
    assert labels == {spec.INSTALLATION: "here", spec.WORKLOAD: "job-1", layers.CHANGES: "/data/changes/train"}
    assert options(layered) == (
        "lowerdir=/data/inputs/train,upperdir=/data/changes/train/upper,workdir=/data/changes/train/work,"
        "redirect_dir=on"
    )


def test_paths_with_the_mount_s_own_marks_are_escaped() -> None:
    odd = replace(CHANNEL, source=Path("/a,b:c\\d"))
    assert options(layers.volume(odd, Path("/w"), {})).startswith("lowerdir=/a\\,b\\:c\\\\d,upperdir=")


def test_a_volume_of_the_image_below_a_layered_mount_is_a_layer_of_its_own(tmp_path: Path) -> None:
    channel = replace(CHANNEL, source=tmp_path / "inputs", changes=tmp_path / "changes")
    work = replace(WORK, mounts=(Mount(tmp_path / "ml", "/opt/ml"), channel))
    image = replace(IMAGE, volumes=("/opt/ml/input/data/train/deep", "/opt/ml/input/data/train"))
    (inner,) = spec.inner_volumes(work, image)
    assert (inner.source, inner.target) == (tmp_path / "inputs/deep", "/opt/ml/input/data/train/deep")
    make_room(inner, work.mounts)
    assert inner.changes is not None
    assert sorted(path.name for path in inner.changes.iterdir()) == ["upper", "work"]
    assert not inner.changes.is_relative_to(tmp_path / "changes/upper"), "one layer may not lie in another"


class FakeEngine:
    """Mounts nothing: `overlay` says what becomes of looking into a container, given its mount's options."""

    def __init__(self, overlay: Mapping[str, str]) -> None:
        self.now: Facts = FACTS
        self.tried: list[str] = []
        self.left: set[str] = set()
        self._overlay = overlay
        self._mount: Mapping[str, Any] = {}

    async def facts(self) -> Facts:
        return self.now

    async def create(self, name: str, config: Mapping[str, Any]) -> str:
        self.left.add(f"container {name}")
        (self._mount,) = config["HostConfig"]["Mounts"]
        return name

    async def delete(self, container: str) -> None:
        self.left.discard(f"container {container}")

    async def delete_image(self, name: str) -> None:
        self.left.discard(f"image {name}")

    @asynccontextmanager
    async def stream(
        self, method: str, path: str, params: Mapping[str, str], headers: object = None, body: object = None
    ) -> AsyncIterator[Any]:
        if method == "POST":
            self.left.add(f"image {params['repo']}")
            yield _Lines()
            return
        told = options(self._mount)
        option = told.partition("/work")[2].lstrip(",")
        outcome = self._overlay.get(option, "invalid argument")
        if method == "PUT":
            self.tried.append(option)
            if outcome == "works":
                upper = Path(told.partition("upperdir=")[2].partition(",")[0])
                (upper / "written").write_bytes(b"new")
        if outcome not in {"works", "elsewhere"}:
            raise EngineRefused(500, outcome)
        if outcome == "elsewhere" and method == "HEAD":
            raise EngineRefused(404, "no such file")
        yield None


class _Lines:
    status = 200

    @property
    def content(self) -> AsyncIterator[bytes]:
        async def lines() -> AsyncIterator[bytes]:
            yield b'{"status":"sha256:empty"}'

        return lines()


def trial(engine: FakeEngine, scratch: Path | None) -> LayerTrial:
    return LayerTrial(engine, "here", scratch)


async def test_the_best_way_that_works_is_taken_and_nothing_is_left(tmp_path: Path) -> None:
    engine = FakeEngine({"": "works"})
    assert await trial(engine, tmp_path).result() == Layering("")
    assert (engine.tried, engine.left, list(tmp_path.iterdir())) == (["redirect_dir=on", ""], set(), [])


async def test_it_is_tried_once_for_each_engine(tmp_path: Path) -> None:
    engine = FakeEngine({"redirect_dir=on": "works"})
    made = trial(engine, tmp_path)
    for _ in range(3):
        assert await made.result() == Layering("redirect_dir=on")
    assert len(engine.tried) == 1
    engine.now = replace(FACTS)
    await made.result()
    assert len(engine.tried) == 2


async def test_an_engine_that_cannot_is_told_with_its_own_words(tmp_path: Path) -> None:
    found = await trial(FakeEngine({}), tmp_path).result()
    assert found.problem == "invalid argument"
    told = found.told(Capabilities("docker", available=True))
    assert (told.layers, told.details) == (False, {"inputs": "copies: invalid argument"})


async def test_a_trial_that_breaks_costs_layers_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(_: str) -> None:
        raise BackendUnavailable("the container engine failed: no such route")

    engine = FakeEngine({"redirect_dir=on": "works"})
    monkeypatch.setattr(engine, "delete_image", fail)
    assert "no such route" in (await trial(engine, tmp_path).result()).problem


async def test_an_engine_of_another_machine_sees_none_of_our_files(tmp_path: Path) -> None:
    engine = FakeEngine(dict.fromkeys(("redirect_dir=on", "", "userxattr"), "elsewhere"))
    assert (await trial(engine, tmp_path).result()).problem == "the engine does not see this machine's files"
    assert engine.left == set()


async def test_without_a_place_to_try_it_nothing_is_layered() -> None:
    assert (await trial(FakeEngine({"": "works"}), None).result()).problem
