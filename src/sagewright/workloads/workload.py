"""A workload: one container (or process, or pod) to run, told completely, so that a backend asks nobody.

Owns: the values a controller hands to a backend.
Does not own: how SageMaker's contract becomes such a value (`workloads.container`), or how it is run (backends).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sagewright.core.ids import WorkloadId


@dataclass(frozen=True, slots=True)
class FolderImage:
    """An image for the process backend: a folder, how to start it, and what it needs installed.

    `path` is the stored copy (never changed after it was added); `digest` is `sha256:...` over its content,
    the entrypoint and the requirements, so that one digest is one environment.
    """

    name: str
    digest: str
    path: Path
    entrypoint: tuple[str, ...]
    requirements: str = ""  # text of a pip requirements file; "" = only what the interpreter ships


@dataclass(frozen=True, slots=True)
class ImageRef:
    """The image as the user named it; `folder` is set when that name is a folder image of ours. `digest` is what the
    name meant when it was first run, if it must be that again, wherever the tag has moved since.

    `own` is NAME@sha256:DIGEST when our own registry holds it; `stands_for` the name to ask the engine for instead,
    where the user's table says so.
    """

    name: str
    folder: FolderImage | None = None
    digest: str = ""
    own: str = ""
    stands_for: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A host folder visible in the container at `target`.

    With `changes` it is layered: the container may write, chmod and delete in it, and `source` stays as it is. What it
    changes goes into `changes`, a folder with the empty folders `upper` and `work` on one file system that is
    otherwise unused. Only for backends that can (`Capabilities.layers`).
    """

    source: Path
    target: str
    read_only: bool = False
    changes: Path | None = None


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits. None = no limit of its own (the machine's). Memory and shm are bytes; cpus may be fractional.
    GPUs are those numbered from `first_gpu` on: the hosts of one job have different ones."""

    cpus: float | None = None
    memory: int | None = None
    shared_memory: int | None = None
    gpus: int = 0
    first_gpu: int = 0


@dataclass(frozen=True, slots=True)
class Workload:
    """Everything needed to run one container.

    `entrypoint` None keeps the image's own ENTRYPOINT; a tuple replaces ENTRYPOINT and drops CMD
    (container contract A.1). `arguments` replace CMD; None keeps the image's CMD. `arguments_label` names a label of
    the image whose words, where it has the label, stand in for `arguments`.
    `stop_grace` is the time between SIGTERM and SIGKILL. `peers` are the hosts of a job that has several, this one
    included: host name → workload. They share a network in which each reaches each by its name.
    """

    id: WorkloadId  # chosen by the controller and stored before use
    image: ImageRef
    entrypoint: tuple[str, ...] | None
    arguments: tuple[str, ...] | None
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    resources: Resources = Resources()
    hostname: str = ""
    peers: Mapping[str, WorkloadId] = field(default_factory=dict)
    network_isolation: bool = False
    ports: tuple[int, ...] = ()
    stop_grace: timedelta = timedelta(seconds=120)
    labels: Mapping[str, str] = field(default_factory=dict)  # informational; shown in the engine's own tools
    arguments_label: str = ""
    pipes: bool = False  # its mounts hold named pipes that this machine feeds: it needs this machine's own kernel
    required_labels: Mapping[str, str] = field(default_factory=dict)  # of the image, where its kind has labels
