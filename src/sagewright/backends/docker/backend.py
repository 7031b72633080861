"""The Docker backend: one container per workload, named by its id. See `workloads.backend` for the contract.

    submit    image there: create and start, then return      image not there: remember, pull behind, create and start
    observe   one filtered list; a container is inspected once per state it is in, because ended ones do not change
    stop      SIGTERM, and a timer that kills after the grace; the timer is lost with us, and `stop` sets another
    remove    forced, and only done when the engine says so

What is in memory is safe to lose: pulls that are going on, failures that left no container, timers, looks.
Owns: the verbs and their order per workload. Does not own: HTTP (`engine`), configuration (`spec`), meaning (`seen`),
lines (`logs`, `follow`), images (`images`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sagewright.backends.docker import place, seen, spec, volumes
from sagewright.backends.docker.engine import Engine, EngineRefused
from sagewright.backends.docker.follow import Look, follow
from sagewright.backends.docker.hints import Hints
from sagewright.backends.docker.images import ImageProblem, OwnRegistry, check_image, engine_name, find_image, pull
from sagewright.backends.docker.layer_trial import LayerTrial
from sagewright.backends.docker.networks import Networks
from sagewright.backends.docker.ownership import hand_over, make_room
from sagewright.backends.docker.programs import explained
from sagewright.core.errors import BackendUnavailable, WorkloadRejected
from sagewright.core.ids import BackendName, WorkloadId
from sagewright.workloads.backend import Capabilities, LogCursor, LogRecord, Spare, Usage
from sagewright.workloads.observation import ExitCause, Observation, Phase
from sagewright.workloads.workload import FolderImage, Workload

NAME = BackendName("docker")
_log = logging.getLogger(__name__)
_RETRY = 1.0  # seconds between attempts of what must be done although the engine is away
_NAME_ATTEMPTS, _NAME_PAUSE = 600, 0.05
_INSPECTIONS = 16  # at a time; after a restart of ours there can be many to do
_TRIALS, _VOLUMES = "layer trials", "volumes"
_RLIMIT = "setting rlimit"  # the engine's words when it may not raise a limit

Json = Mapping[str, Any]


@dataclass(slots=True)
class _Accepted:
    """A workload that has no container to tell of it: being prepared, or failed without leaving one."""

    seen: Observation
    task: asyncio.Task[None] | None = None


class DockerBackend:
    """`installation` tells our containers from those of others; `credentials` is Docker's own config.json; `scratch` is
    a folder on the file system of what will be mounted."""

    def __init__(
        self,
        installation: str,
        *,
        host: str | None = None,
        credentials: Path | None = None,
        registry: OwnRegistry | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._registry = registry
        self._installation = installation
        self._engine = Engine(host)
        self._layers = LayerTrial(self._engine, installation, scratch)
        self._credentials = credentials or Path.home() / ".docker" / "config.json"
        self._label = f"{spec.INSTALLATION}={installation}"
        self._hints = Hints(self._engine, self._label)
        self._accepted: dict[WorkloadId, _Accepted] = {}
        self._kills: dict[WorkloadId, asyncio.Task[None]] = {}
        self._looks: dict[str, tuple[str, Observation]] = {}  # container id → its state and what was seen then
        self._locks: WeakValueDictionary[WorkloadId, asyncio.Lock] = WeakValueDictionary()
        self._inspecting = asyncio.Semaphore(_INSPECTIONS)
        self._networks = Networks(self._engine, installation)
        self._raises_limits = True
        self._booted_at = place.booted_at()

    # -- the verbs -----------------------------------------------------------

    async def describe(self) -> Capabilities:
        try:
            await self._engine.ping()
            facts, layering = await self._engine.facts(), await self._layers.result()
        except (BackendUnavailable, EngineRefused) as error:
            words = place.problem(self._engine.host, str(error))
            return Capabilities(NAME, available=False, problem=words, installed=place.installed())
        return layering.told(facts.capabilities(NAME))

    async def submit(self, workload: Workload) -> None:
        if workload.image.folder:
            raise WorkloadRejected(f"{workload.image.name} is a folder image: the process backend runs it")
        facts = await self._engine.facts()
        spec.reject(workload, facts)
        async with self._lock(workload.id):
            if workload.id in self._accepted:
                return
            self._accepted[workload.id] = _Accepted(_preparing(workload.id, "starting"))
            try:
                if await self._try_start(workload):
                    self._accepted.pop(workload.id, None)
                elif (accepted := self._accepted[workload.id]).seen.phase is Phase.PREPARING:
                    accepted.task = asyncio.create_task(self._pull_and_start(workload))
            except BaseException:
                self._accepted.pop(workload.id, None)
                raise

    async def observe(self, ids: Collection[WorkloadId] | None = None) -> Mapping[WorkloadId, Observation]:
        wanted = None if ids is None else set(ids)
        before = {name: accepted.seen for name, accepted in self._accepted.items()}
        facts = await self._engine.facts()
        listed = await self._listed(wanted)
        looks = await asyncio.gather(*(self._look(each, facts.direct) for each in listed))
        found = before | {name: accepted.seen for name, accepted in self._accepted.items()}
        found |= {look.id: look for look in looks if look}
        return {name: look for name, look in found.items() if wanted is None or name in wanted}

    async def stop(self, workload: WorkloadId) -> None:
        async with self._lock(workload):
            accepted = self._accepted.get(workload)
            if accepted and accepted.task:
                await _cancel(accepted.task)
                self._fail(workload, ExitCause.START, "It was stopped before its program was started.")
            container = await self._find(workload)
            if container is None or workload in self._kills or not container["State"].get("Running"):
                return
            await self._engine.kill(container["Id"], "SIGTERM")
            grace = float(container["Config"]["Labels"][spec.GRACE])
            self._kills[workload] = asyncio.create_task(self._kill_later(workload, container["Id"], grace))

    async def remove(self, workload: WorkloadId) -> None:
        async with self._lock(workload):
            accepted = self._accepted.get(workload)
            if accepted and accepted.task:
                await _cancel(accepted.task)
            container = await self._find(workload)
            if container:
                await self._engine.delete(container["Id"])
                self._looks.pop(container["Id"], None)
                await hand_over(self._engine, self._installation, container)
            await self._networks.leave(container)
            if timer := self._kills.pop(workload, None):
                await _cancel(timer)
            self._accepted.pop(workload, None)

    async def logs(self, workload: WorkloadId, *, after: LogCursor | None = None) -> AsyncIterator[LogRecord]:
        async with aclosing(self.log_batches(workload, after=after)) as batches:
            async for batch in batches:
                for record in batch:
                    yield record

    def log_batches(
        self, workload: WorkloadId, *, after: LogCursor | None = None
    ) -> AsyncGenerator[list[LogRecord], None]:
        return follow(self._engine, lambda: self._look_for_log(workload), after)

    async def usage(self, ids: Collection[WorkloadId]) -> Mapping[WorkloadId, Usage]:
        """The engine looks for a second or two at each, at all of them at once."""
        rows = await self._engine.containers(self._label)
        wanted = {WorkloadId(name): row["Id"] for row in rows if (name := row["Labels"].get(spec.WORKLOAD)) in ids}
        stats = await asyncio.gather(*(self._engine.stats(container) for container in wanted.values()))
        found = {name: seen.usage(each) for name, each in zip(wanted, stats, strict=True) if each}
        return {name: used for name, used in found.items() if used}

    def hints(self) -> AsyncIterator[WorkloadId]:
        return self._hints.follow()

    async def hand_over(self, workload: WorkloadId) -> None:
        with suppress(BackendUnavailable):  # then it is done at the latest when the container is removed
            if found := await self._find(workload):
                await hand_over(self._engine, self._installation, found)

    async def sweep(self) -> None:
        await volumes.delete_unused(self._engine, self._label)
        await self._layers.sweep()

    async def spares(self, images: Collection[FolderImage], before: datetime) -> list[Spare]:
        trials = [Spare(_TRIALS, name) for name in await self._layers.left(before.timestamp())]
        return trials + [Spare(_VOLUMES, name) for name in await volumes.unused(self._engine, self._label)]

    async def discard(self, spares: Collection[Spare], before: datetime) -> None:
        await self._layers.discard([each.name for each in spares if each.what == _TRIALS])
        await volumes.delete(self._engine, [each.name for each in spares if each.what == _VOLUMES])

    async def aclose(self) -> None:
        tasks = [*self._kills.values(), *(each.task for each in self._accepted.values() if each.task)]
        self._kills.clear()
        self._accepted.clear()
        for task in tasks:
            await _cancel(task)
        await self._engine.aclose()

    # -- starting ------------------------------------------------------------

    async def _try_start(self, workload: Workload) -> bool:
        """True when a container tells of it from now on; False when its image must be pulled, or it failed."""
        try:
            name = engine_name(workload.image, self._registry)
            image = await find_image(self._engine, name, workload.image.digest)
            if image is None:
                if held := await self._find(workload.id):  # its image was deleted since
                    return await self._start_fresh(workload, held)
                self._note(workload.id, f"pulling image {name}")
                return False
            facts = await self._engine.facts()
            check_image(image, name, facts, workload.required_labels)
            layering = (await self._layers.result()).options if any(each.changes for each in workload.mounts) else ""
            for volume in spec.inner_volumes(workload, image):
                make_room(volume, workload.mounts)
            async with self._networks.entered(workload) as machine:
                config = spec.container_config(
                    workload,
                    self._installation,
                    image,
                    facts,
                    limits=self._raises_limits,
                    layering=layering,
                    machine=machine,
                )
                config["Image"] = image.id if workload.image.digest else name
                return await self._create_and_start(workload, config)
        except ImageProblem as problem:
            self._fail(workload.id, ExitCause.IMAGE, str(problem))
        except OSError as error:
            self._fail(workload.id, ExitCause.START, f"The folder of a VOLUME of the image cannot be made: {error}.")
        return False

    async def _create_and_start(self, workload: Workload, config: Json) -> bool:
        for _ in range(_NAME_ATTEMPTS):
            try:
                return await self._start(workload, await self._engine.create(workload.id, config))
            except EngineRefused as refused:
                if refused.status == 404 and "No such image" in refused.message:
                    return False
                if refused.status != 409:
                    self._fail(
                        workload.id, ExitCause.START, f"The engine cannot make the container: {refused.message}."
                    )
                    return False
            found = await self._engine.inspect(workload.id)
            if found and not self._is_ours(found):
                raise WorkloadRejected(f"a container named {workload.id} is there, and is not of this installation")
            if found and found["State"]["Status"] != "removing":
                return await self._start(workload, found["Id"]) if _is_fresh(found) else True
            await asyncio.sleep(_NAME_PAUSE)  # the name belongs to one that is just coming, or going
        raise BackendUnavailable(f"the engine does not let go of the name {workload.id}")

    async def _start_fresh(self, workload: Workload, held: Json) -> bool:
        """One that was created in an earlier life, unless it was started too."""
        async with self._networks.entered(workload):
            return await self._start(workload, held["Id"]) if _is_fresh(held) else True

    async def _start(self, workload: Workload, container: str) -> bool:
        try:
            await self._engine.start(container)
        except EngineRefused as refused:
            if self._raises_limits and _RLIMIT in refused.message and workload.resources.gpus:
                self._raises_limits = False
                await self._engine.delete(container)
                return await self._try_start(workload)
            found = await self._engine.inspect(container)
            if found is not None and not seen.failed_start(found):  # this engine keeps no record of the failure
                message = seen.start_message(
                    refused.message, found["Config"].get("Entrypoint") or [], found["Config"].get("Cmd") or []
                )
                self._fail(workload.id, ExitCause.START, message)
                return False
        return True

    async def _pull_and_start(self, workload: Workload) -> None:
        """In the background, through outages of the engine; ends in a container or in a failure to be seen."""
        while True:
            try:
                await pull(
                    self._engine,
                    engine_name(workload.image, self._registry),
                    self._credentials,
                    lambda text: self._note(workload.id, text),
                    self._registry,
                )
                async with self._lock(workload.id):
                    if await self._try_start(workload):
                        self._accepted.pop(workload.id, None)
                        return
                if self._accepted[workload.id].seen.phase is Phase.EXITED:
                    return
                await asyncio.sleep(_RETRY)  # pulled, and gone again before it could be used
            except ImageProblem as problem:
                self._fail(workload.id, ExitCause.IMAGE, str(problem))
                return
            except WorkloadRejected as rejected:
                self._fail(workload.id, ExitCause.START, str(rejected))
                return
            except BackendUnavailable:
                await asyncio.sleep(_RETRY)
            except Exception as error:
                _log.exception("preparing %s failed", workload.id)
                self._fail(workload.id, ExitCause.START, f"Sagewright failed to start it: {error!r}.")
                return

    def _note(self, workload: WorkloadId, text: str) -> None:
        accepted = self._accepted.get(workload)
        if accepted and accepted.seen.phase is Phase.PREPARING:
            accepted.seen = _preparing(workload, text)

    def _fail(self, workload: WorkloadId, cause: ExitCause, message: str) -> None:
        failed = Observation(workload, Phase.EXITED, ended_at=datetime.now(UTC), cause=cause, message=message)
        self._accepted[workload] = _Accepted(failed)
        self._hints.give(workload)

    # -- looking -------------------------------------------------------------

    async def _listed(self, ids: set[WorkloadId] | None) -> list[Json]:
        """Ours among the engine's containers, of these ids: each with at least Id, State and labels."""
        if ids is not None and len(ids) < 2:
            found = [await self._find(name) for name in ids]
            return [each for each in found if each]
        rows = await self._engine.containers(self._label)
        there = {row["Id"] for row in rows}
        self._looks = {container: look for container, look in self._looks.items() if container in there}
        ours = [row for row in rows if f"/{row['Labels'].get(spec.WORKLOAD)}" in row["Names"]]
        return [row for row in ours if ids is None or row["Labels"][spec.WORKLOAD] in ids]

    async def _look(self, listed: Json, direct: bool) -> Observation | None:
        """`listed` is a row of the list, or a whole inspection."""
        state = listed["State"] if isinstance(listed["State"], str) else listed["State"]["Status"]
        known = self._looks.get(listed["Id"])
        if known and known[0] == state:
            return known[1]
        async with self._inspecting:
            whole = listed if "Config" in listed else await self._engine.inspect(listed["Id"])
        look = seen.observation(whole, direct=direct, booted_at=self._booted_at) if whole else None
        if whole and look:
            look = await explained(self._engine, whole, look)
            self._looks[listed["Id"]] = (whole["State"]["Status"], look)
        return look

    async def _find(self, workload: WorkloadId) -> Json | None:
        found = await self._engine.inspect(workload)
        return found if found and self._is_ours(found) else None

    def _is_ours(self, found: Json) -> bool:
        """Labels alone prove nothing: an image that was made of a workload's container has them too."""
        labels = found["Config"].get("Labels") or {}
        own_name = found["Name"].removeprefix("/") == labels.get(spec.WORKLOAD)
        return own_name and bool(labels.get(spec.INSTALLATION) == self._installation)

    async def _look_for_log(self, workload: WorkloadId) -> Look | None:
        accepted = self._accepted.get(workload)
        if accepted and accepted.seen.phase is Phase.PREPARING:
            return Look(Phase.PREPARING, None)
        found = await self._find(workload)
        look = seen.observation(found, direct=False) if found else None
        if look:
            return Look(look.phase, found)
        return Look(Phase.EXITED, None) if accepted else None

    # -- ending --------------------------------------------------------------

    async def _kill_later(self, workload: WorkloadId, container: str, grace: float) -> None:
        """By the container's own id: a later one of the same name is not meant."""
        try:
            await asyncio.sleep(grace)
            while True:
                with suppress(BackendUnavailable, EngineRefused):
                    await self._engine.kill(container, "SIGKILL")
                    return
                await asyncio.sleep(_RETRY)
        finally:
            self._kills.pop(workload, None)

    def _lock(self, workload: WorkloadId) -> asyncio.Lock:
        return self._locks.setdefault(workload, asyncio.Lock())


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _preparing(workload: WorkloadId, text: str) -> Observation:
    return Observation(workload, Phase.PREPARING, message=text)


def _is_fresh(found: Json) -> bool:
    """Created, and never tried to start."""
    return found["State"]["Status"] in ("created", "configured", "initialized") and not seen.failed_start(found)
