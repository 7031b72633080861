"""From a `Workload` to the record that the runner reads (`workload.json`). Pure.

Owns: the record's content, and what is known to be impossible without trying.
Does not own: the record's files and their reading (`records`), the runner's use of it (`runner.task`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sagewright.backends.process import environments
from sagewright.backends.process.runner import network
from sagewright.core.errors import WorkloadRejected
from sagewright.workloads.workload import FolderImage, Mount, Workload

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine offers to every workload. `refused` is what the kernel said no to, empty when nothing.
    `network` likewise: why workloads that serve ports get no network of their own."""

    python: str  # the interpreter that environments are made from, a real path
    keep: tuple[str, ...]  # folders that stay visible although they lie in the hidden home
    uv: str
    environments: Path
    gpus: int
    user_namespace: bool
    refused: str = ""
    network: str = ""

    @property
    def namespaces(self) -> bool:
        return not self.refused


def check(workload: Workload, machine: Machine) -> None:
    """Raises WorkloadRejected for what can never run here."""
    if not _ID.fullmatch(workload.id):
        raise WorkloadRejected(f"{workload.id!r} cannot be a folder's name: use letters, digits, '.', '_' and '-'.")
    gpus = workload.resources.first_gpu + workload.resources.gpus if workload.resources.gpus else 0
    if gpus > machine.gpus:
        found = "" if machine.gpus else " (no /dev/nvidia*)"
        asked = "1 GPU was" if gpus == 1 else f"{gpus} GPUs were"
        raise WorkloadRejected(
            f"{asked} asked for and this machine has {machine.gpus}{found}: "
            "choose an instance type without GPU, or run on a machine that has one."
        )
    if workload.peers and not machine.namespaces:
        raise WorkloadRejected(
            f"A job of several hosts needs namespaces, and the kernel refuses them ({machine.refused}): use one "
            "instance, or see `sagewright doctor`."
        )
    if workload.network_isolation and not machine.namespaces:
        raise WorkloadRejected(
            f"EnableNetworkIsolation needs namespaces, and the kernel refuses them ({machine.refused}): "
            "run without it, or see `sagewright doctor`."
        )
    if workload.network_isolation and (workload.ports or workload.peers) and not _has_own_network(workload, machine):
        raise WorkloadRejected(
            "An isolated process can be reached only in a network of its own, which is refused here "
            f"({machine.network}): set EnableNetworkIsolation to false, "
            "run Sagewright as root, or use the Docker backend."
        )


def to_record(workload: Workload, installation: str, machine: Machine) -> dict[str, object]:
    """The runner's task, plus what observing needs. Times are seconds, sizes bytes, paths absolute."""
    image = workload.image.folder
    limits = workload.resources
    env, mounts = _reachable(workload, machine)
    return {
        "id": workload.id,
        "installation": installation,
        "image": workload.image.name,
        "image_digest": image.digest if image else None,
        "folder": str(image.path.absolute()) if image else "",
        "argv": [*_entrypoint(workload, image), *(workload.arguments or ())],
        "env": {**_gpu_env(workload, machine), **env},
        "mounts": [_mount(mount) for mount in mounts],
        "memory": limits.memory,
        "cpus": limits.cpus,
        "shared_memory": limits.shared_memory,
        "hostname": workload.hostname,
        "network_isolation": workload.network_isolation,
        "ports": list(workload.ports),
        "peers": dict(workload.peers),
        "bridge": network.bridge_name(installation) if _has_own_network(workload, machine) else "",
        "stop_grace": workload.stop_grace.total_seconds(),
        "labels": dict(workload.labels),
        **_machine_part(image, machine),
    }


def _reachable(workload: Workload, machine: Machine) -> tuple[Mapping[str, str], tuple[Mount, ...]]:
    """Without namespaces nothing is mounted outside /opt/ml: a variable that names what is mounted names its source."""
    if machine.namespaces:
        return workload.env, workload.mounts
    named = set(workload.env.values())
    sources = {mount.target: str(mount.source.absolute()) for mount in workload.mounts if mount.target in named}
    env = {name: sources.get(value, value) for name, value in workload.env.items()}
    return env, tuple(mount for mount in workload.mounts if mount.target not in sources)


def _machine_part(image: FolderImage | None, machine: Machine) -> dict[str, object]:
    requirements = image.requirements if image else ""
    return {
        "namespaces": machine.namespaces,
        "user_namespace": machine.user_namespace,
        "keep": list(machine.keep),
        "environments": str(machine.environments.absolute()),
        "environment": environments.key(requirements, machine.python),
        "requirements": requirements,
        "uv": machine.uv,
        "python": machine.python,
    }


def _mount(mount: Mount) -> tuple[str, str, bool, str]:
    """(source, target, read only, changes): the last is empty when the mount is not layered."""
    changes = str(mount.changes.absolute()) if mount.changes else ""
    return str(mount.source.absolute()), mount.target, mount.read_only, changes


def _has_own_network(workload: Workload, machine: Machine) -> bool:
    return bool(workload.ports or workload.peers) and machine.namespaces and not machine.network


def _entrypoint(workload: Workload, image: FolderImage | None) -> tuple[str, ...]:
    if workload.entrypoint is not None:
        return workload.entrypoint
    return image.entrypoint if image else ()


def _gpu_env(workload: Workload, machine: Machine) -> dict[str, str]:
    """Only the GPUs asked for are visible, as in a container; devices are the host's and cannot be hidden otherwise."""
    limits = workload.resources
    if limits.gpus == machine.gpus:
        return {}
    numbers = range(limits.first_gpu, limits.first_gpu + limits.gpus)
    return {"CUDA_VISIBLE_DEVICES": ",".join(str(number) for number in numbers)}
