"""A real server on a real port, started as a user does it: by `sagewright up`, in a data directory of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config

COMMAND = [sys.executable, "-m", "sagewright"]
_CLEAN = {"AWS_", "SAGEMAKER_", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy"}


def plain_environment() -> dict[str, str]:
    """Ours, without anything that points AWS clients somewhere (but with the machine's certificate bundle)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(tuple(_CLEAN))}
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        kept["AWS_CA_BUNDLE"] = bundle
    return kept


@dataclass
class Server:
    """One running server and what a user would know of it."""

    data: Path
    url: str = ""

    def start(self, *options: str) -> None:
        self.run("up", "--detach", *(options or ("--port", "0")))
        self.url = self.status()["url"]

    def run(self, *arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """`sagewright ARGUMENTS --data DIR`."""
        command = [*COMMAND, *arguments, "--data", str(self.data)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, env=plain_environment(), check=False
        )
        if check and done.returncode:
            log = (self.data / "server.log").read_text(errors="replace")[-3000:] if self.data.exists() else ""
            raise AssertionError(f"{shlex.join(command)} → {done.returncode}\n{done.stdout}{done.stderr}\n{log}")
        return done

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.run("status", "--json", check=False).stdout))

    def env(self, *options: str) -> dict[str, str]:
        """What `eval "$(sagewright env)"` would set."""
        lines = self.run("env", *options).stdout.splitlines()
        pairs = (line.removeprefix("export ").partition("=") for line in lines)
        return {name: shlex.split(value)[0] if value else "" for name, _, value in pairs}

    def client(self, service: str, **config: Any) -> Any:
        """A botocore client with the server's own keys."""
        env = self.env("--no-proxy")
        return botocore.session.Session().create_client(
            service,
            region_name=env["AWS_REGION"],
            endpoint_url=self.url,
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=env["AWS_SESSION_TOKEN"],
            config=Config(proxies={}, retries={"total_max_attempts": 1}, **config),
        )

    def kill_everything(self) -> None:
        """SIGKILL for every process of the server, as a power cut would have it."""
        for pid in self.status()["pids"]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_for(lambda: not self.status()["running"], "the server's processes are gone")

    def stop(self) -> None:
        self.run("down", check=False)

    def log(self) -> str:
        return (self.data / "server.log").read_text(errors="replace")


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60, pause: float = 0.05) -> Any:
    """The first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := condition():
            return answer
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {what}")


def wait_for_job(sagemaker: Any, name: str, seconds: float = 120) -> Mapping[str, Any]:
    """The description of a job that has ended."""
    ended = {"Completed", "Failed", "Stopped"}

    def look() -> Mapping[str, Any] | None:
        described: Mapping[str, Any] = sagemaker.describe_training_job(TrainingJobName=name)
        return described if described["TrainingJobStatus"] in ended else None

    found: Mapping[str, Any] = wait_for(look, f"{name} has ended", seconds)
    return found
