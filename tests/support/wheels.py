"""Wheels for test images: fetched on the host, because a build has no way to a package index, and kept."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REQUIREMENTS = Path(__file__).parent.parent / "requirements"


def wheels(name: str) -> Path:
    """A folder with the wheels of `tests/requirements/NAME.txt`, all of them built; or a skip that says why not."""
    requirements = REQUIREMENTS / f"{name}.txt"
    cache = Path(os.environ.get("SAGEWRIGHT_TEST_CACHE", Path.home() / ".cache" / "sagewright-tests"))
    folder = cache / f"wheels-{name}-{hashlib.sha256(requirements.read_bytes()).hexdigest()[:16]}"
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / f"wheels-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            partial = folder.with_name(f"{folder.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            command = [
                sys.executable,
                "-m",
                "pip",
                "wheel",
                "-q",
                "--no-deps",
                "-w",
                str(partial),
                "-r",
                str(requirements),
            ]
            done = subprocess.run(command, capture_output=True, text=True, timeout=250)
            if done.returncode:
                pytest.skip(f"pip could not get the wheels of {requirements.name} (offline?): {done.stderr[-300:]}")
            partial.rename(folder)
    return folder


def image_with(tag: str, base: str, name: str, *steps: str) -> str:
    """An image of `base` with those wheels in /wheels while the Dockerfile's `steps` run."""
    if subprocess.run(["docker", "image", "inspect", base], capture_output=True).returncode:
        pytest.skip(f"no Docker engine with {base} (scripts/engine, scripts/images)")
    folder = wheels(name)
    digest = hashlib.sha256("\n".join((base, folder.name, *steps)).encode()).hexdigest()[:12]
    image = f"{tag}:{digest}"
    if subprocess.run(["docker", "image", "inspect", image], capture_output=True).returncode == 0:
        return image
    lines = [f"FROM {base}", "COPY . /wheels", *steps]
    dockerfile = "\n".join(lines) + "\n"
    built = subprocess.run(
        ["docker", "build", "-q", "-t", image, "-f", "-", str(folder)],
        input=dockerfile,
        capture_output=True,
        text=True,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return image
