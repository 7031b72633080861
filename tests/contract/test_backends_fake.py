"""The fake passes the contract that the real backends pass."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from suites.backend_suite import BackendSuite
from support.fake_bench import FakeBench


class TestFakeBackend(BackendSuite):
    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[FakeBench]:
        bench = FakeBench(tmp_path)
        yield bench
        await bench.aclose()
