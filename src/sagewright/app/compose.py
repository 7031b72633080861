"""Every part, built by constructor from the settings. The one place that knows them all.

Owns: which implementation stands behind each contract. Does not own: the processes (`gateway`, `controller`).
Imports late where a part belongs to one process only, so that neither process loads what the other needs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from sagewright.core import registry_tokens
from sagewright.core.credentials import Credentials, Keyring
from sagewright.core.ids import BackendName, Key
from sagewright.settings import Settings
from sagewright.store.db import Database
from sagewright.store.kinds.role import DEFAULT_ROLE, DEFAULT_ROLE_ID, ensure_default

if TYPE_CHECKING:
    from sagewright.blobs.streams import LogStreams
    from sagewright.controllers.training_steps import Job
    from sagewright.core.clock import Clock
    from sagewright.gateway.metrics import Flush
    from sagewright.router.counters import Counters
    from sagewright.services.service import Service
    from sagewright.store.resources import Store
    from sagewright.workloads.backend import ComputeBackend

_UPLOAD_TIME = timedelta(days=1)  # a container's keys outlive its time limit by this


class Listener(Protocol):
    """Hears which keys a commit woke."""

    def __call__(self, keys: Collection[Key]) -> None: ...


def open_store(settings: Settings, listener: Listener | None = None) -> Database:
    """The database, migrated, with the role that exists from the start."""
    store = Database.open(settings.database_url or settings.data.database, listener=listener)
    store.write(lambda tx: ensure_default(tx, settings.account, datetime.now(UTC)))
    return store


def services(keyring: Keyring, streams: LogStreams) -> Mapping[str, Service]:
    """Control-plane services by botocore's name."""
    from sagewright.services import cloudwatch, iam, logs, sts
    from sagewright.services.ecr import service as ecr
    from sagewright.services.sagemaker import service as sagemaker

    secret = keyring.derive("page tokens")
    made = (
        sagemaker.service(secret),
        sts.service(keyring),
        iam.service(secret),
        logs.service(streams, secret),
        cloudwatch.service(secret),
        ecr.service(keyring, secret),
    )
    return {service.name: service for service in made}


def metrics_flush(counters: Counters, store: Store, clock: Clock) -> Flush:
    """What brings a gateway's counts into the store: `start` in its event loop, `finish` after it."""
    from sagewright.gateway.metrics import Flush
    from sagewright.router.counters import floor

    return Flush(counters.take, floor, store, clock)


def installation(keyring: Keyring) -> str:
    """The label on everything that this installation starts, so that two on one machine do not meet."""
    return keyring.derive("installation").hex()[:12]


def backends(settings: Settings, keyring: Keyring) -> Mapping[BackendName, ComputeBackend]:
    from sagewright.backends.docker.backend import DockerBackend
    from sagewright.backends.docker.images import OwnRegistry
    from sagewright.backends.process.backend import ProcessBackend

    label = installation(keyring)
    return {
        BackendName("docker"): DockerBackend(
            label,
            host=settings.docker_host,
            scratch=settings.data.workloads,
            registry=OwnRegistry(settings.server.address, lambda: registry_tokens.issue(keyring, datetime.now(UTC))),
        ),
        BackendName("process"): ProcessBackend(
            settings.data.processes, settings.data.environments, label, environ=settings.environ
        ),
    }


def inside(settings: Settings, keys: Credentials, url: str | None, peers: Iterable[str] = ()) -> dict[str, str]:
    """How AWS clients in a container reach us, and as whom; `url` None: not at all from there."""
    from sagewright.workloads import clients

    given = dict(zip(clients.KEYS, (keys.access_key, keys.secret_key, keys.session_token), strict=True))
    bundle = settings.data.keys / "bundle.pem"
    return given | clients.client_settings(url, bundle, peers) if url else given


class Surroundings:
    """What only the installation knows and a job's container gets: keys of the execution role, and our address."""

    def __init__(self, settings: Settings, keyring: Keyring, endpoints: Mapping[BackendName, str]) -> None:
        self._settings = settings
        self._keyring = keyring
        self._endpoints = endpoints

    def __call__(self, job: Job) -> Mapping[str, str]:
        """Empty for a job with network isolation: it gets neither network nor keys (contract A.15)."""
        request = job.spec.request
        if request.get("EnableNetworkIsolation"):
            return {}
        limit = request.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", 86400)
        keys = self._keyring.issue(
            self._settings.account,
            request["RoleArn"].rsplit("/", 1)[-1],
            "SageMaker",
            user_id=DEFAULT_ROLE_ID if request["RoleArn"].endswith(f"/{DEFAULT_ROLE}") else "AROASAGEWRIGHTJOB",
            expiration=datetime.now(UTC) + timedelta(seconds=limit) + _UPLOAD_TIME,
        )
        peers = [host.name for host in job.hosts]
        return inside(self._settings, keys, self._endpoints.get(job.backend), peers)
