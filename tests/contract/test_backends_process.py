"""The process backend passes the contract that every backend passes, with real processes in real namespaces."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from suites.backend_layer_suite import BackendLayerSuite
from suites.backend_suite import BackendSuite
from support.process_bench import ProcessBench

pytestmark = pytest.mark.process


class TestProcessBackend(BackendSuite, BackendLayerSuite):
    @pytest.fixture
    async def bench(self, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ProcessBench]:
        bench = ProcessBench(tmp_path, tmp_path_factory.getbasetemp() / "environments")
        yield bench
        await bench.aclose()
