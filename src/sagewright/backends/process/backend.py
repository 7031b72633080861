"""The process backend: folder images as processes, for machines without a container engine.

Owns: the verbs over record folders. Does not own: the records' layout (`records`), the runner that carries a workload
out and outlives this process (`runner`), how it is started (`launcher`).

Not a sandbox: programs run with the rights of whoever started Sagewright, and see the host's files. Namespaces give
them the paths and the process tree of a container, not its walls.
"""

from __future__ import annotations

import asyncio
import os
import platform
import secrets
import shutil
import signal
import time
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from sagewright.backends.process import logs, spec, watch
from sagewright.backends.process.records import Record, Records
from sagewright.backends.process.runner import cgroups, processes
from sagewright.backends.process.runner.requests import KILL, STOP
from sagewright.backends.process.usage import Meter
from sagewright.core.errors import BackendUnavailable, WorkloadRejected
from sagewright.core.ids import BackendName, WorkloadId
from sagewright.workloads.backend import Capabilities, LogCursor, LogRecord, Spare, Usage
from sagewright.workloads.observation import ExitCause, Observation
from sagewright.workloads.workload import FolderImage, Workload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sagewright.backends.process.launcher import Launcher
    from sagewright.backends.process.namespaces import Granted

NAME = BackendName("process")
_REMOVAL = 10.0  # seconds that a runner gets to end its program, before both are killed from here


class ProcessBackend:
    """Runs workloads of one installation as processes of this machine."""

    def __init__(self, root: Path, environments: Path, installation: str, *, environ: Mapping[str, str]) -> None:
        """`root` and `environments` are folders of this backend alone. Of `environ`, package index settings
        (PIP_*, UV_*, proxies, certificates) reach environment builds; nothing of it reaches a workload."""
        self._root = root.absolute()
        self._environments = environments.absolute()
        self._environ = environ
        self._records = Records(self._root, installation)
        self._installation = installation
        self._opening = asyncio.Lock()
        self._open: tuple[Launcher, spec.Machine, Granted] | None = None
        self._meter = Meter()
        self._kills: dict[WorkloadId, asyncio.Task[None]] = {}

    # describe

    async def describe(self) -> Capabilities:
        found = Capabilities(
            name=NAME,
            available=True,
            version=f"Python {platform.python_version()}",
            cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
            memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            installed=platform.system() == "Linux",
        )
        try:
            _, machine, granted = await self._ready(again=True)
        except (BackendUnavailable, OSError) as error:
            return replace(found, available=False, problem=str(error))
        return replace(
            found,
            gpus=machine.gpus,
            real_opt_ml=machine.namespaces,
            details=granted.details(),
            layers=granted.can_layer,
        )

    async def _ready(self, *, again: bool = False) -> tuple[Launcher, spec.Machine, Granted]:
        """What submitting needs, found out once; `again` looks at the machine anew, as it may have been mended."""
        async with self._opening:
            if self._open is None or again:
                self._open = await asyncio.to_thread(self._examine)
            return self._open

    def _examine(self) -> tuple[Launcher, spec.Machine, Granted]:
        """Imports late: most commands never start a workload."""
        if platform.system() != "Linux":
            raise BackendUnavailable("The process backend needs Linux: install Docker to run images here.")
        from sagewright.backends.process import environments, namespaces
        from sagewright.backends.process.launcher import Launcher

        with self._reachable(make=self._open is None):
            self._environments.mkdir(parents=True, exist_ok=True)
            here = namespaces.machine(_uv(), self._environments)
            built = environments.build_environ(self._environ, self._environments, here.python)
            launcher = Launcher(self._root, here.python, built)
            self._sweep_trash()
            granted = namespaces.probe(launcher, here)
        return launcher, replace(here, refused=granted.refused, network=granted.network), granted

    # submit

    async def submit(self, workload: Workload) -> None:
        launcher, machine, _ = await self._ready()
        spec.check(workload, machine)
        with self._reachable():
            if self._records.find(workload.id):
                return
            if not await asyncio.to_thread(self._start, launcher, machine, workload):
                self._check_ours(workload.id)

    def _start(self, launcher: Launcher, machine: spec.Machine, workload: Workload) -> bool:
        folder = launcher.prepare(workload.id, spec.to_record(workload, self._installation, machine))
        if problem := _image_problem(workload):
            return launcher.publish_failure(folder, workload.id, problem)
        return launcher.start(folder)

    def _check_ours(self, workload: WorkloadId) -> None:
        if self._records.taken(workload) and not self._records.find(workload):
            raise WorkloadRejected(
                f"{self._root / workload} is there already and not ours: remove it, or move it away."
            )

    # observe

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]:
        with self._reachable():
            records = self._records.all() if ids is None else map(self._records.find, ids)
            seen = {record.id: record.observe() for record in records if record}
            # A record removed while it was looked at can look lost; it is absent.
            return {each: what for each, what in seen.items() if what.cause is not ExitCause.LOST or self._there(each)}

    def _there(self, workload: WorkloadId) -> bool:
        return self._records.find(workload) is not None

    # stop

    async def stop(self, workload: WorkloadId) -> None:
        with self._reachable():
            record = self._records.find(workload)
            if record is None or record.ended():
                return
            try:
                record.file(STOP).touch(exist_ok=False)
                first = True
            except FileExistsError:
                first = False
            except FileNotFoundError:  # removed at this moment
                return
            runner = record.runner()
            if runner is None or not processes.send(runner, signal.SIGTERM):
                self._stop_unwatched(record, first=first)

    def _stop_unwatched(self, record: Record, *, first: bool) -> None:
        """The runner was killed, so its part falls to us, as far as we live: the file's age says how much is left."""
        program = record.program()
        if program is None or not processes.alive(program):
            return
        if first:
            processes.send(program, signal.SIGTERM)
        if record.id not in self._kills:
            left = record.file(STOP).stat().st_mtime + record.stop_grace - time.time()
            task = asyncio.create_task(_kill_later(program, max(0.0, left)))
            self._kills[record.id] = task
            task.add_done_callback(lambda _: self._kills.pop(record.id, None))

    # remove

    async def remove(self, workload: WorkloadId) -> None:
        with self._reachable():
            if record := self._records.find(workload):
                await self._end(record)
                await asyncio.to_thread(self._discard, record)

    async def _end(self, record: Record) -> None:
        """Return when neither program nor runner lives."""
        runner, program = record.runner(), record.program()
        if runner and processes.alive(runner):
            with _unless_removed():
                record.file(KILL).touch()
            processes.send(runner, signal.SIGTERM)
            await _until_gone(runner, _REMOVAL)
            program = record.program() or program
        for identity in (program, runner):
            if identity and processes.send(identity, signal.SIGKILL):
                await _until_gone(identity, _REMOVAL)

    def _discard(self, record: Record) -> None:
        """Out of sight at once, then off the disk, which may take a while."""
        cgroups.remove(record.cgroups())
        record.leave_network()
        _refuse_mounted(record.folder)
        trash = self._root / ".trash"
        trash.mkdir(exist_ok=True)
        doomed = trash / f"{record.id}-{secrets.token_hex(4)}"
        with _unless_removed():
            record.folder.rename(doomed)
        _erase(doomed)

    def _sweep_trash(self) -> None:
        trash = self._root / ".trash"
        for doomed in trash.iterdir() if trash.exists() else ():
            _refuse_mounted(doomed)
            _erase(doomed)

    # logs and hints

    async def logs(self, workload: WorkloadId, *, after: LogCursor | None = None) -> AsyncIterator[LogRecord]:
        with self._reachable():
            if record := self._records.find(workload):
                async for line in logs.follow(record, after):
                    yield line

    async def hints(self) -> AsyncIterator[WorkloadId]:
        with self._reachable():
            self._root.mkdir(parents=True, exist_ok=True)
        async for workload in watch.changes(self._root):
            if self._there(workload):
                yield workload

    async def usage(self, ids: Collection[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        with self._reachable():
            records = [record for record in map(self._records.find, ids) if record]
            return await asyncio.to_thread(self._meter.read, records)

    async def spares(self, images: Collection[FolderImage], before: datetime) -> list[Spare]:
        from sagewright.backends.process import unused

        with self._reachable():
            if not self._environments.is_dir():
                return []
            needed = unused.of_images(images) | self._records.environments()
            found = await asyncio.to_thread(unused.unused, self._environments, needed, before.timestamp())
            return [Spare("environments", each.name, each) for each in found]

    async def discard(self, spares: Collection[Spare], before: datetime) -> None:
        from sagewright.backends.process import unused

        with self._reachable():
            for each in spares:
                folder, needed = self._environments / each.name, self._records.environments
                await asyncio.to_thread(unused.discard, folder, needed, before.timestamp())

    async def aclose(self) -> None:
        for task in list(self._kills.values()):
            task.cancel()
        await asyncio.gather(*self._kills.values(), return_exceptions=True)

    @contextmanager
    def _reachable(self, *, make: bool = False) -> Iterator[None]:
        """The root is the substrate: an absent one (disk not mounted) says nothing about the workloads in it."""
        try:
            if make:
                self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            elif not self._root.is_dir():
                raise BackendUnavailable(f"The folder of the process backend, {self._root}, is not there.")
            yield
        except OSError as error:
            raise BackendUnavailable(f"The folder of the process backend cannot be used: {error}.") from error


def _uv() -> str:
    import uv

    try:
        return uv.find_uv_bin()
    except FileNotFoundError as error:
        raise BackendUnavailable("uv is missing; reinstall Sagewright, or `pip install uv`.") from error


def _image_problem(workload: Workload) -> dict[str, object] | None:
    """The ending of a workload whose image cannot run here, as `exit.json` holds it."""
    image = workload.image.folder
    if image is None:
        problem = (
            f"{workload.image.name} is not a folder image, and this machine runs without a container engine: "
            "add a folder under that name with `sagewright push`, or install Docker."
        )
    elif not image.path.is_dir():
        problem = f"The stored folder of the image {workload.image.name} is gone ({image.path}): add the image again."
    else:
        return None
    return {"cause": ExitCause.IMAGE.value, "exit_code": None, "message": problem, "ended_at": time.time()}


async def _kill_later(program: processes.Identity, seconds: float) -> None:
    await asyncio.sleep(seconds)
    processes.send(program, signal.SIGKILL)


async def _until_gone(identity: processes.Identity, patience: float) -> None:
    deadline = time.monotonic() + patience
    pause = 0.002
    while processes.alive(identity) and time.monotonic() < deadline:
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, 0.05)


@contextmanager
def _unless_removed() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        return


def _refuse_mounted(folder: Path) -> None:
    """Never erase through a mount: what lies behind it is the user's. Mounts of ours are private and gone by now."""
    text = str(folder).replace(" ", "\\040")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if line.split()[4].startswith(f"{text}/"):
            raise BackendUnavailable(f"{line.split()[4]} is a mount point: unmount it, then this is removed.")


def _erase(folder: Path) -> None:
    """Remove a tree of which programs may have taken away their own write permission."""
    if not folder.exists():
        return
    try:
        shutil.rmtree(folder)
    except PermissionError:
        for place, names, _ in os.walk(folder):  # top down: each is opened before it is entered
            for name in names:
                if not (inner := Path(place, name)).is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(folder)
