"""Layered mounts: a folder that the container may change, and that stays as it is (`Mount.changes`). Pure.

    mount ──► a volume of the engine's `local` driver, of type overlay
                  lowerdir = source            never written
                  upperdir = changes/upper     what the container changes is copied here first
                  workdir  = changes/work      the kernel's own

The engine mounts it, so Sagewright needs no rights of its own. The volume has no name: the engine makes it with the
container and removes it with the container.

Owns: the volume's description. Does not own: whether this engine can (`layer_trial`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sagewright.workloads.workload import Mount

CHANGES: Final = "sagewright.changes"  # label of a volume: where the changes go


def volume(mount: Mount, changes: Path, labels: Mapping[str, str], options: str = "") -> dict[str, Any]:
    """As the engine's API has it. `options` are the overlay's."""
    layers = {"lowerdir": mount.source, "upperdir": changes / "upper", "workdir": changes / "work"}
    words = [f"{name}={_escaped(str(path))}" for name, path in layers.items()]
    driver = {"type": "overlay", "device": "overlay", "o": ",".join([*words, *filter(None, [options])])}
    return {
        "Type": "volume",
        "Target": mount.target,
        "VolumeOptions": {
            "Labels": {**labels, CHANGES: str(changes)},
            "DriverConfig": {"Name": "local", "Options": driver},
        },
    }


def written_folders(container: Mapping[str, Any]) -> tuple[list[Path], list[Path]]:
    """The folders of this machine that an inspected container could write to, and those with its layers' changes."""
    folders, changes = [], []
    for mount in container["HostConfig"].get("Mounts") or ():
        labels = (mount.get("VolumeOptions") or {}).get("Labels") or {}
        if mount["Type"] == "bind" and not mount.get("ReadOnly"):
            folders.append(Path(mount["Source"]))
        elif CHANGES in labels:
            changes.append(Path(labels[CHANGES]))
    return folders, changes


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")
