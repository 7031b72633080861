"""`doctor`: what works on this machine, and how to mend what does not. Changes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from rich.markup import escape

from sagewright.app import state
from sagewright.app.compose import backends, services
from sagewright.blobs.streams import LogStreams
from sagewright.cli import output, setup_checks
from sagewright.cli.server import data_dir, health, make, option
from sagewright.core.credentials import Keyring
from sagewright.objects.api import OPERATIONS
from sagewright.settings import DataDir, read_environment
from sagewright.workloads.backend import Capabilities

_LOW_DISK = 5 * 2**30  # bytes


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `ok` None means: fine, but worth knowing. `fix` says what to do when it is not fine."""

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def doctor(data: Path | None, as_json: bool) -> None:
    """Exit code 1 when something that every job needs does not work."""
    folder = data_dir(data)
    capabilities = asyncio.run(_describe(folder))
    checks = [*_server(folder), *_machine(folder), *_backends(capabilities), *_clients(), _docker_name(folder)]
    keyring = Keyring.open(folder.keys)
    known = services(keyring, LogStreams(folder.streams)).values()
    operations = {service.name: sorted(service.operations) for service in known} | {"s3": sorted(OPERATIONS)}
    if as_json:
        print(json.dumps({"checks": [asdict(check) for check in checks], "operations": operations}, indent=2))
    else:
        _print(checks, operations)
    if any(check.ok is False for check in checks):
        sys.exit(1)


async def _describe(folder: DataDir) -> list[Capabilities]:
    make(folder)
    found = []
    settings = read_environment(state.load_settings(folder), os.environ)
    for backend in backends(settings, Keyring.open(folder.keys)).values():
        found.append(await backend.describe())
        await backend.aclose()
    return found


def _server(folder: DataDir) -> Iterator[Check]:
    running = state.load_running(folder)
    if running is None:
        yield Check("server", None, f"not running on {folder.root}", f"sagewright up --detach{option(folder)}")
    elif health(running.url) is None:
        yield Check("server", False, f"does not answer at {running.url}", f"look into {folder.log}")
    else:
        yield Check("server", True, f"answers at {running.url}")


def _machine(folder: DataDir) -> Iterator[Check]:
    free = shutil.disk_usage(folder.root).free
    enough = free > _LOW_DISK
    fix = "" if enough else "free some space, or use another data directory with --data"
    yield Check("disk", enough, f"{free / 2**30:.0f} GiB free for {folder.root}", fix)
    python = sys.version.split()[0]
    yield Check("python", True, f"{python} on {os.uname().sysname} {os.uname().machine}")


def _backends(found: list[Capabilities]) -> Iterator[Check]:
    """One backend that works is enough to run jobs; none is a failure."""
    some = any(backend.available for backend in found)
    for backend in found:
        if backend.available:
            opt = "" if backend.real_opt_ml else "; /opt/ml is not the real path, SAGEMAKER_BASE_DIR is set instead"
            gpus = f", {backend.gpus} GPUs" if backend.gpus else ""
            size = f"{backend.cpus} CPUs, {backend.memory / 2**30:.0f} GiB{gpus}"
            engine = "Podman " if (backend.details or {}).get("engine") == "podman" else ""
            yield Check(f"backend {backend.name}", True, f"{engine}{backend.version} ({size}{opt})".strip())
            if inputs := (backend.details or {}).get("inputs"):
                yield Check(f"inputs with {backend.name}", True if backend.layers else None, inputs)
        else:
            yield Check(f"backend {backend.name}", None if some else False, "not available", backend.problem)


def _clients() -> Iterator[Check]:
    """What the user's own tools on this machine look like; all of them are optional."""
    for command, purpose in (("docker", "builds images"), ("aws", "the AWS command line")):
        where = shutil.which(command)
        yield Check(command, True if where else None, where or f"not installed ({purpose})")
    yield Check("botocore", True, metadata.version("botocore"))


def _docker_name(folder: DataDir) -> Check:
    """Whether docker reaches us by AWS's own registry name."""
    ok, found, fix = setup_checks.describe(folder)
    return Check("docker push by AWS's name", ok, found, fix)


def _print(checks: list[Check], operations: dict[str, list[str]]) -> None:
    marks = {True: "[green]ok[/]", None: "[yellow]note[/]", False: "[red]FAIL[/]"}
    console = output.console()
    for check in checks:
        console.print(f"{marks[check.ok]:>14}  [bold]{check.name}[/]  {escape(check.found)}", soft_wrap=True)
        if check.fix:
            console.print(f"      → {escape(check.fix)}", soft_wrap=True)
    counts = ", ".join(f"{service} {len(names)}" for service, names in operations.items())
    console.print(f"\n[bold]Operations[/]  {counts}. `sagewright doctor --json` names them.", soft_wrap=True)
