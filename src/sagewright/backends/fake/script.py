"""What a fake workload does, as values: a small language for tests.

    Script(steps=(Say(b"epoch 1\n"), Run(30), Do(write_model), End(0)))      the usual
    Script(prepare=120, steps=(Run(5),))                                   a slow image pull
    Script(fails=(ExitCause.IMAGE, "no such image"))                       never starts
    Script(steps=(Run(None),), on_term=None)                               runs for ever, ignores SIGTERM
    Script(steps=(Run(60), End(137, ExitCause.OUT_OF_MEMORY)))             killed for its memory

Durations are seconds of the engine's clock; nothing here sleeps. A script that comes to its end exits with 0.
Owns: the vocabulary. Does not own: carrying it out (`engine`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from sagewright.workloads.observation import ExitCause
from sagewright.workloads.workload import Workload


@dataclass(frozen=True, slots=True)
class Say:
    """Write these bytes, as a program would: a line ends with a line feed, or with the program."""

    content: bytes


@dataclass(frozen=True, slots=True)
class Run:
    """Do nothing visible for so many seconds; None = until stopped."""

    seconds: float | None


@dataclass(frozen=True, slots=True)
class Await:
    """Go on once this is true. It is asked each time that somebody looks at the engine."""

    holds: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Do:
    """A side effect, such as writing a model into a mount."""

    effect: Callable[[Workload], None]


@dataclass(frozen=True, slots=True)
class OnTerm:
    """What SIGTERM does: say something, take `after` seconds, exit with `code`."""

    code: int = 143
    say: bytes = b""
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Trap:
    """From here on SIGTERM does this; None = nothing."""

    on_term: OnTerm | None


@dataclass(frozen=True, slots=True)
class End:
    """Exit now. `vanish` leaves no trace instead: the machine is gone, or someone removed the container."""

    code: int = 0
    cause: ExitCause = ExitCause.EXIT
    vanish: bool = False


Step: TypeAlias = Say | Run | Await | Do | Trap | End


@dataclass(frozen=True, slots=True)
class Script:
    """`prepare` is the time spent PREPARING. `fails` is a cause (IMAGE or START) and a message, instead of running."""

    steps: tuple[Step, ...] = ()
    prepare: float = 0.0
    fails: tuple[ExitCause, str] | None = None
    on_term: OnTerm | None = OnTerm()
    image_digest: str | None = "sha256:" + "0" * 64


def runs(seconds: float | None, *lines: bytes, exit_code: int = 0, prepare: float = 0.0) -> Script:
    """The commonest script: says its lines, runs for a while, exits."""
    said = tuple(Say(line + b"\n") for line in lines)
    return Script(steps=(*said, Run(seconds), End(exit_code)), prepare=prepare)
