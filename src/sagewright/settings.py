"""Settings: nested frozen dataclasses, read once, from the command line and the environment. Nothing else reads either.

Owns: every tunable with its unit, default and reason. Does not own: where files lie inside the data directory
(`DataDir`, here too, because every layer above needs one answer).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sagewright.core.ids import DEFAULT_ACCOUNT, DEFAULT_REGION, Account, Region

DEFAULT_PORT = 8470


@dataclass(frozen=True, slots=True)
class DataDir:
    """The only builder of paths in the data directory.

    DATA/
    ├── sagewright.db          the store (SQLite, WAL)
    ├── blobs/                 object bytes
    ├── registry/              blobs of container images
    ├── streams/               log streams, append-only
    ├── workloads/ID/          one workload's own folder: `ml` is its /opt/ml
    ├── models/HASH/           unpacked models, shared by the instances of endpoints
    ├── images/DIGEST/         folder images, as added
    ├── environments/HASH/     built Python environments of folder images
    ├── docker-names.json      AWS's registry names that docker on this machine reaches us by (`setup docker`)
    ├── keys/                  master key, root credentials (mode 0600), certificate authority
    ├── run/                   locks, sockets, status.json
    └── server.log
    """

    root: Path

    @property
    def database(self) -> Path:
        return self.root / "sagewright.db"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def registry(self) -> Path:
        return self.root / "registry"

    @property
    def streams(self) -> Path:
        return self.root / "streams"

    @property
    def workloads(self) -> Path:
        return self.root / "workloads"

    @property
    def models(self) -> Path:
        return self.root / "models"

    @property
    def processes(self) -> Path:
        return self.root / "processes"

    @property
    def images(self) -> Path:
        return self.root / "images"

    @property
    def environments(self) -> Path:
        return self.root / "environments"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def changes(self) -> Path:
        """The socket on which the controller hears what was committed."""
        return self.run / "changes.sock"

    @property
    def gateways(self) -> Path:
        """PID.sock (a gateway hears of changes) and PID.drain (it is asked whether an instance is out of use)."""
        return self.run / "gateways"

    @property
    def log(self) -> Path:
        return self.root / "server.log"

    @property
    def image_names(self) -> Path:
        """The user's table: names of AWS's images → images of one's own (docs/design/16-ecr-and-names.md)."""
        return self.root / "images.json"

    @property
    def docker_names(self) -> Path:
        """What `sagewright setup docker` keeps (`registry.literal_names`)."""
        return self.root / "docker-names.json"

    def create(self) -> None:
        """Make every folder; `keys` and `run` for the owner only."""
        self.root.mkdir(parents=True, exist_ok=True)
        for folder in (
            self.blobs,
            self.registry,
            self.streams,
            self.workloads,
            self.processes,
            self.images,
            self.environments,
        ):
            folder.mkdir(exist_ok=True)
        for private in (self.keys, self.run, self.gateways):
            private.mkdir(mode=0o700, exist_ok=True)


@dataclass(frozen=True, slots=True)
class ServerSettings:
    host: str = "127.0.0.1"
    """Loopback: nothing is reachable from outside unless asked for."""
    port: int = DEFAULT_PORT
    gateways: int = 1
    """Gateway processes that share the port. One is enough for a laptop."""
    max_body: int = 16 * 1024 * 1024
    """Bytes of a control-plane request body; streamed bodies (S3) have no limit here."""
    max_clock_skew: float = 900.0
    """Seconds between a signature's time and ours, as on AWS."""
    proxy_networks: tuple[str, ...] = ()
    """Networks (CIDR) whose clients may use the port as a proxy, besides this machine and its containers."""

    @property
    def address(self) -> str:
        """host:port on this machine, as image names begin: docker speaks plain HTTP to loopback addresses only."""
        host = "127.0.0.1" if self.host in {"0.0.0.0", "::", "localhost"} else self.host
        return f"{f'[{host}]' if ':' in host else host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ControllerSettings:
    full_pass: float = 5.0
    """Seconds between passes over everything due, which make hints optional."""
    poll: float = 1.0
    """Seconds between looks at a running workload when no hint comes."""
    backoff: tuple[float, float] = (0.2, 15.0)
    """First and longest pause after a backend could not be reached, in seconds."""
    unreachable_limit: float = 120.0
    """Seconds without a backend after which its jobs fail: ten times what a restart of the engine takes."""
    parallel: int = 16
    """Resources looked at at the same time."""
    jobs_at_once: int | None = None
    """Training jobs that run at once; None = as many as the machine's memory holds, at most two for each CPU (or 4)."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Invocations. AWS's limits where AWS has them."""

    max_payload: int = 25 * 1024 * 1024
    """Bytes of a request's body, as on AWS (25 MB). Responses have no limit: they are passed on as they come."""
    model_time: float = 60.0
    """Seconds in which a container must answer InvokeEndpoint, as on AWS."""
    stream_time: float = 480.0
    """Seconds in which a container must end its answer to InvokeEndpointWithResponseStream, as on AWS."""
    connect_time: float = 1.5
    """Seconds to connect to a container: longer than the second after which a lost SYN is sent again."""
    max_concurrent: int = 128
    """Requests that one instance works on at once; further ones wait here, where they cost it nothing."""
    queue: int = 256
    """Requests that wait per instance; further ones are refused at once (429)."""
    queue_wait: float = 10.0
    """Seconds that a request waits for an instance before it is refused (503): its client would give up soon after."""
    idle_time: float = 30.0
    """Seconds that an unused connection to a container is kept."""
    refresh: float = 0.25
    """Seconds between looks at the endpoints' rows, which make the controller's datagrams optional."""


@dataclass(frozen=True, slots=True)
class Settings:
    data: DataDir
    account: Account = DEFAULT_ACCOUNT
    region: Region = DEFAULT_REGION
    server: ServerSettings = field(default_factory=ServerSettings)
    controller: ControllerSettings = field(default_factory=ControllerSettings)
    router: RouterSettings = field(default_factory=RouterSettings)
    docker_host: str | None = None
    """The engine's address (DOCKER_HOST); None = the platform's usual sockets."""
    database_url: str | None = None
    """SQLAlchemy URL; None = SQLite in the data directory."""
    upstream_proxy: str | None = None
    """A proxy that was set when the server started; foreign CONNECTs go through it."""
    outer_bundle: Path | None = None
    """The certificate bundle that was set when the server started; ours is added to it. None = the machine's."""
    environ: Mapping[str, str] = field(default_factory=dict)
    """The environment as it was at the start, for tools that we run for the user (package installation)."""


def default_data_dir(environ: Mapping[str, str]) -> Path:
    """SAGEWRIGHT_DATA, else XDG_DATA_HOME/sagewright, else ~/.local/share/sagewright."""
    if explicit := environ.get("SAGEWRIGHT_DATA"):
        return Path(explicit).expanduser().absolute()
    base = environ.get("XDG_DATA_HOME") or Path(environ.get("HOME", "~")).expanduser() / ".local" / "share"
    return Path(base) / "sagewright"


def read_environment(settings: Settings, environ: Mapping[str, str]) -> Settings:
    """`settings` with what the environment adds: the engine's address, an outer proxy, an outer certificate bundle."""
    proxy = environ.get("HTTPS_PROXY") or environ.get("https_proxy")
    bundle = environ.get("AWS_CA_BUNDLE") or environ.get("SSL_CERT_FILE")
    own = (settings.data.keys / "bundle.pem").absolute()
    ours = f":{settings.server.port}"
    return replace(
        settings,
        docker_host=environ.get("DOCKER_HOST") or settings.docker_host,
        upstream_proxy=proxy if proxy and not proxy.rstrip("/").endswith(ours) else None,
        outer_bundle=Path(bundle) if bundle and Path(bundle) != own and Path(bundle).exists() else None,
        environ=dict(environ),
    )
