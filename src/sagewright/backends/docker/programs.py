"""Why a program could not be started: its file tells what the engine's words leave open.

`no such file or directory` is what the kernel says of a program that is not there, of a script whose interpreter is not
there, and of a script with Windows line ends. Of the first the engine knows before the start; the others it runs into
when it becomes the program, which then has ended at once with exit code 1 and that one line in its log.
Only the start of the file is read, through the engine.
Owns: looking at the file, and the sentence. Does not own: the engine's words (`seen`).
"""

from __future__ import annotations

import io
import posixpath
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.core.errors import BackendUnavailable
from sagewright.workloads.observation import ExitCause, Observation

_AT_ONCE: Final = timedelta(seconds=5)
_KILLED: Final = 137  # 128 + SIGKILL
_START: Final = 64 << 10  # bytes of the engine's tar: the headers, and the first line


async def explained(engine: Engine, container: Mapping[str, Any], seen: Observation) -> Observation:
    """The same look, with what is wrong with the program's file, or who killed it, where that can be told."""
    if seen.exit_code == _KILLED and seen.cause is ExitCause.EXIT and not seen.message:
        return replace(seen, message=await _killer(engine, container))
    command = _command(container["Config"])
    path = _path(command, container["Config"])
    if not path or not _may_not_have_started(seen):
        return seen
    why = await _fault(engine, container["Id"], path)
    if not why:
        return seen
    message = f"The program could not be started ({' '.join(command[:4])}): {why}"
    return replace(seen, cause=ExitCause.START, exit_code=None, message=message)


async def _killer(engine: Engine, container: Mapping[str, Any]) -> str:
    """Podman hears of the kernel's killing for memory on cgroup v2 only."""
    limit = container["HostConfig"].get("Memory")
    if not limit or not (await engine.facts()).podman:
        return ""
    return (
        f"The container was killed, and not by StopTrainingJob: most likely because it reached its memory limit of "
        f"{limit / (1 << 30):.1f} GiB, which this engine does not tell. Use an instance type with more memory."
    )


def _may_not_have_started(seen: Observation) -> bool:
    if seen.cause is ExitCause.START:
        return "no such file" in seen.message
    return seen.cause is ExitCause.EXIT and bool(seen.exit_code) and _lasted(seen) < _AT_ONCE


def _lasted(seen: Observation) -> timedelta:
    return seen.ended_at - seen.started_at if seen.ended_at and seen.started_at else timedelta.max


def _command(config: Mapping[str, Any]) -> list[str]:
    return [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]


def _path(command: list[str], config: Mapping[str, Any]) -> str:
    """The program's path in the container; empty when it is a name to be looked for along PATH."""
    if not command or "/" not in command[0]:
        return ""
    return posixpath.normpath(posixpath.join(config.get("WorkingDir") or "/", command[0]))


async def _fault(engine: Engine, container: str, path: str) -> str:
    try:
        start = await engine.read(container, path, _START)
    except (BackendUnavailable, EngineRefused):
        return ""
    if start is None:
        return f"there is no {path} in the image: check COPY and WORKDIR in its Dockerfile."
    first = _first_line(start)
    if not first.startswith(b"#!"):
        return ""
    if first.endswith(b"\r"):
        name = posixpath.basename(path)
        return (
            f"the lines of {path} end the Windows way (CRLF), so its first line names a program that does not exist. "
            f"Convert it with `sed -i 's/\\r$//' {name}`, build again, and let git keep it so with a line "
            f"`{name} text eol=lf` in .gitattributes."
        )
    interpreter = first[2:].split()[0].decode(errors="replace") if first[2:].split() else ""
    if interpreter and await _is_there(engine, container, interpreter):
        return ""
    return f"the first line of {path} names {interpreter or 'no program'}, which is not in the image."


async def _is_there(engine: Engine, container: str, path: str) -> bool:
    try:
        return await engine.read(container, path, 1) is not None
    except (BackendUnavailable, EngineRefused):
        return True


def _first_line(start: bytes) -> bytes:
    """Of the file in the beginning of a tar; empty when it is not a plain file."""
    try:
        with tarfile.open(fileobj=io.BytesIO(start), mode="r|") as archive:
            entry = archive.next()
            content = archive.extractfile(entry) if entry is not None and entry.isreg() else None
            return content.read(512).partition(b"\n")[0] if content else b""
    except (tarfile.TarError, EOFError):
        return b""
