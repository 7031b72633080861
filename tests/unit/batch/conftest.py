"""A data directory with a bucket, for runs of a driver."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.transform_runs import Runs


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    made = Runs(tmp_path / "data")
    yield made
    made.store.close()
