"""A Workload as the engine's container configuration. Pure.

Container contract: no --init, no --user, the root file system writable (0.2 to 0.4), ENTRYPOINT and CMD as in A.1,
/dev/shm large (A.15), SIGTERM whatever the image's STOPSIGNAL says (A.12; `backend` sends it).

Owns: the configuration and the labels. Does not own: asking the engine anything (`engine`), reading a container
back (`seen`).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, Final

from sagewright.backends.docker.facts import Facts, Image
from sagewright.backends.docker.layers import volume as layered
from sagewright.core.errors import WorkloadRejected
from sagewright.workloads.workload import Mount, Resources, Workload

INSTALLATION: Final = "sagewright.installation"
WORKLOAD: Final = "sagewright.workload"
GRACE: Final = "sagewright.stop-grace"  # seconds
DIGEST: Final = "sagewright.image-digest"
HOST_GATEWAY: Final = "host-gateway"  # Docker's word for this machine's address
DEFAULT_NETWORK: Final = "bridge"

_LEGAL_NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,200}")
_LEGAL_IMAGE: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._:/@-]{0,254}")
_STACK: Final = 64 << 20  # bytes; what NVIDIA's images ask for
_NEVER_ROTATE: Final = {"max-size": "1000g", "max-file": "1"}  # rotated lines would be lost lines


def is_legal_image(name: str) -> bool:
    """Whether the name can be put into a request at all; the engine has the last word."""
    return bool(_LEGAL_IMAGE.fullmatch(name)) and "//" not in name and ".." not in name


def reject(workload: Workload, facts: Facts) -> None:
    """Raises WorkloadRejected for what can be seen without trying."""
    if not _LEGAL_NAME.fullmatch(workload.id):
        raise WorkloadRejected(f"{workload.id!r} cannot be a container's name")
    if is_reached_in_isolation(workload) and not facts.direct:
        raise WorkloadRejected(
            "an isolated container that serves a port is reached at its own address, and this engine's containers have "
            "none that this machine can reach: set EnableNetworkIsolation to false, or run an engine on Linux itself"
        )
    if workload.pipes and not facts.native:
        raise WorkloadRejected(
            "Pipe input mode needs containers on this machine's own kernel, and this engine runs them in a virtual "
            "machine or elsewhere, where a pipe of this machine leads nowhere: use File or FastFile"
        )
    wanted = workload.resources.first_gpu + workload.resources.gpus if workload.resources.gpus else 0
    if wanted <= facts.gpus:
        return
    asked = "a GPU or another accelerator is" if wanted == 1 else f"{wanted} GPUs or other accelerators are"
    if facts.gpus:
        smaller = "choose a smaller instance type" + (", or fewer instances" if workload.peers else "")
        raise WorkloadRejected(f"{asked} asked for, and this machine has {facts.gpus}: {smaller}")
    if facts.gpu_runtime:
        raise WorkloadRejected(
            f"{asked} asked for, but the NVIDIA driver shows none: check `nvidia-smi` on this machine"
        )
    raise WorkloadRejected(
        f"{asked} asked for by the instance type, but the container engine has none: choose a CPU instance type, such "
        "as ml.m5.large, or install the NVIDIA Container Toolkit on a machine that has a GPU"
    )


def container_config(
    workload: Workload,
    installation: str,
    image: Image,
    facts: Facts,
    *,
    limits: bool = True,
    layering: str = "",
    machine: str = HOST_GATEWAY,
) -> dict[str, Any]:
    """The body of POST /containers/create. `limits` False leaves out ulimits that the engine may not raise; `layering`
    are the options for layered mounts; `machine` is this machine's address as the container is to know it."""
    config: dict[str, Any] = {
        "Image": workload.image.name,
        "Hostname": workload.hostname,
        "Env": [f"{name}={value}" for name, value in workload.env.items()],
        "Labels": _labels(workload, installation, image),
        "Healthcheck": {"Test": ["NONE"]},  # the platform looks after health, not the image
        "ExposedPorts": {f"{port}/tcp": {} for port in workload.ports},
        "HostConfig": _host_config(workload, installation, image, facts, limits=limits, machine=machine)
        | {"Mounts": _mounts(workload, installation, image, layering)},
    }
    if workload.peers:
        endpoint = {"Aliases": [workload.hostname]}
        config["NetworkingConfig"] = {"EndpointsConfig": {hosts_network(workload): endpoint}}
    if workload.entrypoint is not None:
        config["Entrypoint"] = list(workload.entrypoint)
    elif workload.arguments == ():
        config["Entrypoint"] = list(image.entrypoint)  # an empty Cmd alone would keep the image's CMD
    declared = image.labels.get(workload.arguments_label, "").split() if workload.arguments_label else ()
    if words := declared or workload.arguments:
        config["Cmd"] = list(words)
    return config


def _labels(workload: Workload, installation: str, image: Image) -> dict[str, str]:
    return {
        **workload.labels,
        INSTALLATION: installation,
        WORKLOAD: workload.id,
        GRACE: str(workload.stop_grace.total_seconds()),
        DIGEST: image.digest,
    }


def _host_config(
    workload: Workload, installation: str, image: Image, facts: Facts, *, limits: bool, machine: str
) -> dict[str, Any]:
    resources = workload.resources
    host: dict[str, Any] = {
        "Init": False,  # the engine's own default may be true
        "LogConfig": _log_config(facts),
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        **_network(workload, installation, facts, machine),
    }
    if resources.cpus is not None:
        host["NanoCpus"] = int(min(resources.cpus, facts.cpus) * 1e9)
    if resources.memory is not None:
        host["Memory"] = host["MemorySwap"] = resources.memory  # no swap: a limit is a limit
    if resources.shared_memory is not None:
        host["ShmSize"] = resources.shared_memory
    if facts.selinux:
        host["SecurityOpt"] = ["label=disable"]  # else the mounts are closed to the container
    if resources.gpus:
        host["DeviceRequests"] = [_gpus(resources, facts)]
        if limits:
            host["Ulimits"] = _ulimits()
    return host


def inner_volumes(workload: Workload, image: Image) -> tuple[Mount, ...]:
    """A VOLUME of the image below one of our mounts would be an anonymous volume on top of it, and what is written
    there would never be seen: its place is bound to our folder instead."""
    found = []
    for volume in image.volumes:
        path = PurePosixPath(posixpath.normpath(volume))
        above = [mount for mount in workload.mounts if path.is_relative_to(mount.target)]
        if not above:
            continue
        mount = max(above, key=lambda each: len(PurePosixPath(each.target).parts))
        inner = path.relative_to(mount.target)
        if inner.parts:
            changes = mount.changes / "inner" / inner if mount.changes else None
            found.append(Mount(mount.source / inner, str(path), mount.read_only, changes))
    return tuple(found)


def _mounts(workload: Workload, installation: str, image: Image, layering: str) -> list[dict[str, Any]]:
    labels = {INSTALLATION: installation, WORKLOAD: workload.id}
    mounts = (*workload.mounts, *inner_volumes(workload, image))
    return [layered(each, each.changes, labels, layering) if each.changes else _bound(each) for each in mounts]


def _bound(mount: Mount) -> dict[str, Any]:
    return {"Type": "bind", "Source": str(mount.source), "Target": mount.target, "ReadOnly": mount.read_only}


def is_reached_in_isolation(workload: Workload) -> bool:
    return workload.network_isolation and bool(workload.ports)


def hosts_network(workload: Workload) -> str:
    """Named by algo-1, so that each attempt has its own."""
    return f"{next(iter(workload.peers.values()))}-hosts"


def shared_network(workload: Workload, installation: str) -> dict[str, Any] | None:
    """The body of POST /networks/create for a workload that shares a network; None for any other."""
    if is_reached_in_isolation(workload):
        return inner_network(installation)
    if not workload.peers:
        return None
    network = {
        "Name": hosts_network(workload),
        "Driver": "bridge",
        "Internal": workload.network_isolation,
        "CheckDuplicate": True,
        "Labels": {INSTALLATION: installation},
    }
    if (
        workload.network_isolation
    ):  # an internal network keeps the world out, but not this machine: it has no address then
        network["Options"] = {"com.docker.network.bridge.inhibit_ipv4": "true"}
    return network


def is_in_shared_network(container: Mapping[str, Any], installation: str) -> bool:
    """Of a container of ours, as inspected."""
    mode = str(container["HostConfig"].get("NetworkMode") or "")
    return mode.endswith("-hosts") or mode == inner_network(installation)["Name"]


def inner_network(installation: str) -> dict[str, Any]:
    """The body of POST /networks/create: this machine reaches the containers in it, and they reach this machine's
    address in it, but neither the world nor each other."""
    return {
        "Name": f"sagewright-{installation}",
        "Driver": "bridge",
        "Internal": True,
        "CheckDuplicate": True,
        "Options": {"com.docker.network.bridge.enable_icc": "false"},
        "Labels": {INSTALLATION: installation},
    }


def _network(workload: Workload, installation: str, facts: Facts, machine: str) -> dict[str, Any]:
    """The default bridge, or the one of a job's hosts; the engine itself writes the host name and address into
    /etc/hosts there."""
    if is_reached_in_isolation(workload):
        # Names, too, are a way out: engines before 26 would ask a resolver on this machine's loopback for it.
        return {"NetworkMode": inner_network(installation)["Name"], "Dns": ["127.0.0.1"]}
    if workload.peers and workload.network_isolation:
        return {"NetworkMode": hosts_network(workload), "Dns": ["127.0.0.1"]}
    if workload.network_isolation:
        names = [f"{workload.hostname}:127.0.0.1"] if workload.hostname else []
        return {"NetworkMode": "none", "ExtraHosts": names}
    network: dict[str, Any] = {"ExtraHosts": [f"host.docker.internal:{machine}"]}
    if workload.peers:
        network["NetworkMode"] = hosts_network(workload)
    if not facts.direct:
        network["PortBindings"] = {f"{port}/tcp": [{"HostIp": "127.0.0.1"}] for port in workload.ports}
    return network


def _log_config(facts: Facts) -> dict[str, Any]:
    """`local` keeps bytes as they were written; json-file replaces those that are not UTF-8."""
    if facts.podman:
        return {"Type": facts.log_driver, "Config": {}}
    more = {"compress": "false"} if facts.log_driver == "local" else {}
    return {"Type": facts.log_driver, "Config": {**_NEVER_ROTATE, **more}}


def _gpus(resources: Resources, facts: Facts) -> Mapping[str, Any]:
    numbers = range(resources.first_gpu, resources.first_gpu + resources.gpus)
    if facts.gpu_runtime == "cdi":
        return {"Driver": "cdi", "DeviceIDs": [f"nvidia.com/gpu={number}" for number in numbers]}
    if resources.first_gpu:
        return {"Driver": "nvidia", "DeviceIDs": [str(number) for number in numbers], "Capabilities": [["gpu"]]}
    return {"Driver": "nvidia", "Count": resources.gpus, "Capabilities": [["gpu"]]}


def _ulimits() -> list[dict[str, Any]]:
    """Pinned memory for NCCL. Not for CPU work: that gets what `docker run` gives."""
    return [{"Name": "memlock", "Soft": -1, "Hard": -1}, {"Name": "stack", "Soft": _STACK, "Hard": _STACK}]
