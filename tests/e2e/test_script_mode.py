"""Source code that is not in the image: SDK v3's drivers, and SDK v2 with the training toolkit."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from e2e.conftest import run_script, sdk_python
from support.images import PYTHON, need
from support.server import Server
from support.wheels import image_with

pytestmark = [pytest.mark.sdk, pytest.mark.docker]
SOURCE = Path(__file__).parent / "source"
INSTALL = "RUN python3 -m pip install -q --no-index --no-deps --root-user-action=ignore /wheels/*.whl && rm -rf /wheels"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The user's project: source code, a package that its requirements file names, data."""
    shutil.copytree(SOURCE, tmp_path / "source")
    with zipfile.ZipFile(tmp_path / "source" / "greeting-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in {
            "greeting.py": "def text(name):\n    return f'greetings to {name}'\n",
            "greeting-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
            "greeting-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "greeting-1.0.dist-info/RECORD": "",
        }.items():
            wheel.writestr(name, text)
    for name, rows in (("a.csv", "1,2\n3,4\n"), ("b.csv", "5,6\n")):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text(rows)
    return tmp_path


@pytest.fixture(scope="session")
def toolkit_image() -> str:
    """An image of the user's own that has sagemaker-training, which brings the program `train`."""
    return image_with("sagewright-test/toolkit", "sagewright-test/sklearn:1", "toolkit", INSTALL)


def model_of(server: Server, uri: str) -> dict[str, Any]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    body = server.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        file = archive.extractfile("model.json")
        assert file is not None
        return dict(json.load(file))


def told(**changes: Any) -> dict[str, Any]:
    made = {
        "depth": 3,
        "name": "ada",
        "rows": 3,
        "host": "algo-1",
        "hosts": ["algo-1"],
        "driver": "",
        "python": [3, 11],
    }
    return {**made, **changes}


@pytest.mark.parametrize(("how", "driver"), [("basic", ""), ("driver", "of 1")])
def test_sdk_3_trains_source_code_with_requirements(server: Server, folder: Path, how: str, driver: str) -> None:
    need(PYTHON)
    printed, result = run_script(sdk_python("sdk3"), "train_sdk3.py", PYTHON, str(folder), how, "ada", env=server.env())
    assert result["status"] == "Completed", printed
    assert model_of(server, result["model"]) == told(driver=driver)
    log = server.run("logs", result["job"]).stdout
    assert "greetings to ada" in log
    assert "Training Container Execution Completed" in log


def test_sdk_3_tells_why_a_script_failed(server: Server, folder: Path) -> None:
    need(PYTHON)
    _, result = run_script(sdk_python("sdk3"), "train_sdk3.py", PYTHON, str(folder), "basic", "fails", env=server.env())
    assert result["status"] == "Failed"
    assert "returned non-zero exit status 1" in result["failure"], "which is all that its driver writes down"
    assert "the data has no column of that name" in result["failure"]


def test_sdk_2_script_mode_with_the_training_toolkit(server: Server, folder: Path, toolkit_image: str) -> None:
    printed, result = run_script(
        sdk_python("sdk2"), "script_mode_sdk2.py", toolkit_image, str(folder), "ada", env=server.env()
    )
    assert result["status"] == "Completed", printed
    assert result["source"].endswith("/source/sourcedir.tar.gz")
    assert model_of(server, result["model"]) == told()
    assert "greetings to ada" in printed
    assert "Reporting training SUCCESS" in printed


TWO = {"HOSTS": "2"}
OF_BOTH = {"host": "algo-2", "hosts": ["algo-1", "algo-2"]}  # both write it, and the last one wins


def test_sdk_3_runs_its_driver_on_two_hosts(server: Server, folder: Path) -> None:
    need(PYTHON)
    env = server.env() | TWO
    printed, result = run_script(sdk_python("sdk3"), "train_sdk3.py", PYTHON, str(folder), "driver", "ada", env=env)
    assert result["status"] == "Completed", printed
    assert model_of(server, result["model"]) == told(driver="of 2", **OF_BOTH)


def test_the_training_toolkit_finds_its_other_hosts(server: Server, folder: Path, toolkit_image: str) -> None:
    """It looks every host up before it starts, for up to 15 minutes."""
    env = server.env() | TWO
    printed, result = run_script(sdk_python("sdk2"), "script_mode_sdk2.py", toolkit_image, str(folder), "ada", env=env)
    assert result["status"] == "Completed", printed
    assert model_of(server, result["model"]) == told(**OF_BOTH)


def test_the_toolkit_s_failure_file_is_the_reason(server: Server, folder: Path, toolkit_image: str) -> None:
    _, result = run_script(
        sdk_python("sdk2"), "script_mode_sdk2.py", toolkit_image, str(folder), "fails", env=server.env()
    )
    assert result["status"] == "Failed"
    assert "ExecuteUserScriptError" in result["failure"]
    assert "the data has no column of that name" in result["failure"]
