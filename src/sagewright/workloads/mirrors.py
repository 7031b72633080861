"""The folders of a training job that are kept the same in S3 (contract A.9, A.10): checkpoints, what TensorBoard, the
debugger's hook and the profiler write. Pure.

    CheckpointConfig          LocalPath, else /opt/ml/checkpoints           ◄─► S3Uri/...
    TensorBoardOutputConfig   LocalPath, else /opt/ml/output/tensorboard     ─► S3OutputPath/JOB/tensorboard-output/...
    DebugHookConfig           LocalPath, else /opt/ml/output/tensors         ─► S3OutputPath/JOB/debug-output/...
    ProfilerConfig            /opt/ml/output/profiler                        ─► S3OutputPath/JOB/profiler-output/...

These prefixes are those that SDK v2 looks into (`Estimator.latest_job_tensorboard_artifacts_path` and its like).
A path below /opt/ml is a folder at its own place; any other is a folder of ours, mounted there.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from sagewright.workloads.transfer import Mirror
from sagewright.workloads.workload import Mount

ML: Final = "/opt/ml"
CHECKPOINTS: Final = "/opt/ml/checkpoints"
TENSORBOARD: Final = "/opt/ml/output/tensorboard"
TENSORS: Final = "/opt/ml/output/tensors"
PROFILER: Final = "/opt/ml/output/profiler"

Request = Mapping[str, Any]


def mirrors(request: Request) -> tuple[Mirror, ...]:
    found = []
    if checkpoints := request.get("CheckpointConfig"):
        folder = _folder(_path(checkpoints, CHECKPOINTS), CHECKPOINTS)
        found.append(Mirror(folder, checkpoints["S3Uri"].rstrip("/"), restore=True))
    for config, default, name in _written(request):
        uri = f"{config['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/{name}"
        found.append(Mirror(_folder(_path(config, default), default), uri, growing=True))
    return tuple(found)


def mirror_mounts(request: Request, root: Path) -> tuple[Mount, ...]:
    """For those whose path is not below /opt/ml."""
    checkpoints = request.get("CheckpointConfig")
    asked = [(checkpoints, CHECKPOINTS)] if checkpoints else []
    asked += [(config, default) for config, default, _ in _written(request)]
    paths = [(_path(config, default), default) for config, default in asked]
    return tuple(Mount(root / _folder(path, default), path) for path, default in paths if not _is_in(path, ML))


def _written(request: Request) -> list[tuple[Mapping[str, Any], str, str]]:
    """What is only published: its configuration, its folder where that names none, and its place below the job's."""
    board, hook = request.get("TensorBoardOutputConfig"), request.get("DebugHookConfig")
    profiler = request.get("ProfilerConfig") or {}
    wanted = bool(profiler.get("S3OutputPath")) and not profiler.get("DisableProfiler")
    return [
        *([(board, TENSORBOARD, "tensorboard-output")] if board else []),
        *([(hook, TENSORS, "debug-output")] if hook else []),
        *([({"S3OutputPath": profiler["S3OutputPath"]}, PROFILER, "profiler-output")] if wanted else []),
    ]


def _path(config: Mapping[str, Any], default: str) -> str:
    return _normal(config.get("LocalPath") or default)


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _folder(path: str, default: str) -> str:
    """Relative to the root."""
    return posixpath.relpath(path if _is_in(path, ML) else default, ML)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
