"""Record folders: the backend's only truth. One per workload, `<root>/<workload id>/`.

    workload.json     what to run; complete before anything starts, never changed
    runner            the runner's identity (pid, start time, boot)
    progress          one line while preparing
    pid               the program's identity, written before it may run; `started_at` once it does
    log               stdout and stderr, written by the program itself
    build.log         output of an environment build
    runner.log        what the runner had to say; normally empty
    address           host:port where it is reached, when it has a network of its own (port 0: it serves none)
    hosts             its /etc/hosts; the other hosts of its job write themselves into it
    cgroups           folders to remove when the runner could not
    stop, kill        requests to the runner
    exit.json         how it ended
    program, home, environment, rootfs ...   what the program sees and writes

                exit.json ──────────────────────────────────────▶ EXITED, as written
                program alive, or its runner still about it ────▶ RUNNING
                runner alive ───────────────────────────────────▶ PREPARING
                none of these ──────────────────────────────────▶ EXITED, lost

Folders whose names begin with a dot are not workloads: `.new` (not yet published), `.trash`, `.runner` (its source).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from sagewright.backends.process.runner import network
from sagewright.backends.process.runner.processes import Identity, alive, boot_id
from sagewright.core.ids import WorkloadId
from sagewright.workloads.observation import ExitCause, Observation, Phase

Facts: TypeAlias = dict[str, object]


@dataclass(frozen=True, slots=True)
class Record:
    """One record folder that belongs to this installation."""

    folder: Path
    workload: Facts

    def file(self, name: str) -> Path:
        return self.folder / name

    @property
    def id(self) -> WorkloadId:
        return WorkloadId(self.folder.name)

    @property
    def stop_grace(self) -> float:
        grace = self.workload.get("stop_grace")
        return float(grace) if isinstance(grace, int | float) else 0.0

    def runner(self) -> Identity | None:
        return _identity(_read(self.file("runner")))

    def program(self) -> Identity | None:
        facts = _read(self.file("pid"))
        return _identity(facts.get("identity")) if isinstance(facts, dict) else None

    def ended(self) -> bool:
        return self.file("exit.json").exists()

    def cgroups(self) -> list[str]:
        folders = _read(self.file("cgroups"))
        return [str(folder) for folder in folders] if isinstance(folders, list) else []

    def leave_network(self) -> None:
        """Free its address now; the kernel would do so some time after its last process."""
        address, bridge = self._address(), self.workload.get("bridge")
        if address and isinstance(bridge, str) and bridge:
            network.move_out(bridge, address.rpartition(":")[0], self.id)

    def observe(self) -> Observation:
        return self._exited() or self._alive() or self._exited() or self._lost()

    def _exited(self) -> Observation | None:
        facts = _read(self.file("exit.json"))
        if not isinstance(facts, dict):
            return None
        code = facts.get("exit_code")
        return Observation(
            id=self.id,
            phase=Phase.EXITED,
            started_at=_moment(facts.get("started_at")),
            ended_at=_moment(facts.get("ended_at")),
            exit_code=code if isinstance(code, int) else None,
            cause=ExitCause(str(facts.get("cause"))),
            message=str(facts.get("message", "")),
            image_digest=self._digest(),
        )

    def _alive(self) -> Observation | None:
        runner, program = self.runner(), self.program()
        supervised = runner is not None and alive(runner)
        started = self._started_at()
        if program is not None and (started or not supervised) and (supervised or alive(program)):
            return Observation(
                id=self.id,
                phase=Phase.RUNNING,
                started_at=started or _changed(self.file("pid")),
                address=self._address() if self.workload.get("ports") else None,
                image_digest=self._digest(),
            )
        if supervised:
            message = _text(self.file("progress"))
            return Observation(id=self.id, phase=Phase.PREPARING, message=message, image_digest=self._digest())
        return None

    def _lost(self) -> Observation:
        runner, program = self.runner(), self.program()
        if runner is None or runner.boot != boot_id():
            message = "The machine restarted before it ended."
        elif program is None:
            message = "The process that prepared it was killed before its program was started."
        else:
            message = "The process that watched over it was killed, so its exit code is not known."
        return Observation(
            id=self.id,
            phase=Phase.EXITED,
            started_at=self._started_at(),
            ended_at=_changed(self.file("log")),
            cause=ExitCause.LOST,
            message=message,
            image_digest=self._digest(),
        )

    def _started_at(self) -> datetime | None:
        facts = _read(self.file("pid"))
        return _moment(facts.get("started_at")) if isinstance(facts, dict) else None

    def _digest(self) -> str | None:
        digest = self.workload.get("image_digest")
        return digest if isinstance(digest, str) else None

    def _address(self) -> str | None:
        return _text(self.file("address")) or None


class Records:
    """Finds the records of one installation under `root`. Raises OSError when the root cannot be read."""

    def __init__(self, root: Path, installation: str) -> None:
        self.root = root
        self._installation = installation

    def find(self, workload: WorkloadId) -> Record | None:
        """None when there is none, or when it is another installation's."""
        if workload.startswith(".") or "/" in workload:
            return None
        if not (self.root / workload / "workload.json").exists():
            return None
        facts = _read(self.root / workload / "workload.json")
        # A record cut short by a power failure still is one, and ours: it can only be observed as lost.
        known = facts if isinstance(facts, dict) else {"installation": self._installation}
        return Record(self.root / workload, known) if known.get("installation") == self._installation else None

    def taken(self, workload: WorkloadId) -> bool:
        return (self.root / workload).exists()

    def all(self) -> Iterator[Record]:
        for entry in sorted(self.root.iterdir()):
            if not entry.name.startswith(".") and (record := self.find(WorkloadId(entry.name))):
                yield record

    def environments(self) -> set[str]:
        """The names of the environments of all records, whoever's they are."""
        facts = (_read(entry / "workload.json") for entry in self.root.iterdir())
        return {str(each["environment"]) for each in facts if isinstance(each, dict) and "environment" in each}


def _read(path: Path) -> object:
    """Parsed JSON; None when the file is absent or, after a power failure, unreadable."""
    try:
        content: object = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return content


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


def _identity(value: object) -> Identity | None:
    match value:
        case [int(pid), int(start), str(boot)]:
            return Identity(pid, start, boot)
        case _:
            return None


def _moment(seconds: object) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if isinstance(seconds, int | float) else None


def _changed(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return None
