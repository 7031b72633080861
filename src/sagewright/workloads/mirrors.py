"""The folders of a training job that are kept the same in S3: checkpoints and TensorBoard's (contract A.9, A.10). Pure.

    CheckpointConfig          LocalPath, else /opt/ml/checkpoints           ◄─► S3Uri/...
    TensorBoardOutputConfig   LocalPath, else /opt/ml/output/tensorboard     ─► S3OutputPath/JOB/tensorboard-output/...

The second prefix is the one that SDK v2 looks into (`Estimator.latest_job_tensorboard_artifacts_path`).
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

Request = Mapping[str, Any]


def mirrors(request: Request) -> tuple[Mirror, ...]:
    found = []
    if checkpoints := request.get("CheckpointConfig"):
        folder = _folder(_path(checkpoints, CHECKPOINTS), CHECKPOINTS)
        found.append(Mirror(folder, checkpoints["S3Uri"].rstrip("/"), restore=True))
    if board := request.get("TensorBoardOutputConfig"):
        uri = f"{board['S3OutputPath'].rstrip('/')}/{request['TrainingJobName']}/tensorboard-output"
        found.append(Mirror(_folder(_path(board, TENSORBOARD), TENSORBOARD), uri, growing=True))
    return tuple(found)


def mirror_mounts(request: Request, root: Path) -> tuple[Mount, ...]:
    """For those whose path is not below /opt/ml."""
    asked = ((request.get("CheckpointConfig"), CHECKPOINTS), (request.get("TensorBoardOutputConfig"), TENSORBOARD))
    paths = [(_path(config, default), default) for config, default in asked if config]
    return tuple(Mount(root / _folder(path, default), path) for path, default in paths if not _is_in(path, ML))


def _path(config: Mapping[str, Any], default: str) -> str:
    return _normal(config.get("LocalPath") or default)


def _normal(path: str) -> str:
    return posixpath.normpath("/" + path.lstrip("/"))


def _folder(path: str, default: str) -> str:
    """Relative to the root."""
    return posixpath.relpath(path if _is_in(path, ML) else default, ML)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
