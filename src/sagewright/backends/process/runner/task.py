"""What the runner is told: the content of `workload.json`, as `backends.process.spec` writes it."""

from __future__ import annotations

import json


class CannotRun(Exception):
    """The workload can never run; the message is for the user. `cause` is a value of `ExitCause`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Task:
    """Fields are documented where they are built (`spec.to_record`)."""

    def __init__(self, text: str) -> None:
        raw = json.loads(text)
        self.id: str = raw["id"]
        self.image: str = raw["image"]
        self.folder: str = raw["folder"]
        self.argv: list[str] = raw["argv"]
        self.env: dict[str, str] = raw["env"]
        self.mounts: list[tuple[str, str, bool, str]] = [
            (source, target, read_only, changes) for source, target, read_only, changes in raw["mounts"]
        ]
        self.memory: int | None = raw["memory"]
        self.cpus: float | None = raw["cpus"]
        self.shared_memory: int | None = raw["shared_memory"]
        self.hostname: str = raw["hostname"]
        self.isolated: bool = raw["network_isolation"]
        self.ports: list[int] = raw["ports"]
        self.bridge: str = raw["bridge"]
        self.peers: dict[str, str] = raw.get("peers", {})
        self.stop_grace: float = raw["stop_grace"]
        self.namespaces: bool = raw["namespaces"]
        self.user_namespace: bool = raw["user_namespace"]
        self.keep: list[str] = raw["keep"]
        self.environments: str = raw["environments"]
        self.environment: str = raw["environment"]
        self.requirements: str = raw["requirements"]
        self.uv: str = raw["uv"]
        self.python: str = raw["python"]

    @property
    def environment_path(self) -> str:
        return f"{self.environments}/{self.environment}"


def load(path: str) -> Task:
    with open(path, encoding="utf-8") as file:
        return Task(file.read())
