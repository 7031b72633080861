"""What this machine grants: namespaces, control groups, GPUs. Found by trying, not by reading version numbers.

Owns: the probe and the advice for what the kernel refuses. Does not own: the namespaces of a workload
(`runner.rootfs`, `runner.child`).
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from sagewright.backends.process.environments import base_python
from sagewright.backends.process.launcher import Launcher
from sagewright.backends.process.spec import Machine, to_record
from sagewright.core.ids import WorkloadId
from sagewright.workloads.workload import ImageRef, Workload

_SWITCHES = (
    # file, the value that refuses, what mends it
    ("user/max_user_namespaces", "0", "sudo sysctl -w user.max_user_namespaces=15000"),
    ("kernel/unprivileged_userns_clone", "0", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    ),
)


@dataclass(frozen=True, slots=True)
class Granted:
    """`refused` is empty when namespaces work; else what the kernel said and what to do about it. `network` likewise,
    for networks of their own, and `layers` for showing a folder of which the program changes nothing."""

    refused: str
    memory: bool
    cpus: bool
    network: str = ""
    layers: str = ""

    def details(self) -> dict[str, str]:
        return {
            "namespaces": f"refused: {self.refused}" if self.refused else "mount, pid, ipc, uts, network",
            "memory limit": "control group" if self.memory else "none: no control group can be made here",
            "cpu limit": "control group" if self.cpus else "none: no control group can be made here",
            "serving": self._serving(),
            "inputs": "hard links to the stored objects"
            if self.can_layer
            else f"copies: {self.layers or self.refused}",
            "isolation": "none: programs see the host's files with the rights of whoever started Sagewright",
        }

    @property
    def can_layer(self) -> bool:
        return not (self.refused or self.layers)

    def _serving(self) -> str:
        if self.refused or self.network:
            return (
                f"all instances share this machine's ports ({self.refused or self.network}): one on 8080, the others "
                "on the port that SAGEMAKER_BIND_TO_PORT names; run as root for a network each"
            )
        return "each instance has a network of its own, with this machine and no other in it"


def machine(uv: str, environments: Path, dev: Path = Path("/dev")) -> Machine:
    """This machine, before anything was tried."""
    return Machine(
        python=base_python(),
        keep=tuple(dict.fromkeys(os.path.realpath(prefix) for prefix in (sys.base_prefix, sys.base_exec_prefix))),
        uv=uv,
        environments=environments,
        gpus=sum(1 for path in dev.glob("nvidia[0-9]*") if path.name.removeprefix("nvidia").isdigit()),
        user_namespace=os.geteuid() != 0,
    )


def probe(launcher: Launcher, here: Machine, proc: Path = Path("/proc")) -> Granted:
    """Try it all with a workload that does nothing. Takes some 50 ms. Raises BackendUnavailable."""
    nothing = Workload(WorkloadId("probe"), ImageRef("probe"), entrypoint=("true",), arguments=None, hostname="algo-1")
    record = to_record(replace(nothing, network_isolation=True), "", replace(here, refused=""))
    folder = launcher.prepare(nothing.id, record | {"environments": str(here.environments), "environment": "."})
    found = json.loads(launcher.probe(folder))
    said = str(found["namespaces"])
    return Granted(
        refused=f"{said}; {_advice(proc)}" if said else "",
        memory=bool(found["memory"]),
        cpus=bool(found["cpus"]),
        network=str(found.get("network", "")),
        layers=str(found.get("layers", "")),
    )


def _advice(proc: Path) -> str:
    for name, refusing, mend in _SWITCHES:
        switch = proc / "sys" / name
        if switch.exists() and switch.read_text().strip() == refusing:
            return f"to allow it: {mend}"
    if Path("/.dockerenv").exists() or Path("/run/.containerenv").exists():
        return "inside a container, start that container with --privileged, or with --cap-add SYS_ADMIN and no seccomp"
    return "run as root, or allow user namespaces on this machine"
