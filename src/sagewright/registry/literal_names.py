"""Which names in ECR's own form this machine's Docker reaches us by: ACCOUNT.dkr.ecr.REGION.amazonaws.com.

    DATA/docker-names.json    {"data": DATA, "names": [...], "made": [...]}

Owns: that record, kept by `sagewright setup docker`. Does not own: the changes to the machine (`cli.setup_docker`), the
listener on port 443 (`gateway.literal_port`).
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Final

from sagewright.settings import DataDir

PORT: Final = 443  # what docker connects to for a name without a port
ADDRESS: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class LiteralNames:
    """`made` are the folders outside the data directory that were not there before, outermost first."""

    names: tuple[str, ...] = ()
    made: tuple[str, ...] = ()


def load(data: DataDir) -> LiteralNames:
    """Empty when nothing is set up, or when the data directory was moved or copied since: a copy must not answer for
    the original. Raises ValueError for a record that is not ours."""
    try:
        kept = json.loads(data.docker_names.read_bytes())
    except FileNotFoundError:
        return LiteralNames()
    if not isinstance(kept, dict) or not isinstance(kept.get("names"), list):
        raise ValueError(f"{data.docker_names} cannot be read; remove it and run `sagewright setup docker` again")
    if kept.get("data") != str(data.root):
        return LiteralNames()
    return LiteralNames(tuple(map(str, kept["names"])), tuple(map(str, kept.get("made", ()))))


def save(data: DataDir, names: LiteralNames) -> None:
    """Replaced at once. It belongs to whom the data directory belongs, also when root writes it."""
    path = data.docker_names
    temporary = path.with_name(f".{path.name}")
    kept = {"data": str(data.root), "names": list(names.names), "made": list(names.made)}
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "w") as file:
        json.dump(kept, file, indent=2)
        file.write("\n")
        owner = data.root.stat()
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
    temporary.replace(path)


def forget(data: DataDir) -> None:
    data.docker_names.unlink(missing_ok=True)
