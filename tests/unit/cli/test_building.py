"""`build`, `push` and `image add`: names and paths as people type them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagewright.backends.docker import building as engine_side
from sagewright.cli import building, images
from sagewright.core.errors import SettingsError
from sagewright.settings import DataDir


@pytest.mark.parametrize("given", ["Docker.gpu", "project/Docker.gpu", "./project/Docker.gpu"])
def test_the_dockerfile_is_found_from_the_folder_and_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "Docker.gpu").touch()
    monkeypatch.chdir(tmp_path)
    assert building._inside(Path("project"), given) == "Docker.gpu"
    assert building._inside(Path("project"), "none") == "none"


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("my-model", ("my-model", "latest")),
        ("team/model:v2", ("team/model", "v2")),
        ("127.0.0.1:8470/team/model:v2", ("team/model", "v2")),
        ("000000000000.dkr.ecr.us-east-1.amazonaws.com/a_b.c/d", ("a_b.c/d", "latest")),
    ],
)
def test_where_a_push_goes(name: str, target: tuple[str, str]) -> None:
    assert building._target(name, "127.0.0.1:8470") == target


@pytest.mark.parametrize("name", ["UPPER", "a//b", "127.0.0.1:8470/", "-x", "a@sha256:" + "0" * 64])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(SettingsError, match=r"is not an image name|names a digest"):
        building._target(name, "127.0.0.1:8470")


def test_progress_of_a_push(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(engine_side.time, "monotonic", lambda: now)
    layers = engine_side._Layers()
    mib = 1 << 20

    def pushing(layer: str, current: int, total: int) -> str:
        detail = {"current": current * mib, "total": total * mib}
        return layers.after({"id": layer, "status": "Pushing", "progressDetail": detail})

    assert pushing("a", 1, 10) == ""
    now += 2.5
    assert pushing("b", 5, 90) == "pushing: 6 of 100 MiB"
    assert pushing("b", 6, 90) == ""
    assert layers.after({"id": "a", "status": "Pushed"}) == "a: Pushed"
    now += 2.5
    assert pushing("b", 95, 90) == "pushing: 91 of 100 MiB"  # the engine counts some bytes twice
    assert layers.after({"status": "v1: digest: sha256:0"}) == ""


def test_a_folder_image_is_known_with_and_without_latest(tmp_path: Path) -> None:
    folder, data = tmp_path / "program", DataDir(tmp_path / "data")
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    assert images.register(data, folder, "prog:latest", "python main.py", None).name == "prog"
    with pytest.raises(SettingsError, match="is not an image name"):
        images.register(data, folder, "bad name", "python main.py", None)
