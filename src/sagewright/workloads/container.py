"""The SageMaker training container as values: files, folders, environment, command (container contract, part A).

    CreateTrainingJob request ──► files and folders of /opt/ml      training_files, training_folders
                              ──► environment, command              training_environment, command
                              ──► the whole Workload                training_workload

Pure: nothing here touches a disk, a clock or an engine. Owns: what a container sees.
Does not own: the channels' data (`staging`), how a workload is run (`backends`).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sagewright.core.ids import WorkloadId
from sagewright.workloads import clients
from sagewright.workloads.hosts import Host, host_resources, hosts_of, seen_by
from sagewright.workloads.instances import Machine
from sagewright.workloads.layers import layered_mounts
from sagewright.workloads.mirrors import mirror_mounts, mirrors
from sagewright.workloads.workload import ImageRef, Mount, Workload

ML: Final = "/opt/ml"
STOP_GRACE: Final = timedelta(seconds=120)
METRICS: Final = "/opt/ml/output/metrics/sagemaker"
TENSORS: Final = "/opt/ml/output/tensors/"

Request = Mapping[str, Any]  # CreateTrainingJob as decoded


def training_files(request: Request, host: Host | None = None) -> dict[str, bytes]:
    """Path relative to /opt/ml → content, for every config file of one host (contract A.3 to A.6)."""
    hosts = hosts_of(request)
    host = host or hosts[0]
    own = seen_by(request, host)
    algorithm = request["AlgorithmSpecification"]
    files = {
        "hyperparameters": request.get("HyperParameters") or {},
        "inputdataconfig": _input_data_config(own),
        "resourceconfig": _resource_config(request, host, hosts),
        "metric-definition-regex": algorithm.get("MetricDefinitions") or [],
        "trainingjobconfig": {name: value for name, value in request.items() if name != "Tags"},
        "init-config": {"inputMode": algorithm["TrainingInputMode"], "channels": _channel_names(own)},
    }
    if hook := request.get("DebugHookConfig"):
        files["debughookconfig"] = {"LocalPath": TENSORS, **hook}
    profiler = request.get("ProfilerConfig")
    if profiler and not profiler.get("DisableProfiler"):
        files["profilerconfig"] = profiler
    return {f"input/config/{name}.json": _json(content) for name, content in files.items()}


def training_folders(request: Request, host: Host | None = None) -> tuple[str, ...]:
    """Folders of one host, relative to /opt/ml that exist before the program starts (contract A.2).

    Not `output/intermediate`: if it exists, the training toolkit leaves the sync of it to the platform.
    """
    folders = ["input/config", "input/data", "model", "output", "output/data", METRICS.removeprefix(f"{ML}/")]
    own = seen_by(request, host) if host else request
    folders += [f"input/data/{name}" for name in _channel_names(own) if not is_pipe(own, name)]
    return (*folders, *(each.folder for each in mirrors(request)))


def is_pipe(request: Request, channel: str) -> bool:
    """Whether a channel is fed through pipes: it has no folder then."""
    return _input_data_config(request)[channel]["TrainingInputMode"] == "Pipe"


def training_environment(
    request: Request, *, arn: str, region: str, gpus: int = 0, platform: Mapping[str, str] | None = None
) -> dict[str, str]:
    """What is set on top of the image's own ENV (contract A.7).

    `platform` has the role's keys and how AWS clients reach us (`clients`). They give way to what the user set; under
    network isolation there are none. The service's own names win over the user. AWS_DEFAULT_REGION is none of those:
    on AWS it is whoever's sets it, and boto3 obeys it.
    """
    user = dict(request.get("Environment") or {})
    given = {} if request.get("EnableNetworkIsolation") else clients.beside(platform or {}, user)
    reserved = {
        "TRAINING_JOB_NAME": request["TrainingJobName"],
        "TRAINING_JOB_ARN": arn,
        "AWS_REGION": region,
        "SAGEMAKER_METRICS_DIRECTORY": METRICS,
        "DMLC_INTERFACE": _interface(request),
    }
    if not gpus:
        reserved["NVIDIA_VISIBLE_DEVICES"] = "void"
    return {"AWS_DEFAULT_REGION": region, **given, **user, **reserved}


def command(request: Request) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """(entrypoint, arguments) as in `Workload`, for the four cases of contract A.1."""
    algorithm = request["AlgorithmSpecification"]
    entrypoint = algorithm.get("ContainerEntrypoint")
    arguments = algorithm.get("ContainerArguments")
    if entrypoint:
        return tuple(entrypoint), tuple(arguments) if arguments else None
    return None, tuple(arguments) if arguments else ("train",)


def training_workload(
    request: Request,
    *,
    workload: WorkloadId,
    image: ImageRef,
    arn: str,
    region: str,
    root: Path,
    machine: Machine,
    first_gpu: int = 0,
    platform: Mapping[str, str] | None = None,
    host: int = 0,
    peers: Mapping[str, WorkloadId] | None = None,
    layered: Collection[str] = (),
) -> Workload:
    """The container of one host, the first unless said otherwise (`host` counts from 0). `root` is the staged folder
    that becomes /opt/ml. The job's accelerators are those from `first_gpu` on. `peers` is as in `Workload`, and empty
    where there is one host.
    `layered` are the channels that were staged beside `root`."""
    entrypoint, arguments = command(request)
    hosts = hosts_of(request)
    resources = host_resources(hosts, machine, first_gpu)[host]
    return Workload(
        id=workload,
        image=image,
        entrypoint=entrypoint,
        arguments=arguments,
        env=training_environment(request, arn=arn, region=region, gpus=resources.gpus, platform=platform),
        mounts=(
            Mount(root, ML),
            *mirror_mounts(request, root),
            *layered_mounts(request, root, layered),
            *clients.bundle_mounts({} if request.get("EnableNetworkIsolation") else platform or {}),
        ),
        resources=resources,
        hostname=hosts[host].name,
        peers=peers or {},
        network_isolation=bool(request.get("EnableNetworkIsolation")),
        stop_grace=STOP_GRACE,
        labels={"sagewright.training-job": request["TrainingJobName"], "sagewright.host": hosts[host].name},
        pipes=any(is_pipe(request, name) for name in _channel_names(request)),
    )


def _input_data_config(request: Request) -> dict[str, dict[str, str]]:
    """Contract A.4. FastFile is written as File, so that programs that do not know it work."""
    mode = request["AlgorithmSpecification"]["TrainingInputMode"]
    described: dict[str, dict[str, str]] = {}
    for channel in request.get("InputDataConfig") or ():
        s3 = channel.get("DataSource", {}).get("S3DataSource") or {}
        own_mode = channel.get("InputMode") or mode
        entry = {"ContentType": channel["ContentType"]} if channel.get("ContentType") else {}
        described[channel["ChannelName"]] = entry | {
            "TrainingInputMode": "File" if own_mode == "FastFile" else own_mode,
            "S3DistributionType": s3.get("S3DataDistributionType") or "FullyReplicated",
            "RecordWrapperType": channel.get("RecordWrapperType") or "None",
        }
    return described


def _resource_config(request: Request, host: Host, hosts: Sequence[Host]) -> dict[str, Any]:
    """Contract A.5. Hosts are sorted as text: algo-1, algo-10, algo-2."""
    groups: dict[str, list[Host]] = {}
    for each in hosts:
        groups.setdefault(each.group, []).append(each)
    return {
        "current_host": host.name,
        "current_instance_type": host.instance_type,
        "current_group_name": host.group,
        "hosts": sorted(each.name for each in hosts),
        "instance_groups": [
            {
                "instance_group_name": name,
                "instance_type": members[0].instance_type,
                "hosts": sorted(each.name for each in members),
            }
            for name, members in groups.items()
        ],
        "network_interface_name": _interface(request),
        "topology": None,
    }


def _interface(request: Request) -> str:
    """An isolated container without peers has the loopback interface and no other."""
    return "lo" if request.get("EnableNetworkIsolation") and len(hosts_of(request)) == 1 else "eth0"


def _channel_names(request: Request) -> list[str]:
    return [channel["ChannelName"] for channel in request.get("InputDataConfig") or ()]


def _json(content: object) -> bytes:
    """Compact, no line feed at the end, as AWS writes it; ASCII, because some images read it in the C locale."""
    return json.dumps(content, separators=(",", ":")).encode()
