"""Where the channels of a workload lie that are links to stored objects, and how they are mounted. Pure.

    OWN/ml                       /opt/ml; input/data/CHANNEL is an empty folder in it, mounted over
    OWN/inputs/CHANNEL           hard links to stored objects: written by nobody
    OWN/changes/CHANNEL/upper    what the container writes, changes or deletes in that channel
                       /work     the kernel's own

A FastFile channel is read-only, as on AWS (contract 0.6), and needs no place for changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sagewright.workloads.workload import Mount

CHANNELS = "/opt/ml/input/data"


def folders(root: Path) -> tuple[Path, ...]:
    """All that lies beside `root`."""
    return root.parent / "inputs", root.parent / "changes"


def links(root: Path, channel: str) -> Path:
    """`root` is the folder that becomes /opt/ml."""
    return root.parent / "inputs" / channel


def changes(root: Path, channel: str) -> Path:
    return root.parent / "changes" / channel


def layered_mounts(request: Mapping[str, Any], root: Path, layered: Collection[str]) -> tuple[Mount, ...]:
    """One for each of the `layered` channels of a CreateTrainingJob request, to be mounted after /opt/ml."""
    whole = request["AlgorithmSpecification"]["TrainingInputMode"]
    modes = {each["ChannelName"]: each.get("InputMode") or whole for each in request.get("InputDataConfig") or ()}
    return tuple(_mount(root, name, read_only=modes[name] == "FastFile") for name in modes if name in layered)


def _mount(root: Path, channel: str, *, read_only: bool) -> Mount:
    target = f"{CHANNELS}/{channel}"
    if read_only:
        return Mount(links(root, channel), target, read_only=True)
    return Mount(links(root, channel), target, changes=changes(root, channel))
