"""What a backend must bring to be put through `backend_suite`: a substrate, and programs that behave in known ways.

A `Bench` is one substrate (an engine, a record folder, a fake) for one test. Backend objects come and go over it, which
is how a restart of ours is told. Programs are written as steps; the steps are a small language that has one
translation to `/bin/sh` here, so that a backend that runs real programs needs none of its own.
"""

from __future__ import annotations

import asyncio
import secrets
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from sagewright.core.ids import WorkloadId
from sagewright.workloads.backend import ComputeBackend
from sagewright.workloads.observation import Observation, Phase
from sagewright.workloads.workload import ImageRef, Mount, Resources, Workload

PATIENCE = 60.0  # seconds before a wait is a failure; never a measure of speed
SHARED = "/opt/ml"  # where the bench's folder is seen by programs


class Step(ABC):
    """One thing a program does. `shell` is it for any POSIX shell (busybox ash, dash, bash)."""

    @abstractmethod
    def shell(self) -> str: ...


@dataclass(frozen=True)
class Print(Step):
    """Write exactly these bytes: no line feed is added."""

    content: bytes
    stderr: bool = False

    def shell(self) -> str:
        octal = "".join(f"\\0{byte:03o}" for byte in self.content)
        return f"printf '%b' '{octal}'" + (" >&2" if self.stderr else "")


@dataclass(frozen=True)
class PrintLines(Step):
    """Write `PREFIX0`, `PREFIX1`, ... as fast as the program can."""

    count: int
    prefix: str = "line "

    def shell(self) -> str:
        return f'i=0; while [ $i -lt {self.count} ]; do echo "{self.prefix}$i"; i=$((i+1)); done'


@dataclass(frozen=True)
class PrintLong(Step):
    """Write one line of `size` times the letter x, with its line feed."""

    size: int

    def shell(self) -> str:
        return f"head -c {self.size} /dev/zero | tr '\\000' x; echo"


@dataclass(frozen=True)
class PrintEnvironment(Step):
    """Write `<VALUE>` and a line feed; nothing between the brackets when it is unset."""

    name: str

    def shell(self) -> str:
        return f'printf "<%s>\\n" "${self.name}"'


@dataclass(frozen=True)
class PrintArguments(Step):
    """Write `<ARGUMENT>` and a line feed for each of the workload's `arguments`."""

    def shell(self) -> str:
        return 'for a in "$@"; do printf "<%s>\\n" "$a"; done'


@dataclass(frozen=True)
class Mark(Step):
    """Append one line to a file of the shared folder: the test sees that, and how often, the program came here."""

    name: str

    def shell(self) -> str:
        return f"echo here >> {SHARED}/{self.name}"


@dataclass(frozen=True)
class WaitFor(Step):
    """Go on once the file is in the shared folder (see `Bench.open_gate`)."""

    name: str

    def shell(self) -> str:
        return f"while [ ! -e {SHARED}/{self.name} ]; do sleep 0.02; done"


@dataclass(frozen=True)
class IgnoreTerm(Step):
    """From here on SIGTERM has no effect."""

    def shell(self) -> str:
        return "trap '' TERM"


@dataclass(frozen=True)
class OnTerm(Step):
    """From here on SIGTERM makes the program write `say` and a line feed, and exit with `code`."""

    say: str
    code: int = 0

    def shell(self) -> str:
        return "trap " + shlex.quote(f"echo {shlex.quote(self.say)}; exit {self.code}") + " TERM"


@dataclass(frozen=True)
class Exit(Step):
    code: int = 0

    def shell(self) -> str:
        return f"exit {self.code}"


@dataclass(frozen=True)
class Allocate(Step):
    """Take memory without end."""

    def shell(self) -> str:
        return "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done"


def shell_script(steps: tuple[Step, ...]) -> str:
    return "".join(f"{step.shell()}\n" for step in steps)


@dataclass(frozen=True)
class Outage:
    """Inside `async with`, the substrate cannot be reached."""

    begin: Callable[[], Awaitable[None]]
    end: Callable[[], Awaitable[None]]

    async def __aenter__(self) -> None:
        await self.begin()

    async def __aexit__(self, *error: object) -> None:
        await self.end()


class Bench(ABC):
    """One substrate for one test. `folder` is the test's own; it is mounted at SHARED in every program."""

    limits_memory = True  # a program over its limit is killed, and the backend knows why
    mounts_read_only = True  # a read-only mount refuses writes
    keeps_start_failures = True  # a program that could not be started is still known after a restart of ours

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shared = folder / "shared"
        self.shared.mkdir()

    @abstractmethod
    async def connect(self, installation: str = "") -> ComputeBackend:
        """A new backend object over the same substrate; another `installation` must not see this one's workloads."""

    @abstractmethod
    def image(self) -> ImageRef:
        """An image whose /bin/sh runs `shell_script`."""

    @abstractmethod
    def missing_image(self) -> ImageRef:
        """An image that cannot be found, or a folder image whose folder is gone."""

    @abstractmethod
    async def aclose(self) -> None:
        """Remove every workload of this bench and close every backend object it made."""

    async def crash(self, backend: ComputeBackend) -> None:
        """End a backend object as a killed process would: nothing it had begun in memory goes on.

        By the contract `aclose` touches no workload, so it does; a bench that can be ruder should be.
        """
        await backend.aclose()

    def outage(self) -> Outage | None:
        """How to make the substrate unreachable, and reachable again. None: this substrate is always there."""
        return None

    def workload(self, *steps: Step, **changes: Any) -> Workload:
        """A workload of its own id that runs `steps`; `changes` are fields of Workload."""
        made = Workload(
            id=WorkloadId(f"sagewright-test-{secrets.token_hex(6)}"),
            image=self.image(),
            entrypoint=("/bin/sh", "-c", shell_script(steps), "program"),
            arguments=None,
            mounts=(Mount(self.shared, SHARED),),
            resources=Resources(memory=256 * 1024 * 1024),
            hostname="algo-1",
            stop_grace=timedelta(seconds=60),
        )
        return replace(made, **changes)

    def open_gate(self, name: str) -> None:
        (self.shared / name).touch()

    def marks(self, name: str) -> int:
        """How often a program came by `Mark(name)`."""
        path = self.shared / name
        return len(path.read_bytes().splitlines()) if path.exists() else 0


async def until(holds: Callable[[], Awaitable[bool]], what: str) -> None:
    """Wait for a condition; a wait past PATIENCE is a failure that says what was waited for."""
    deadline = time.monotonic() + PATIENCE
    while not await holds():
        assert time.monotonic() < deadline, f"waited {PATIENCE:.0f} s in vain for {what}"
        await asyncio.sleep(0.01)


async def marked(bench: Bench, name: str) -> None:
    """Wait until a program came by `Mark(name)`."""

    async def there() -> bool:
        return bench.marks(name) > 0

    await until(there, f"the program to reach {name}")


async def look(backend: ComputeBackend, workload: WorkloadId) -> Observation:
    """One look at a workload that must exist."""
    return (await backend.observe([workload]))[workload]


async def reached(backend: ComputeBackend, workload: WorkloadId, phase: Phase) -> Observation:
    """Wait until the workload is seen in `phase`; fail at once when it has passed it."""
    order = list(Phase)

    async def there() -> bool:
        seen = await look(backend, workload)
        assert order.index(seen.phase) <= order.index(phase), f"passed {phase}: {seen}"
        return seen.phase is phase

    await until(there, f"{workload} to be {phase}")
    return await look(backend, workload)


async def exited(backend: ComputeBackend, workload: WorkloadId) -> Observation:
    return await reached(backend, workload, Phase.EXITED)
