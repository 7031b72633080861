"""The controller process: `python -m sagewright.app.controller`, started by the supervisor. Exactly one at a time."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

import uvloop

from sagewright.app import child, compose, state
from sagewright.app.leftovers import Leftovers
from sagewright.app.transform_process import TransformProcess
from sagewright.blobs.base import BlobStore
from sagewright.blobs.files import FileBlobs
from sagewright.blobs.streams import LogStreams
from sagewright.controllers.endpoint_steps import Endpoint
from sagewright.controllers.endpoints import EndpointController
from sagewright.controllers.process import Parts, run_controller
from sagewright.controllers.training_jobs import Timing, TrainingController
from sagewright.controllers.training_queue import JobQueue
from sagewright.controllers.transform_jobs import TransformController
from sagewright.core.clock import SystemClock
from sagewright.core.credentials import Keyring
from sagewright.core.errors import BlobError, StoreError
from sagewright.core.ids import BackendName
from sagewright.gateway.authority import Authority
from sagewright.objects.local import LocalObjects
from sagewright.objects.sweep import sweep
from sagewright.registry import files as registry_files
from sagewright.registry import sweep as registry_sweep
from sagewright.settings import Settings
from sagewright.staging.transfers import LocalTransfers
from sagewright.store import registry_lifecycle
from sagewright.store.changes import ChangeReceiver
from sagewright.store.kinds.endpoint import VariantPlan
from sagewright.store.kinds.role import DEFAULT_ROLE, DEFAULT_ROLE_ID
from sagewright.store.resources import Store
from sagewright.workloads.backend import ComputeBackend

_DESCRIBE: Final = 30.0  # seconds between looks at what the backends can do
_EXPIRE: Final = 60.0  # seconds between looks at the lifecycle policies of image repositories
_SWEEP: Final = 3600.0  # seconds between sweeps for orphaned object content
_GRACE: Final = timedelta(hours=1)  # content younger than this may still be on its way to a row
_PREDECESSOR: Final = 15.0  # seconds that a predecessor may take to leave

_log: Final = logging.getLogger("sagewright.controller")


def main() -> None:
    settings = child.start("controller").settings
    child.settled()
    lock = settings.data.run / "controller.lock"
    with (
        state.exclusive(lock, "another controller runs on this data directory", _PREDECESSOR),
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_run(settings))


async def _run(settings: Settings) -> None:
    data = settings.data
    keyring = Keyring.open(data.keys)
    store = compose.open_store(settings)
    backends = compose.backends(settings, keyring)
    blobs = FileBlobs(data.blobs)
    await asyncio.to_thread(Authority(data.keys, settings.outer_bundle).prepare)  # containers are given its bundle
    transform = TransformProcess(data.root)
    transfers = LocalTransfers(LocalObjects(store, blobs), data.workloads, transform=transform)
    changes = ChangeReceiver(data.changes)
    here = f"http://host.docker.internal:{settings.server.port}"  # every backend makes this name known
    endpoints = {BackendName("process"): here, BackendName("docker"): here}
    surroundings = compose.Surroundings(settings, keyring, endpoints)
    serving = EndpointSurroundings(settings, keyring, endpoints)
    parts = Parts(
        store=store,
        streams=LogStreams(data.streams),
        backends=backends,
        transfers=transfers,
        controllers=(
            TrainingController(
                data.workloads,
                surroundings,
                Timing.of(settings.controller),
                queue=JobQueue(settings.controller.jobs_at_once),
            ),
            EndpointController(data.models, serving),
            TransformController(data.workloads, data.models, serving.of_model, Timing.of(settings.controller)),
        ),
        changes=changes,
        clock=SystemClock(),
        settings=settings.controller,
        gateways=data.gateways,
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    chores = (
        asyncio.create_task(_describe(settings, backends)),
        asyncio.create_task(_sweep(store, blobs)),
        asyncio.create_task(_sweep_folders(store, settings)),
        asyncio.create_task(_expire(store, settings)),
        asyncio.create_task(_sweep_registry(store, registry_files.Files(data.registry))),
    )
    try:
        await run_controller(parts, stop)
    finally:
        for chore in chores:
            chore.cancel()
        changes.close()
        transfers.close()
        for backend in backends.values():
            await backend.aclose()
        store.close()


class EndpointSurroundings:
    """What only the installation knows and an endpoint's container gets: keys of the model's role, and our address.

    An endpoint has no end, and a container cannot be given other variables later: its keys do not expire.
    """

    def __init__(self, settings: Settings, keyring: Keyring, endpoints: Mapping[BackendName, str]) -> None:
        self._settings = settings
        self._keyring = keyring
        self._endpoints = endpoints

    def __call__(self, endpoint: Endpoint, variant: VariantPlan, backend: BackendName) -> Mapping[str, str]:
        return self.of_model(variant, backend)

    def of_model(self, variant: VariantPlan, backend: BackendName) -> Mapping[str, str]:
        """Empty with network isolation: such a container gets neither network nor keys."""
        if variant.isolated:
            return {}
        role = variant.role.rsplit("/", 1)[-1]
        user = DEFAULT_ROLE_ID if role == DEFAULT_ROLE else "AROASAGEWRIGHTMODEL"
        keys = self._keyring.issue(self._settings.account, role, "SageMaker", user_id=user, expiration=None)
        return compose.inside(self._settings, keys, self._endpoints.get(backend))


async def _describe(settings: Settings, backends: Mapping[BackendName, ComputeBackend]) -> None:
    """Keep `backends.json` true, for `status`."""
    while True:
        found = [asdict(await backend.describe()) for backend in backends.values()]
        state.save_backends(settings.data, found)
        await asyncio.sleep(_DESCRIBE)


async def _sweep(store: Store, blobs: BlobStore) -> None:
    """Free object bytes that no row names: what a crash left between writing bytes and committing the row."""
    while True:
        try:
            await asyncio.to_thread(sweep, store, blobs, _GRACE)
        except (StoreError, BlobError) as error:
            _log.warning("the sweep for orphaned object content was given up until the next one: %s", error)
        await asyncio.sleep(_SWEEP)


async def _sweep_folders(store: Store, settings: Settings) -> None:
    """Remove folders of workloads that no unfinished resource speaks of: a crash may have left them."""

    def run() -> None:
        leftovers = Leftovers(settings, store)
        found = leftovers.old_folders(datetime.now(UTC) - _GRACE)
        leftovers.remove(found)
        for told in (*(f"removed {each.name}: it belonged to no resource" for each in found), *leftovers.problems):
            _log.warning("%s", told)

    while True:
        try:
            await asyncio.to_thread(run)
        except (StoreError, OSError) as error:
            _log.warning("the sweep for orphaned folders was given up until the next one: %s", error)
        await asyncio.sleep(_SWEEP)


async def _sweep_registry(store: Store, files: registry_files.Files) -> None:
    """Free what no image needs: never what a push has touched within the grace."""
    while True:
        try:
            await asyncio.to_thread(registry_sweep.sweep, store, files, _GRACE)
        except (StoreError, OSError) as error:
            _log.warning("the sweep of the image registry was given up until the next one: %s", error)
        await asyncio.sleep(_SWEEP)


async def _expire(store: Store, settings: Settings) -> None:
    """Carry out the lifecycle policies of image repositories."""
    while True:
        try:
            await asyncio.to_thread(
                store.write, lambda tx: registry_lifecycle.carry_out(tx, settings.account, datetime.now(UTC))
            )
        except StoreError as error:
            _log.warning("the lifecycle policies were not carried out this time: %s", error)
        await asyncio.sleep(_EXPIRE)


if __name__ == "__main__":
    main()
