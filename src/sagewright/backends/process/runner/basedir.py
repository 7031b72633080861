"""`/opt/ml` where the kernel grants no mount namespace: a folder that SAGEMAKER_BASE_DIR names instead.

Mounts below /opt/ml appear in it as symbolic links; read-only ones are not protected. A mount elsewhere, or a layered
one, cannot be given at all and is refused.
"""

from __future__ import annotations

import os

from .rootfs import normal
from .task import CannotRun, Task

_ML = "/opt/ml"


def make(task: Task, record: str) -> str | None:
    """The folder that stands for /opt/ml; None when the workload mounts nothing there."""
    mounts = {normal(target): source for source, target, _, _ in task.mounts}
    if layered := [target for _, target, _, changes in task.mounts if changes]:
        raise CannotRun("start", f"{layered[0]} cannot be layered here: the kernel refuses mount namespaces.")
    for target, source in mounts.items():
        if not os.path.isdir(source):
            raise CannotRun("start", f"The folder {source}, to be seen at {target}, does not exist.")
        if target != _ML and not target.startswith(f"{_ML}/"):
            raise CannotRun("start", f"Nothing can be mounted at {target} here: the kernel refuses mount namespaces.")
    if not mounts:
        return None
    base = mounts.pop(_ML, None) or f"{record}/ml"
    os.makedirs(base, exist_ok=True)
    for target, source in sorted(mounts.items()):
        _link(source, base + target[len(_ML) :])
    return base


def _link(source: str, path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)  # prepared empty as a mount point; a full one is a mistake and says so
    if not os.path.lexists(path):
        os.symlink(source, path)
