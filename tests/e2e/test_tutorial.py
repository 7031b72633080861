"""The tutorial that people arrive with, whole: its notebook, executed headless by both generations of the SDK."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support import tutorial
from support.server import Server, wait_for_job
from support.tutorial import Run

pytestmark = [pytest.mark.docker, pytest.mark.sdk, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("tutorial") / "data")
    made.start()
    yield made
    made.stop()
    tutorial.clean(made)


@pytest.fixture(scope="module")
def runs(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Run]]:
    started: dict[str, Run] = {}
    try:
        for run in tutorial.start_all(tutorial.SDKS, server, tmp_path_factory.mktemp("runs")):
            started[run.sdk] = run
        yield started
    except tutorial.Missing as missing:
        pytest.skip(str(missing))
    finally:
        for run in started.values():
            run.process.kill()
            run.process.wait()


@pytest.mark.parametrize("sdk", tutorial.SDKS)
def test_the_notebook_runs_to_its_end(runs: Mapping[str, Run], server: Server, sdk: str) -> None:
    run = runs[sdk]
    assert run.wait() == 0, run.transcript[-6000:]
    printed = outputs(run.result)
    assert "Login Succeeded" in printed
    assert "latest: digest: sha256:" in printed  # docker push
    assert "epoch=12 loss=" in printed  # the training notebook's own words, in the job's log
    assert "saved /opt/ml/model/digits.joblib" in printed
    assert "of 10 are right." in printed
    assert int(printed.partition(" of 10 are right.")[0].rpartition(" ")[2]) >= 9
    assert "That is the same as the endpoint said" in printed
    assert {"model.tar.gz", "output.tar.gz"} <= {line.rpartition("/")[2] for line in printed.splitlines()}
    version = printed.partition("sagemaker ")[2].partition(" ")[0]
    assert version.startswith("1.72" if sdk == "sdk172" else "2.")


def test_it_leaves_nothing_running(runs: Mapping[str, Run], server: Server) -> None:
    assert all(run.wait() == 0 for run in runs.values())
    client = server.client("sagemaker")
    assert client.list_endpoints()["Endpoints"] == []
    assert client.list_models()["Models"] == []
    statuses = {job["TransformJobStatus"] for job in client.list_transform_jobs()["TransformJobSummaries"]}
    assert statuses == {"Completed"}


def test_the_image_works_by_hand_too(runs: Mapping[str, Run], tmp_path: Path) -> None:
    """`docker run IMAGE train` needs nothing of the service: the article's complaint was that nothing appears there."""
    assert runs["sdk2"].wait() == 0
    done = subprocess.run(
        ["docker", "run", "--rm", "--network", "none", tutorial.REPOSITORY, "train"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "saved /opt/ml/model/digits.joblib" in done.stdout


def test_a_notebook_that_raises_tells_the_exception_the_cell_and_the_line(
    runs: Mapping[str, Run], server: Server
) -> None:
    assert runs["sdk2"].wait() == 0
    image = f"{server.url.removeprefix('http://')}/{tutorial.REPOSITORY}:latest"
    sagemaker = server.client("sagemaker")
    sagemaker.create_training_job(
        TrainingJobName="raises",
        AlgorithmSpecification={"TrainingImage": image, "TrainingInputMode": "File"},
        HyperParameters={"epochs": "many"},
        RoleArn="arn:aws:iam::000000000000:role/SageMakerRole",
        OutputDataConfig={"S3OutputPath": "s3://sagemaker-us-east-1-000000000000/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    reason = wait_for_job(sagemaker, "raises")["FailureReason"]
    cause = "ValueError: invalid literal for int() with base 10: 'many' (notebook cell [2], line 3)"
    assert reason.startswith(f"AlgorithmError: {cause}. Last log lines:\n")
    assert "----> 3 epochs = int(given.get" in reason
    assert "\x1b" not in reason
    assert reason.endswith(", exit code: 1")


def outputs(notebook: Path) -> str:
    """All that its cells printed."""
    cells = json.loads(notebook.read_text())["cells"]
    given = [output for cell in cells for output in cell.get("outputs", ()) if output["output_type"] == "stream"]
    return "".join("".join(output["text"]) for output in given)
