"""The demo example does what its README says: trained, stopped, failed and served, as a folder image, for real."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sagewright.backends.process.backend import ProcessBackend
from sagewright.workloads.folder_images import add_folder_image
from sagewright.workloads.observation import Observation
from sagewright.workloads.workload import ImageRef, Resources, Workload
from suites.backend_bench import exited, until
from suites.backend_log_suite import lines_of
from support.process_bench import ProcessBench

DIGITS = Path(__file__).parents[3] / "examples" / "digits"

pytestmark = pytest.mark.process


@pytest.fixture
async def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
    bench = ProcessBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
    # The user's own download cache, so that not every run of the tests fetches scikit-learn.
    bench.environ = {"UV_CACHE_DIR": str(Path.home() / ".cache" / "uv"), **os.environ}
    for folder in ("input/config", "input/data", "model", "output/data"):
        (bench.shared / folder).mkdir(parents=True)
    yield bench
    await bench.aclose()


def digits(bench: ProcessBench, *arguments: str, env: Mapping[str, str] | None = None) -> Workload:
    requirements = (DIGITS / "requirements.txt").read_text()
    image = add_folder_image(bench.folder / "images", DIGITS, "digits", ("./program",), requirements)
    work = bench.workload(image=ImageRef("digits", image), entrypoint=None, arguments=arguments, resources=Resources())
    return replace(work, env=dict(env or {}), stop_grace=timedelta(seconds=60))


def ask_for(bench: ProcessBench, **hyperparameters: str) -> None:
    values = {name.replace("_", "-"): value for name, value in hyperparameters.items()}
    (bench.shared / "input" / "config" / "hyperparameters.json").write_text(json.dumps(values))


def give(bench: ProcessBench, content: str) -> None:
    channel = bench.shared / "input" / "data" / "training"
    channel.mkdir()
    (channel / "train.csv").write_text(content)


async def run(backend: ProcessBackend, work: Workload) -> tuple[Observation, list[str]]:
    await backend.submit(work)
    lines = [line.decode() for line in await _patiently(backend, work)]
    return await exited(backend, work.id), lines


async def _patiently(backend: ProcessBackend, work: Workload) -> list[bytes]:
    """The first one builds the environment, which takes longer than the suite's patience on a slow line."""
    return [line.message async for line in backend.logs(work.id)]


def test_the_docker_image_has_the_same_files_and_an_exec_entrypoint() -> None:
    text = (DIGITS / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (.+) \./$", text, re.MULTILINE)
    names = {name for line in copied for name in line.split()}
    assert names == {"requirements.txt", "program", "digits.py", "train.py", "serve.py"}
    assert all((DIGITS / name).is_file() for name in names)
    assert 'ENTRYPOINT ["/opt/program/program"]' in text
    assert os.access(DIGITS / "program", os.X_OK)


async def test_it_trains_on_the_bundled_digits_and_serves_the_model(bench: ProcessBench) -> None:
    ask_for(bench, epochs="6", learning_rate="0.005", sagemaker_region="us-east-1")
    backend = await bench.connect()
    seen, lines = await run(backend, digits(bench, "train"))
    assert seen.exit_code == 0, lines
    epochs = [re.search(r"epoch=(\d+) train_loss=([0-9.]+) validation_accuracy=([0-9.]+)", line) for line in lines]
    found = [match for match in epochs if match]
    assert [match[1] for match in found] == ["1", "2", "3", "4", "5", "6"]
    metrics = json.loads((bench.shared / "output" / "data" / "metrics.json").read_text())
    assert metrics["final"]["validation_accuracy"] > 0.85
    assert float(found[-1][3]) == pytest.approx(metrics["final"]["validation_accuracy"], abs=1e-4)
    assert (bench.shared / "model" / "model.joblib").stat().st_size > 0
    assert not (bench.shared / "output" / "failure").exists()
    await _serves(bench, backend)


async def _serves(bench: ProcessBench, backend: ProcessBackend) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    work = digits(bench, "serve", env={"SAGEMAKER_BIND_TO_PORT": str(port)})
    await backend.submit(work)

    async def answers() -> bool:
        try:
            return _ask(port, "GET", "/ping")[0] == 200
        except ConnectionError:
            return False

    await until(answers, "the model to answer pings")
    zero = "0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0"
    zero += ",0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0"
    kind = {"Content-Type": "text/csv; charset=utf-8"}
    assert _ask(port, "POST", "/invocations", f"{zero}\n{zero}", kind) == (200, "0\n0\n", "text/csv; charset=utf-8")
    assert _ask(port, "POST", "/invocations", "{}", {"Content-Type": "application/json"})[0] == 415
    assert _ask(port, "POST", "/invocations", "1,2\n", kind)[0] == 400
    assert _ask(port, "POST", "/invocations", "", kind)[0] == 400
    assert _ask(port, "POST", "/invocations", b"\xff\xfe", kind)[0] == 400
    assert _ask(port, "POST", "/elsewhere", zero, kind)[0] == 404
    assert _ask(port, "GET", "/")[0] == 404
    await backend.stop(work.id)
    assert (await exited(backend, work.id)).exit_code == 0


def _ask(
    port: int, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers["Content-Type"]
    finally:
        connection.close()


async def test_it_trains_on_the_file_that_make_data_writes(bench: ProcessBench) -> None:
    backend = await bench.connect()
    channel = bench.shared / "input" / "data" / "training"
    channel.mkdir()
    make = replace(digits(bench), entrypoint=("python", "make_data.py", "/opt/ml/input/data/training/train.csv"))
    assert (await run(backend, make))[0].exit_code == 0
    assert len((channel / "train.csv").read_text().splitlines()) == 1797
    ask_for(bench, epochs="1")
    seen, lines = await run(backend, digits(bench, "train"))
    assert (seen.exit_code, "training on 1437 images, validating on 360" in lines) == (0, True)


async def test_a_stopped_training_keeps_what_it_has_and_ends_well(bench: ProcessBench) -> None:
    ask_for(bench, epochs="1000000")
    backend = await bench.connect()
    work = digits(bench, "train")
    await backend.submit(work)
    reading = backend.logs(work.id)
    async for line in reading:
        if line.message.startswith(b"epoch=2 "):
            break
    await backend.stop(work.id)
    rest = [line.message async for line in reading]
    assert (await exited(backend, work.id)).exit_code == 0
    assert b"asked to stop: saving what there is" in rest
    assert (bench.shared / "model" / "model.joblib").exists()
    assert len(json.loads((bench.shared / "output" / "data" / "metrics.json").read_text())["epochs"]) >= 2


@pytest.mark.parametrize(
    ("hyperparameters", "content", "words"),
    [
        ({"epochs": "many"}, None, ("epochs", "many")),
        ({}, "1,2,3\n", ("train.csv", "line 1", "3 columns, not 65")),
        ({}, "x" + ",0" * 64 + "\n", ("train.csv", "line 1", "not a number")),
    ],
)
async def test_a_failure_is_written_down_for_failure_reason(
    bench: ProcessBench, hyperparameters: dict[str, str], content: str | None, words: tuple[str, ...]
) -> None:
    ask_for(bench, **hyperparameters)
    if content is not None:
        give(bench, content)
    backend = await bench.connect()
    seen, _ = await run(backend, digits(bench, "train"))
    assert seen.exit_code == 1
    told = (bench.shared / "output" / "failure").read_text()
    for word in words:
        assert word in told
    assert not (bench.shared / "model" / "model.joblib").exists()


async def test_another_word_than_train_or_serve_says_how_it_is_used(bench: ProcessBench) -> None:
    backend = await bench.connect()
    seen, lines = await run(backend, digits(bench, "deploy"))
    assert (seen.exit_code, lines) == (1, ["usage: program train|serve (got 'deploy')"])
    assert (await lines_of(backend, seen.id)) == [lines[0].encode()]
