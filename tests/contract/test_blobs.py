"""Every blob store against its contract: tests/suites/blob_suite.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from sagewright.blobs.base import BlobStore
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.memory import MemoryBlobs
from suites.blob_suite import BlobSuite


class TestFiles(BlobSuite):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> BlobStore:
        return FileBlobs(tmp_path / "blobs")


class TestMemory(BlobSuite):
    @pytest.fixture
    def blobs(self) -> BlobStore:
        return MemoryBlobs()
