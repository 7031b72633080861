"""What the measurements share: a server of their own, paired timings, one way to print a verdict."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.server import Server


@contextmanager
def server(*options: str) -> Iterator[Server]:
    """A running server on a free port, with a data directory that goes with it; `options` of `sagewright up`."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        made = Server(Path(folder) / "data")
        made.start("--port", "0", *options)
        try:
            yield made
        finally:
            made.stop()


def paired(first: Callable[[], float], second: Callable[[], float], rounds: int) -> tuple[list[float], list[float]]:
    """A B A B ..., so that a machine that slows down slows both."""
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(first())
        theirs.append(second())
    return ours, theirs


def verdict(claim: str, value: float, limit: float, *, at_most: bool = True, unit: str = "") -> bool:
    """One line per claim; whether it holds."""
    holds = value <= limit if at_most else value >= limit
    sign = "<=" if at_most else ">="
    print(f"{'PASS' if holds else 'MISS'}  {claim}: {value:.3g}{unit} (must be {sign} {limit:g}{unit})")
    return holds


def spread(values: Sequence[float], scale: float = 1000.0) -> str:
    """Minimum, median, maximum; milliseconds unless told."""
    return " / ".join(f"{value * scale:.1f}" for value in (min(values), statistics.median(values), max(values)))


def finish(*holds: bool) -> None:
    sys.exit(0 if all(holds) else 1)


def client_python(name: str, *packages: str) -> Path:
    """A virtual environment for a peer, made once in the test cache."""
    cache = Path(os.environ.get("SAGEWRIGHT_TEST_CACHE", Path.home() / ".cache" / "sagewright-tests"))
    python = cache / f"bench-{name}" / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, python.parents[1]], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--native-tls", "--python", python, *packages], check=True)
    return python
