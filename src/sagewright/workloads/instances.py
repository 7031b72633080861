"""The ml.* instance types, as data: vCPUs, memory and accelerators.

Most families follow one rule: a `Nxlarge` has 4N vCPUs, and memory in a fixed ratio to them. The rest are listed.
Source: the public EC2 instance type pages; figures for the newest families are those announced. A type that is
not known has no limits of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from sagewright.workloads.workload import Resources

GIB: Final = 1 << 30
OF_MACHINE: Final = 0.95  # the most memory one workload may have: the rest keeps the machine and Sagewright alive


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine that runs workloads has. `memory` in bytes; 0 = not known."""

    cpus: int
    memory: int
    gpus: int = 0


@dataclass(frozen=True, slots=True)
class Instance:
    """`memory` in GiB. `gpus` counts Trainium, Inferentia and Gaudi chips too: what needs an accelerator must never
    run silently without one."""

    vcpus: int
    memory: float
    gpus: int = 0


_GIB_PER_VCPU: Final[Mapping[str, float]] = {
    **dict.fromkeys(("c5", "c5d", "c6g", "c6gd", "c6gn", "c6i", "c6in", "c7g", "c7i", "c7i-flex"), 2),
    **dict.fromkeys(("c8g", "c8i", "c8i-flex"), 2),
    **dict.fromkeys(("m4", "m5", "m5d", "m6g", "m6gd", "m6i", "m7g", "m7i", "m7i-flex"), 4),
    **dict.fromkeys(("m8g", "m8i", "m8i-flex"), 4),
    **dict.fromkeys(("r5", "r5d", "r6g", "r6gd", "r6i", "r7g", "r7gd", "r7i", "r8g", "r8i", "r8i-flex"), 8),
    "c5n": 2.625,
}

_LISTED: Final[Mapping[str, Instance]] = {
    "c4.large": Instance(2, 3.75),
    "c4.xlarge": Instance(4, 7.5),
    "c4.2xlarge": Instance(8, 15),
    "c4.4xlarge": Instance(16, 30),
    "c4.8xlarge": Instance(36, 60),
    "c5n.9xlarge": Instance(36, 96),
    "c5n.18xlarge": Instance(72, 192),
    **{f"{family}.medium": Instance(2, 4) for family in ("t2", "t3")},
    **{f"{family}.large": Instance(2, 8) for family in ("t2", "t3")},
    **{f"{family}.xlarge": Instance(4, 16) for family in ("t2", "t3")},
    **{f"{family}.2xlarge": Instance(8, 32) for family in ("t2", "t3")},
    "p2.xlarge": Instance(4, 61, 1),
    "p2.8xlarge": Instance(32, 488, 8),
    "p2.16xlarge": Instance(64, 732, 16),
    "p3.2xlarge": Instance(8, 61, 1),
    "p3.8xlarge": Instance(32, 244, 4),
    "p3.16xlarge": Instance(64, 488, 8),
    "p3dn.24xlarge": Instance(96, 768, 8),
    "p4d.24xlarge": Instance(96, 1152, 8),
    "p4de.24xlarge": Instance(96, 1152, 8),
    "p5.4xlarge": Instance(16, 256, 1),
    **{f"{family}.48xlarge": Instance(192, 2048, 8) for family in ("p5", "p5e", "p5en", "p6-b200")},
    "p6-b300.48xlarge": Instance(192, 4096, 8),
    "p6e-gb200.36xlarge": Instance(144, 960, 4),
    "trn1.2xlarge": Instance(8, 32, 1),
    "trn1.32xlarge": Instance(128, 512, 16),
    "trn1n.32xlarge": Instance(128, 512, 16),
    "trn2.48xlarge": Instance(192, 2048, 16),
    "inf1.xlarge": Instance(4, 8, 1),
    "inf1.2xlarge": Instance(8, 16, 1),
    "inf1.6xlarge": Instance(24, 48, 4),
    "inf1.24xlarge": Instance(96, 192, 16),
    "inf2.xlarge": Instance(4, 16, 1),
    "inf2.8xlarge": Instance(32, 128, 1),
    "inf2.24xlarge": Instance(96, 384, 6),
    "inf2.48xlarge": Instance(192, 768, 12),
    "dl1.24xlarge": Instance(96, 768, 8),
}

# family: GiB per vCPU, and the GPUs of each size
_GPU_FAMILIES: Final[Mapping[str, tuple[float, Mapping[int, int]]]] = {
    "g4dn": (4, {1: 1, 2: 1, 4: 1, 8: 1, 12: 4, 16: 1}),
    "g5": (4, {1: 1, 2: 1, 4: 1, 8: 1, 12: 4, 16: 1, 24: 4, 48: 8}),
    "g6": (4, {1: 1, 2: 1, 4: 1, 8: 1, 12: 4, 16: 1, 24: 4, 48: 8}),
    "g6e": (8, {1: 1, 2: 1, 4: 1, 8: 1, 12: 4, 16: 1, 24: 4, 48: 8}),
    "g7": (4, {2: 1, 4: 1, 8: 1, 12: 2, 24: 4, 48: 8}),
    "g7e": (8, {2: 1, 4: 1, 8: 1, 12: 2, 24: 4, 48: 8}),
}


def find(instance_type: str) -> Instance | None:
    """What `ml.FAMILY.SIZE` has; None when it is not known."""
    name = instance_type.removeprefix("ml.")
    family, _, size = name.partition(".")
    if name in _LISTED:
        return _LISTED[name]
    if family in _GIB_PER_VCPU and (vcpus := _vcpus(size)):
        return Instance(vcpus, vcpus * _GIB_PER_VCPU[family])
    if family in _GPU_FAMILIES and (vcpus := _vcpus(size)):
        ratio, gpus = _GPU_FAMILIES[family]
        return Instance(vcpus, vcpus * ratio, gpus[vcpus // 4]) if vcpus // 4 in gpus else None
    return None


def instance_resources(instance_type: str, *, cpus: int, memory: int, gpus: int = 0) -> Resources:
    """The limits of one workload of this instance type on a machine with so many cpus, bytes and GPUs.

    Bounded by the machine: who asks for an ml.m5.24xlarge on a laptop gets the laptop. CPUs that would be the whole
    machine are no limit at all. GPUs are bounded too, except that a machine with none keeps the request as
    it is, so that the backend refuses it. /dev/shm is half of the memory (contract A.15). `memory` 0 = not known.
    """
    wanted = find(instance_type)
    most = int(memory * OF_MACHINE) or None
    if wanted is None:
        return Resources(memory=most, shared_memory=_half(most))
    asked = int(wanted.memory * GIB)
    limit = min(asked, most) if most else asked
    return Resources(
        cpus=float(wanted.vcpus) if wanted.vcpus < cpus else None,
        memory=limit,
        shared_memory=_half(limit),
        gpus=min(wanted.gpus, gpus) if gpus else wanted.gpus,
    )


def _vcpus(size: str) -> int:
    """`4xlarge` → 16; 0 when it is no size."""
    if size in ("medium", "large", "xlarge"):
        return {"medium": 1, "large": 2, "xlarge": 4}[size]
    times = size.removesuffix("xlarge")
    return 4 * int(times) if times != size and times.isdecimal() else 0


def _half(memory: int | None) -> int | None:
    return memory // 2 if memory else None
