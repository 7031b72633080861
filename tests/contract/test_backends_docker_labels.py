"""What an image's labels and a pinned digest change, on a real engine."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Observation
from sagewright.workloads.workload import ImageRef, Workload
from suites.backend_bench import exited
from suites.backend_log_suite import lines_of
from support.docker_bench import DockerBench
from support.images import engine, need

pytestmark = pytest.mark.docker

SERVE = "sagewright.serve-argument"
BIND = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[DockerBench]:
    need()
    bench = DockerBench(tmp_path)
    yield bench
    await bench.aclose()


def work(image: ImageRef, **more: object) -> Workload:
    made = Workload(WorkloadId(f"t-{secrets.token_hex(4)}"), image, None, ("serve",), stop_grace=timedelta(seconds=1))
    return replace(made, **more)


async def run(bench: DockerBench, work: Workload) -> tuple[Observation, list[str]]:
    backend = await bench.connect()
    await backend.submit(work)
    seen = await exited(backend, work.id)
    return seen, [line.decode() for line in await lines_of(backend, work.id)]


@pytest.mark.parametrize(
    ("labels", "asked", "printed"),
    [
        ({SERVE: "deploy --fast"}, SERVE, "deploy --fast"),
        ({SERVE: ""}, SERVE, "serve"),
        ({}, SERVE, "serve"),
        ({SERVE: "deploy"}, "", "serve"),
    ],
)
async def test_the_words_of_the_label_stand_in_for_the_arguments(
    bench: DockerBench, labels: dict[str, str], asked: str, printed: str
) -> None:
    image = bench.make_image({"Entrypoint": ["echo"], "Labels": labels})
    _, lines = await run(bench, work(image, arguments_label=asked))
    assert lines == [printed]


async def test_an_image_without_a_label_that_is_needed_is_refused_in_the_words_of_aws(bench: DockerBench) -> None:
    image = bench.make_image({"Entrypoint": ["echo"]})
    seen, lines = await run(bench, work(image, required_labels={BIND: "true"}))
    assert (seen.cause, lines) == (ExitCause.IMAGE, [])
    assert f"Your Ecr Image {image.name} does not contain required {BIND}=true Docker label(s)." in seen.message
    with_label = bench.make_image({"Entrypoint": ["echo"], "Labels": {BIND: "true"}})
    seen, lines = await run(bench, work(with_label, required_labels={BIND: "true"}))
    assert (seen.exit_code, lines) == (0, ["serve"])


async def test_a_pinned_image_is_what_its_name_once_meant(bench: DockerBench) -> None:
    image = bench.make_image({"Entrypoint": ["echo", "old"]})
    seen, _ = await run(bench, work(image))
    assert seen.image_digest
    repository, tag = image.name.split(":")
    moved = bench.make_image({"Entrypoint": ["echo", "new"]})
    engine("POST", f"/images/{image.name}/tag?repo={repository}&tag={tag}-kept")  # else it goes with its last name
    bench.made_images.append(f"{repository}:{tag}-kept")
    engine("POST", f"/images/{moved.name}/tag?repo={repository}&tag={tag}")
    _, lines = await run(bench, work(image))
    assert lines == ["new serve"]
    again, lines = await run(bench, work(replace(image, digest=seen.image_digest)))
    assert lines == ["old serve"]
    assert again.image_digest == seen.image_digest
