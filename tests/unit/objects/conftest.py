"""One S3 over a real database and real files, without HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.s3_calls import S3, open_s3


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[S3]:
    made = open_s3(tmp_path)
    yield made
    made.store.close()
