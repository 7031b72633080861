"""The Docker backend passes the contract, on a real engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from suites.backend_layer_suite import BackendLayerSuite
from suites.backend_suite import BackendSuite
from support.docker_bench import DockerBench
from support.images import need


@pytest.mark.docker
class TestDockerBackend(BackendSuite, BackendLayerSuite):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[DockerBench]:
        need()
        bench = DockerBench(tmp_path)
        yield bench
        await bench.aclose()
