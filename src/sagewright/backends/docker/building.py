"""Building an image from a folder and pushing it to our registry, through the engine's API, with its progress.

Owns: the context's tar stream, what the engine says on the way, failures in words.
Does not own: the calls (`engine`), which files are left out (`ignoring`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import tarfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, Final

import orjson

from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.ignoring import Ignored
from sagewright.backends.docker.images import ImageProblem, OwnRegistry, find_image

_CHUNK: Final = 1 << 16
_MIB: Final = 1 << 20
_PROGRESS: Final = 2.0  # seconds between two lines about a push
Report = Callable[[str], None]


async def build(
    engine: Engine, folder: Path, name: str, report: Report, *, dockerfile: str = "Dockerfile", arguments: Any = None
) -> str:
    """The new image's id. Raises ImageProblem, BackendUnavailable. `report` gets the build's own lines."""
    if not (folder / dockerfile).is_file():
        raise ImageProblem(f"There is no {dockerfile} in {folder.resolve()}. Write one, or name another with --file.")
    params = {"t": name, "dockerfile": dockerfile, "rm": "1"}
    if arguments:
        params["buildargs"] = orjson.dumps(dict(arguments)).decode()
    made = ""
    try:
        async with contextlib.aclosing(engine.build(params, _context(folder, Ignored.of(folder, dockerfile)))) as steps:
            async for step in steps:
                made = (step.get("aux") or {}).get("ID", made)
                if text := str(step.get("stream") or step.get("status") or "").rstrip():
                    report(text)
    except EngineRefused as refused:
        words = refused.message.rstrip(".")
        raise ImageProblem(
            f"The image {name} was not built: {words}. {_hint(words, name, folder)}".rstrip()
        ) from refused
    return made


async def must_be_there(engine: Engine, name: str) -> None:
    """Raises ImageProblem when the engine has no such image."""
    if await find_image(engine, name) is None:
        raise ImageProblem(
            f"There is no image {name} in the local engine. Build it first: `sagewright build DIR -t {name}`."
        )


async def push(engine: Engine, name: str, target: str, registry: OwnRegistry, report: Report) -> str:
    """The digest in our registry, where the image `name` of the engine is then `target`, REPOSITORY:TAG.

    Raises ImageProblem, BackendUnavailable.
    """
    await must_be_there(engine, name)
    repository, _, tag = target.rpartition(":")
    there, digest = f"{registry.address}/{repository}", ""
    try:
        await engine.tag(name, there, tag)
        layers = _Layers()
        async with contextlib.aclosing(engine.push(there, tag, registry.auth())) as steps:
            async for step in steps:
                digest = (step.get("aux") or {}).get("Digest", digest)
                if text := layers.after(step):
                    report(text)
    except EngineRefused as refused:
        raise ImageProblem(f"The image {name} was not pushed to {there}: {refused.message.rstrip('.')}.") from refused
    return digest


class _Layers:
    """What is worth a line: a layer that is there now, and every few seconds how far all of them are."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[int, int]] = {}
        self._said = time.monotonic()

    def after(self, step: Mapping[str, Any]) -> str:
        layer, status = str(step.get("id") or ""), str(step.get("status") or "")
        if layer and status in ("Pushed", "Layer already exists"):
            return f"{layer}: {status}"
        detail = step.get("progressDetail") or {}
        if status == "Pushing" and detail.get("total"):
            self._sent[layer] = min(int(detail.get("current") or 0), int(detail["total"])), int(detail["total"])
            if time.monotonic() - self._said > _PROGRESS:
                self._said = time.monotonic()
                done, total = (sum(each) // _MIB for each in zip(*self._sent.values(), strict=True))
                return f"pushing: {done} of {total} MiB"
        return ""


def _hint(words: str, name: str, folder: Path) -> str:
    low = words.lower()
    if "buildkit" in low:
        return f"This is the classic builder. Use `docker build -t {name} {folder}`, then `sagewright push {name}`."
    if any(mark in low for mark in ("no such host", "dial tcp", "i/o timeout", "connection refused")):
        return (
            "The base image is not in the engine, and its registry cannot be reached from here: load or build it first."
        )
    if "pull access denied" in low or "manifest unknown" in low:
        return "Check the name after FROM; a private image needs `docker login` and `docker pull` first."
    return ""


async def _context(folder: Path, ignored: Ignored) -> AsyncIterator[bytes]:
    """The folder as a tar stream, made in a thread while it is sent."""
    reading, writing = os.pipe()
    problem: list[BaseException] = []
    maker = threading.Thread(target=_write, args=(writing, folder, ignored, problem), daemon=True)
    maker.start()
    with os.fdopen(reading, "rb", buffering=0) as source:
        while chunk := await asyncio.to_thread(source.read, _CHUNK):
            yield chunk
    await asyncio.to_thread(maker.join)
    if problem:
        raise ImageProblem(f"The folder {folder} cannot be read: {problem[0]}.") from problem[0]


def _write(descriptor: int, folder: Path, ignored: Ignored, problem: list[BaseException]) -> None:
    try:
        with (
            os.fdopen(descriptor, "wb") as sink,
            tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path, name in _files(folder, ignored):
                tar.add(path, str(name), recursive=False, filter=_as_root)
    except BrokenPipeError:
        return  # the engine did not want the rest
    except (OSError, tarfile.TarError) as error:
        problem.append(error)


def _files(folder: Path, ignored: Ignored) -> Iterator[tuple[Path, PurePosixPath]]:
    for root, folders, files in os.walk(folder):
        for each in sorted((*folders, *files)):
            path = Path(root, each)
            name = PurePosixPath(path.relative_to(folder).as_posix())
            if not ignored(name):
                yield path, name


def _as_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry
