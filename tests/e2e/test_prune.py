"""`sagewright prune`: finds what was left behind, removes only that, and nothing of what runs."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from e2e.test_jobs import Jobs
from support.images import BUSYBOX
from support.server import Server, wait_for

pytestmark = pytest.mark.docker

ORPHAN = "training-job-lost-1-algo-1-0badcafe"
OLD = time.time() - 2 * 3600


@pytest.fixture
def jobs(own_server: Server, docker_image: str) -> Jobs:
    own_server.start()
    return Jobs(own_server, docker_image, "prune")


def inspect(container: str, what: str) -> str:
    told = subprocess.run(["docker", "inspect", "-f", what, container], capture_output=True, text=True)
    return told.stdout.strip()


def leave_behind(server: Server, like: str) -> Path:
    """What a crash could leave: a container, and a folder, which is answered."""
    installation = inspect(like, '{{index .Config.Labels "sagewright.installation"}}')
    labels = [f"--label=sagewright.installation={installation}", f"--label=sagewright.workload={ORPHAN}"]
    run = ["docker", "run", "-d", "--name", ORPHAN, *labels, BUSYBOX, "sleep", "300"]
    subprocess.run(run, check=True, capture_output=True)
    folder = server.data / "workloads" / ORPHAN / "ml"
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(b"x" * 100_000)
    return folder.parent


def found(server: Server, *options: str) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for each in json.loads(server.run("prune", "--json", "--dry-run", *options).stdout):
        kinds.setdefault(each["what"], set()).add(each["name"])
    kinds.pop("layer trials", None)  # of servers that other tests killed
    return kinds


def test_prune_removes_what_is_left_over_and_nothing_else(jobs: Jobs) -> None:
    server = jobs.server
    ended = jobs.create("ok")
    jobs.end(ended)
    runs = jobs.create("sleep", HyperParameters={"behaviour": "sleep", "seconds": "600"})
    wait_for(lambda: "ready" in server.run("logs", runs).stdout, "it runs")
    listed = ["docker", "ps", "-q", "--filter", f"name=training-job-{runs}-"]
    container = subprocess.run(listed, capture_output=True, text=True).stdout.strip()
    assert found(server) == {}, "a server that works leaves nothing behind"
    folder = leave_behind(server, container)
    try:
        assert found(server) == {"containers": {ORPHAN}, "folders": {ORPHAN}}
        logs = found(server, "--logs-days", "0")["log streams"]
        assert {name.partition("/")[0] for name in logs} == {ended}, "what still prints keeps its log"
        shown = server.run("prune", "--dry-run")
        assert "KiB" in shown.stdout
        refused = server.run("prune")
        assert "--yes" in refused.stderr
        assert folder.exists()
        done = server.run("prune", "--yes", "--logs-days", "0")
        assert "free again" in done.stdout
        assert not folder.exists()
        assert inspect(ORPHAN, "{{.Id}}") == ""
        assert found(server, "--logs-days", "0") == {}
    finally:
        subprocess.run(["docker", "rm", "-f", ORPHAN], capture_output=True)
    assert inspect(container, "{{.State.Running}}") == "true"
    jobs.sagemaker.stop_training_job(TrainingJobName=runs)
    assert jobs.end(runs)["TrainingJobStatus"] == "Stopped"


def test_content_that_no_row_names_is_found_once_it_is_old(jobs: Jobs) -> None:
    server = jobs.server
    jobs.s3.put_object(Bucket="job-tests", Key="kept", Body=b"kept")
    stored = [path for path in (server.data / "blobs").rglob("*") if path.is_file()]
    orphan = stored[0].parents[1] / "ff" / ("f" * len(stored[0].name))
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"y" * 5000)
    assert found(server) == {}, "an upload may still be under way"
    for path in (*stored, orphan):
        os.utime(path, (OLD, OLD))
    assert found(server) == {"object content": {orphan.name}}
    server.run("prune", "--yes")
    assert not orphan.exists()
    assert jobs.s3.get_object(Bucket="job-tests", Key="kept")["Body"].read() == b"kept"


def test_a_data_directory_is_pruned_without_a_server_too(jobs: Jobs) -> None:
    server = jobs.server
    server.stop()
    model = server.data / "models" / ("0" * 32)
    model.mkdir(parents=True)
    (model / "weights").write_bytes(b"z" * 5000)
    old, young = (server.data / "environments" / (digit * 32) for digit in "01")
    for environment in (old, young):
        (environment / "lib").mkdir(parents=True)
    os.utime(old, (OLD, OLD))
    assert found(server) == {"models": {model.name}, "environments": {old.name}}
    server.run("prune", "--yes")
    assert not model.exists()
    assert not old.exists()
    assert young.exists(), "a job may begin in it"


def test_the_server_itself_removes_folders_that_were_left_long_ago(own_server: Server) -> None:
    own_server.start()
    own_server.stop()
    old, young = (own_server.data / "workloads" / f"training-job-{name}-1-algo-1-0badcafe" for name in ("old", "new"))
    for folder in (old, young):
        (folder / "ml").mkdir(parents=True)
    os.utime(old, (OLD, OLD))
    own_server.start()
    wait_for(lambda: not old.exists(), "the sweep at the start")
    assert young.exists(), "it may belong to a row that is just being written"
    assert "belonged to no resource" in own_server.log()
