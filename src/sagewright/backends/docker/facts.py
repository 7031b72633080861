"""What an engine and an image are, as values read from the engine's answers. Pure, but for a look at /proc."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sagewright.core.ids import BackendName
from sagewright.workloads.backend import Capabilities

_MACHINES: Final[Mapping[str, str]] = {"x86_64": "amd64", "aarch64": "arm64"}
_RUNS_ON: Final[Mapping[str, frozenset[str]]] = {  # machine → image architectures that its own instruction set runs
    "amd64": frozenset({"amd64", "386"}),
    "arm64": frozenset({"arm64", "arm"}),
}
_VIRTUAL: Final = ("Docker Desktop", "OrbStack", "Rancher Desktop", "Colima", "Lima")
_INTERPRETERS: Final[Mapping[str, tuple[str, ...]]] = {
    "amd64": ("qemu-x86_64", "rosetta", "FEX-x86_64"),
    "arm64": ("qemu-aarch64",),
}


@dataclass(frozen=True, slots=True)
class Facts:
    """`native`: containers run on this machine's own kernel. `direct`: their own addresses can be reached from here.
    `emulated`: other architectures it can run; None = it cannot be known from here, so nothing is refused."""

    version: str
    architecture: str  # as in image manifests: amd64, arm64
    cpus: int
    memory: int
    gpus: int
    gpu_runtime: str
    log_driver: str
    podman: bool
    native: bool
    direct: bool
    selinux: bool
    emulated: frozenset[str] | None
    system: str

    @property
    def details(self) -> dict[str, str]:
        """What a user may want to know besides."""
        told = {"engine": "podman" if self.podman else "docker", "system": self.system, "log driver": self.log_driver}
        return {**told, "gpu": self.gpu_runtime} if self.gpu_runtime else told

    def capabilities(self, name: BackendName) -> Capabilities:
        return Capabilities(
            name,
            available=True,
            version=self.version,
            cpus=self.cpus,
            memory=self.memory,
            gpus=self.gpus,
            details=self.details,
        )

    def runs(self, architecture: str) -> bool:
        own = _RUNS_ON.get(self.architecture, frozenset({self.architecture}))
        return self.emulated is None or not architecture or architecture in own or architecture in self.emulated


@dataclass(frozen=True, slots=True)
class Image:
    """`digest` is the manifest's where it came from a registry, else the image's own id."""

    id: str
    digest: str
    architecture: str
    system: str
    entrypoint: tuple[str, ...]
    volumes: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)


def image_of(found: Mapping[str, Any]) -> Image:
    config = found.get("Config") or {}
    digests = found.get("RepoDigests") or []
    return Image(
        id=found["Id"],
        digest=digests[0].rpartition("@")[2] if digests else found["Id"],
        architecture=found.get("Architecture") or "",
        system=found.get("Os") or "linux",
        entrypoint=tuple(config.get("Entrypoint") or ()),
        volumes=tuple(sorted(config.get("Volumes") or ())),
        labels=dict(config.get("Labels") or {}),
    )


def facts_of(version: Mapping[str, Any], info: Mapping[str, Any], *, local: bool) -> Facts:
    system = info.get("OperatingSystem") or ""
    podman = any("Podman" in part.get("Name", "") for part in version.get("Components") or ())
    native = local and not is_virtual(info) and Path("/proc/version").exists()
    machine = version.get("Arch") or info.get("Architecture") or ""
    drivers = (info.get("Plugins") or {}).get("Log") or ()
    return Facts(
        version=version.get("Version") or "",
        architecture=_MACHINES.get(machine, machine),
        cpus=int(info.get("NCPU") or 1),
        memory=int(info.get("MemTotal") or 0),
        gpus=_gpus(info, local=local),
        gpu_runtime=_gpu_runtime(info),
        log_driver="local" if "local" in drivers else "json-file",
        podman=podman,
        native=native,
        direct=native and "name=rootless" not in _security(info),
        selinux=any("name=selinux" in option for option in info.get("SecurityOptions") or ()),
        emulated=_emulated() if native else None,
        system=system,
    )


def is_virtual(info: Mapping[str, Any]) -> bool:
    """Whether the engine has a virtual machine of its own: neither files nor names nor loopback are this machine's."""
    system = info.get("OperatingSystem") or ""
    return any(name in system for name in _VIRTUAL) or info.get("Name") in ("colima", "orbstack")


def _security(info: Mapping[str, Any]) -> str:
    return " ".join(info.get("SecurityOptions") or ())


def _gpu_runtime(info: Mapping[str, Any]) -> str:
    """How the engine gives GPUs to a container: nvidia (its runtime), cdi (a device description), or not at all."""
    if "nvidia" in (info.get("Runtimes") or {}):
        return "nvidia"
    devices = [device.get("ID", "") for device in info.get("DiscoveredDevices") or ()]
    return "cdi" if any(name.startswith("nvidia.com/gpu") for name in devices) else ""


def _gpus(info: Mapping[str, Any], *, local: bool) -> int:
    """How many GPUs a container can have. The engine does not tell, so this machine's driver is asked."""
    if not _gpu_runtime(info):
        return 0
    driver = Path("/proc/driver/nvidia/gpus")
    if driver.is_dir():
        return len(list(driver.iterdir()))
    return 1 if Path("/dev/dxg").exists() or not local else 0


def _emulated() -> frozenset[str]:
    """Foreign architectures that the kernel hands to an emulator."""
    folder = Path("/proc/sys/fs/binfmt_misc")
    there = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    return frozenset(name for name, handlers in _INTERPRETERS.items() if there.intersection(handlers))
