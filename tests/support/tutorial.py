"""The tutorial of `examples/tutorial`, executed headless against a server: what its test and `make tutorial` share.

    python -m support.tutorial [sdk2] [sdk172]     from `tests`, or by scripts/tutorial

Owns: the folder it runs in, its environment, its processes, what is left in the engine afterwards.
Does not own: the cells (`run_notebook`), the machine's preparation (scripts/engine, images, sdk-venvs).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.server import Server, plain_environment

EXAMPLE = Path(__file__).parents[2] / "examples" / "tutorial"
PINS = Path(__file__).parents[1] / "requirements" / "image-tutorial.txt"
CACHE = Path(os.environ.get("SAGEWRIGHT_TEST_CACHE", Path.home() / ".cache" / "sagewright-tests"))
BASE = "sagewright-test/sklearn:1"
SDKS = ("sdk2", "sdk172")
REPOSITORY = "sagewright-test/tutorial"
BUILD_OPTIONS = f"--build-arg BASE={BASE} --build-arg PIP_OPTIONS=--no-index"


class Missing(Exception):
    """This machine lacks something; the message names the script that makes it."""


def wheels() -> Path:
    """Where `scripts/images tutorial` puts them: a folder per content of the pins. Raises Missing."""
    pins = "".join(f"{line}\n" for line in PINS.read_text().splitlines() if not line.startswith("#"))
    folder = CACHE / f"wheels-tutorial-{hashlib.sha256(pins.encode()).hexdigest()[:16]}"
    if not (folder / ".complete").exists():
        raise Missing(f"no {folder} (scripts/images tutorial)")
    return folder


def python_of(name: str) -> Path:
    python = CACHE / f"venv-{name}" / "bin" / "python"
    if not python.exists():
        raise Missing(f"no {python} (scripts/sdk-venvs {name})")
    return python


def has_base() -> bool:
    """Raises Missing."""
    if not shutil.which("docker") or subprocess.run(["docker", "version"], capture_output=True).returncode:
        raise Missing("no Docker engine answers (scripts/engine)")
    return not subprocess.run(["docker", "image", "inspect", BASE], capture_output=True).returncode


def project(folder: Path, *, online: bool) -> Path:
    """A copy of the example; unless `online`, with wheels in it as for a machine without a network. Raises Missing."""
    shutil.copytree(EXAMPLE, folder)
    if not online:
        if not has_base():
            raise Missing(f"no {BASE} (scripts/images)")
        shutil.copytree(wheels(), folder / "wheels", copy_function=_link)
    return folder


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)


def shell(server: Server, folder: Path, *, online: bool) -> dict[str, str]:
    """The shell that starts Jupyter: `eval "$(sagewright env)"`, docker and aws at hand, a login file of its own."""
    return {
        **plain_environment(),
        **server.env(),
        "PATH": f"{python_of('awscli').parent}:{os.environ['PATH']}",
        "DOCKER_CONFIG": str(folder / "docker"),
        "DOCKER_BUILDKIT": "0",
        "BUILD_OPTIONS": "" if online else BUILD_OPTIONS,
        "SAGEMAKER_SUPPRESS_V2_WARNING": "1",
    }


@dataclass
class Run:
    """One execution of the notebook, under way."""

    sdk: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def result(self) -> Path:
        """The notebook with its outputs."""
        return self.folder / "result.ipynb"

    @property
    def transcript(self) -> str:
        return (self.folder / "transcript.txt").read_text(errors="replace")

    def wait(self, seconds: float = 540) -> int:
        return self.process.wait(seconds)


def start(sdk: str, server: Server, folder: Path, *, shown: bool = False, online: bool = False) -> Run:
    """Raises Missing. `shown`: what it prints goes to this terminal, and not to `transcript`. `online`: the image comes
    from Docker Hub and PyPI."""
    folder.mkdir()
    interpreter, kernel = python_of("notebook"), python_of(sdk)
    source = project(folder / "project", online=online) / "tutorial.ipynb"
    env = {**shell(server, folder, online=online), "REPOSITORY": REPOSITORY}
    words = [interpreter, Path(__file__).with_name("run_notebook.py"), source, folder / "result.ipynb", kernel]
    with (folder / "transcript.txt").open("wb") as file:
        output = None if shown else file
        process = subprocess.Popen([str(word) for word in words], stdout=output, stderr=output, env=env)
    return Run(sdk, folder, process)


def start_all(
    sdks: Sequence[str], server: Server, folder: Path, *, shown: str = "", online: bool = False
) -> Iterator[Run]:
    """Each begins when the one before has pushed the image, so that it is built and sent only once. From there on they
    run at the same time: most of it is the SDK's sleep between two questions. Raises Missing."""
    for sdk in sdks:
        run = start(sdk, server, folder / sdk, shown=sdk == shown, online=online)
        yield run
        while run.process.poll() is None and not _is_pushed(server):
            time.sleep(0.5)


def _is_pushed(server: Server) -> bool:
    ecr = server.client("ecr")
    try:
        return bool(ecr.describe_images(repositoryName=REPOSITORY)["imageDetails"])
    except ecr.exceptions.RepositoryNotFoundException:
        return False


def clean(server: Server) -> None:
    """The names of this server's registry go from the engine. The images keep their plain name, for the next build."""
    host = server.url.removeprefix("http://")
    names = subprocess.run(
        ["docker", "images", "--format", "{{.Repository}}:{{.Tag}}"], capture_output=True, text=True, check=True
    ).stdout.split()
    if ours := [name for name in names if name.startswith(f"{host}/")]:
        subprocess.run(["docker", "rmi", *ours], capture_output=True)


def main(sdks: list[str]) -> int:
    """The first is shown while it runs, the others after it."""
    try:
        online = not has_base()
    except Missing as missing:
        print(f"tutorial: SKIP: {missing}")
        return 0
    if online:
        print("tutorial: this machine did not make the tests' base image, so python:3.11-slim and PyPI are used")
    with tempfile.TemporaryDirectory(prefix="sagewright-tutorial-") as name:
        folder = Path(name)
        server = Server(folder / "data")
        server.start()
        try:
            runs = list(start_all(sdks, server, folder, shown=sdks[0], online=online))
            failed = 0
            for run in runs:
                failed |= run.wait()
                if run is not runs[0]:
                    print(f"\ntutorial: the same with {run.sdk}\n{run.transcript}")
        except Missing as missing:
            print(f"tutorial: SKIP: {missing}")
            return 0
        finally:
            server.stop()
            clean(server)
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(SDKS)))
