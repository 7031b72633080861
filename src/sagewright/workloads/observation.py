"""What is seen of a workload. Facts only; observing changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from sagewright.core.ids import WorkloadId


class Phase(StrEnum):
    PREPARING = "preparing"  # accepted; the image is being pulled or the environment built
    RUNNING = "running"
    EXITED = "exited"  # ended, or could never start (then exit_code is None and message says why)


class ExitCause(StrEnum):
    """Why an EXITED workload ended, as far as the backend knows better than the exit code."""

    EXIT = "exit"  # ended by itself, or by a signal: exit_code (128+n for signal n) tells
    OUT_OF_MEMORY = "out-of-memory"  # killed by the kernel at its memory limit
    IMAGE = "image"  # the image was not found, is for another architecture, or is broken
    START = "start"  # the image is there but its program could not be started
    LOST = "lost"  # it ran, and its record is gone: the machine restarted, someone removed it


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at one workload.

    `exit_code` is set only when EXITED after having run. `message` explains PREPARING (progress) and
    EXITED-without-exit-code, in words fit for a user; RUNNING, or EXITED with an exit code, it tells what is wrong
    with the image, if anything is. `address` is `host:port` when a port is served.
    """

    id: WorkloadId
    phase: Phase
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    cause: ExitCause = ExitCause.EXIT
    message: str = ""
    address: str | None = None
    image_digest: str | None = None  # what the image's name resolved to, once known
