""".dockerignore, as docker reads it."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from sagewright.backends.docker.ignoring import Ignored


@pytest.mark.parametrize(
    ("lines", "path", "out"),
    [
        (["*.txt"], "a.txt", True),
        (["*.txt"], "deep/a.txt", False),
        (["**/*.txt"], "deep/er/a.txt", True),
        (["**/*.txt"], "a.txt", True),
        (["data"], "data/x/y.csv", True),
        (["/data/"], "data/x", True),
        (["data", "!data/keep"], "data/keep", False),
        (["*", "!src"], "src/main.py", False),
        (["*", "!src"], "other.py", True),
        (["# data", ""], "data", False),
        (["file?.[ch]"], "file1.c", True),
        (["file?.[ch]"], "file10.c", False),
        (["*"], "Dockerfile", False),
    ],
)
def test_ignored(lines: list[str], path: str, out: bool) -> None:
    assert Ignored(lines)(PurePosixPath(path)) is out
