"""docker push and pull of a 500 MB image: at least 0.9 of the speed of Debian's docker-registry 2.8, one run, in turn.

Needs the engine, the test images and `apt-get install docker-registry`.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import finish, server, spread, verdict

from support.registry import make_repository, password

ROUNDS = 3
SIZE = 500 * 1000 * 1000  # bytes that do not compress
BASE = "sagewright-test/busybox:1"
_CONFIG = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {root}}}}}
http: {{addr: 127.0.0.1:{port}}}
log: {{accesslog: {{disabled: true}}, level: error}}
"""


def main() -> None:
    if not shutil.which("docker-registry"):
        sys.exit("bench_registry: the peer is missing: apt-get install docker-registry")
    with tempfile.TemporaryDirectory(prefix="bench-registry-") as scratch, server() as running:
        folder = Path(scratch)
        with peer(folder / "peer") as theirs:
            docker = Docker(folder / "config")
            ours = running.url.removeprefix("http://")
            docker.run("login", "-u", "AWS", "--password-stdin", ours, given=password(running.data))
            pushes: list[tuple[float, float]] = []
            pulls: list[tuple[float, float]] = []
            for number in range(ROUNDS):
                make_repository(running.data, f"bench{number}")
                tags = [f"{address}/bench{number}:1" for address in (ours, theirs)]
                # Each registry gets layers of its own: docker leaves out what it knows to be there.
                images = [docker.build(folder / f"context-{number}-{place}", tag) for place, tag in enumerate(tags)]
                try:
                    pushes.append((docker.timed("push", tags[0]), docker.timed("push", tags[1])))
                    for tag in tags:
                        docker.run("rmi", tag)
                    pulls.append((docker.timed("pull", tags[0]), docker.timed("pull", tags[1])))
                finally:
                    for image in (*tags, *images):
                        docker.run("rmi", image, check=False)
    print(f"push: {spread([pair[0] for pair in pushes], 1)} s here, {spread([pair[1] for pair in pushes], 1)} s peer")
    print(f"pull: {spread([pair[0] for pair in pulls], 1)} s here, {spread([pair[1] for pair in pulls], 1)} s peer")
    finish(
        verdict("push speed against docker-registry", ratio(pushes), 0.9, at_most=False, unit="x"),
        verdict("pull speed against docker-registry", ratio(pulls), 0.9, at_most=False, unit="x"),
    )


def ratio(pairs: list[tuple[float, float]]) -> float:
    return statistics.median(theirs / ours for ours, theirs in pairs)


class Docker:
    def __init__(self, config: Path) -> None:
        self.config = config

    def run(self, *arguments: str, given: str = "", check: bool = True) -> str:
        done = subprocess.run(
            ["docker", "--config", str(self.config), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            sys.exit(f"docker {' '.join(arguments)} failed: {done.stdout}{done.stderr}")
        return done.stdout

    def timed(self, *arguments: str) -> float:
        """Seconds."""
        os.sync()
        started = time.perf_counter()
        self.run(*arguments)
        return time.perf_counter() - started

    def build(self, context: Path, tag: str) -> str:
        """The image's id."""
        context.mkdir()
        with (context / "data").open("wb") as file:
            for _ in range(SIZE // 1_000_000):
                file.write(os.urandom(1_000_000))
        (context / "Dockerfile").write_text(f"FROM {BASE}\nCOPY data /data\n")
        built = self.run("build", "-q", "-t", tag, str(context)).strip()
        shutil.rmtree(context)
        return built


@contextmanager
def peer(folder: Path) -> Iterator[str]:
    """docker-registry on a free port of loopback, without a login."""
    folder.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(root=folder / "data", port=port))
    with subprocess.Popen(
        ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            for _ in range(100):
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.1)
            yield f"127.0.0.1:{port}"
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
