"""Endpoints as rows.

States (contract B.10):

    Creating ──► InService ◄──► Updating
        └──► Failed   ▲            │ the new version, or the added instances, did not come up
                      └─ RollingBack ◄┘            from everywhere: Deleting ──► gone

`spec` is written by operations. All that a deployment needs is frozen into `plan`, because configurations and models
may be deleted while they are in use. UpdateEndpoint raises `revision`: a new fleet is built beside the old one.
UpdateEndpointWeightsAndCapacities raises `scale`: the serving fleet takes up the new weights and counts in place.

`status` is written by the controller. An instance is routable when its phase is "in-service" and its fleet is
the serving one: the router derives its table from these rows and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sagewright.core.ids import Account, Key, Kind, Region, ResourceName, arn

KIND: Final = Kind("endpoint")

CREATING, IN_SERVICE, UPDATING, ROLLING_BACK = "Creating", "InService", "Updating", "RollingBack"
DELETING, FAILED, OUT_OF_SERVICE = "Deleting", "Failed", "OutOfService"
MOVES: Final[Mapping[str, frozenset[str]]] = {
    CREATING: frozenset({CREATING, IN_SERVICE, FAILED, DELETING}),
    IN_SERVICE: frozenset({IN_SERVICE, UPDATING, DELETING}),
    UPDATING: frozenset({UPDATING, IN_SERVICE, ROLLING_BACK, DELETING}),
    ROLLING_BACK: frozenset({ROLLING_BACK, IN_SERVICE, UPDATING, DELETING}),
    OUT_OF_SERVICE: frozenset({OUT_OF_SERVICE, IN_SERVICE, UPDATING, DELETING}),
    FAILED: frozenset({FAILED, DELETING}),
    DELETING: frozenset({DELETING}),
}

STAGING, STARTING, READY, UNHEALTHY = "staging", "starting", "in-service", "unhealthy"
DRAINING, STOPPING = "draining", "stopping"

SERIAL, DIRECT = "Serial", "Direct"
LEAST_OUTSTANDING, RANDOM = "LEAST_OUTSTANDING_REQUESTS", "RANDOM"
TAR, OBJECT, PREFIX = "tar.gz", "object", "prefix"  # what an artifact is: unpacked, one file, a folder of files

STARTUP_SECONDS: Final = 480
"""ContainerStartupHealthCheckTimeoutInSeconds when it is not given (contract B.3: 8 minutes)."""
DOWNLOAD_SECONDS: Final = 1200
"""ModelDataDownloadTimeoutInSeconds when it is not given (contract B.3)."""


def key(account: Account, region: Region, name: str) -> Key:
    return Key(KIND, account, region, ResourceName(name))


def endpoint_arn(endpoint: Key) -> str:
    return arn("sagemaker", endpoint.region, endpoint.account, f"endpoint/{endpoint.name}")


def log_group(name: str) -> str:
    return f"/aws/sagemaker/Endpoints/{name}"


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """One container. `name` is "primary", its hostname, or "container-N". `image` has the form of
    `services.images.resolve`. `artifact` is an S3 URI, or None: then /opt/ml/model is empty."""

    name: str
    image: Mapping[str, Any]
    env: Mapping[str, str]
    artifact: str | None = None
    artifact_kind: str = TAR

    def to_row(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "image": dict(self.image),
            "env": dict(self.env),
            "artifact": self.artifact,
            "artifact_kind": self.artifact_kind,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ContainerPlan:
        return cls(row["name"], row["image"], row["env"], row["artifact"], row["artifact_kind"])


@dataclass(frozen=True, slots=True)
class VariantPlan:
    """One production variant: so many instances of this type, each with these containers."""

    name: str
    weight: float
    count: int
    instance_type: str
    model: str
    role: str
    containers: tuple[ContainerPlan, ...]
    isolated: bool = False
    mode: str = SERIAL
    routing: str = LEAST_OUTSTANDING
    startup_seconds: int = STARTUP_SECONDS
    download_seconds: int = DOWNLOAD_SECONDS

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        row["containers"] = [each.to_row() for each in self.containers]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> VariantPlan:
        values = {name: row[name] for name in cls.__slots__ if name in row}
        values["containers"] = tuple(ContainerPlan.from_row(each) for each in row["containers"])
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Plan:
    """`config` is the name of the endpoint configuration that it was made from."""

    config: str
    variants: tuple[VariantPlan, ...]

    def variant(self, name: str) -> VariantPlan:
        return next(each for each in self.variants if each.name == name)

    def to_row(self) -> dict[str, Any]:
        return {"config": self.config, "variants": [each.to_row() for each in self.variants]}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Plan:
        return cls(row["config"], tuple(VariantPlan.from_row(each) for each in row["variants"]))


@dataclass(frozen=True, slots=True)
class EndpointSpec:
    """Desired state. `revision` starts at 1 and rises with every UpdateEndpoint, `scale` starts at 0 and rises with
    every UpdateEndpointWeightsAndCapacities; `plan` is then the whole new plan. A plan that did not come up stays here
    as it was asked for: build the next one on `current_plan`. `deployment` is the last DeploymentConfig in wire
    spelling, for clients to see; only what is done anyway is accepted in it."""

    config: str
    plan: Plan
    revision: int = 1
    scale: int = 0
    delete_requested: bool = False
    deployment: Mapping[str, Any] | None = None

    def to_row(self) -> dict[str, Any]:
        return {
            "revision": self.revision,
            "scale": self.scale,
            "config": self.config,
            "plan": self.plan.to_row(),
            "delete_requested": self.delete_requested,
            "deployment": dict(self.deployment) if self.deployment else None,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> EndpointSpec:
        return cls(
            row["config"],
            Plan.from_row(row["plan"]),
            row["revision"],
            row.get("scale", 0),
            bool(row.get("delete_requested")),
            row.get("deployment"),
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a variant: its containers, and how far they have come.

        staging ──► starting ──► in-service ◄──► unhealthy     its containers die: another instance takes its place
           │           │             └► draining ◄┘
           └───────────┴────────────────────┴──► stopping ──► gone

    `workloads` and `addresses` ("ip:port") are keyed by container name; an address is there once its container was seen
    running, and "" when the backend gives none.
    `since` is when it came into its phase. `restarts` counts the lives that were lost in its place before it.
    `not_before`: not started earlier, because its predecessor died. `started_at`: when a container in its place first
    ran, from which the start-up limit counts. `proven`: an instance in its place has been healthy. `message`: what
    ended its predecessor. `transcript`: the last pings, once they fail: {"time", "status" (of HTTP, or null), "error",
    "body", "ms"}. Times are `core.clock.to_text`.
    """

    id: str
    variant: str
    workloads: Mapping[str, str]
    addresses: Mapping[str, str]
    phase: str
    since: str
    restarts: int = 0
    not_before: str | None = None
    started_at: str | None = None
    proven: bool = False
    message: str = ""
    transcript: tuple[Mapping[str, Any], ...] = ()

    def to_row(self) -> dict[str, Any]:
        row: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        row["workloads"], row["addresses"] = dict(self.workloads), dict(self.addresses)
        row["transcript"] = [dict(each) for each in self.transcript]
        return row

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Instance:
        values = {name: row[name] for name in cls.__slots__ if name in row}
        values["transcript"] = tuple(values.get("transcript", ()))
        return cls(**values)


@dataclass(frozen=True, slots=True)
class Fleet:
    """All instances of one revision: `id` is "r<revision>-<random>". `plan` is what it is to be at present (its
    weights are those that the router uses); `previous` is the plan to return to when scaling fails, while it is scaled.
    `since` is when it was made: the download limit counts from there. `digests`: image name as in the plan → what it
    resolved to when the fleet first ran it. `retired`: it is being taken down."""

    id: str
    revision: int
    plan: Plan
    instances: tuple[Instance, ...]
    since: str
    previous: Plan | None = None
    digests: Mapping[str, str] = field(default_factory=dict)
    retired: bool = False

    def of(self, variant: str) -> tuple[Instance, ...]:
        return tuple(each for each in self.instances if each.variant == variant)

    def to_row(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "revision": self.revision,
            "plan": self.plan.to_row(),
            "instances": [each.to_row() for each in self.instances],
            "since": self.since,
            "previous": self.previous.to_row() if self.previous else None,
            "digests": dict(self.digests),
            "retired": self.retired,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Fleet:
        return cls(
            row["id"],
            row["revision"],
            Plan.from_row(row["plan"]),
            tuple(Instance.from_row(each) for each in row["instances"]),
            row["since"],
            Plan.from_row(row["previous"]) if row["previous"] else None,
            row["digests"],
            row["retired"],
        )


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """Actual state. `serving` is the id of the fleet that gets the requests. `deployed_config` is its configuration's
    name. `handled` is the (revision, scale) of the spec that was last taken up. `pending`: that change is not through
    yet. `failure_reason` is why the last change did not come about. `unreachable_since` is when the backend was first
    found not to answer, while it does not."""

    fleets: tuple[Fleet, ...] = ()
    serving: str | None = None
    failure_reason: str | None = None
    deployed_config: str | None = None
    pending: bool = False
    handled: tuple[int, int] = (0, 0)
    unreachable_since: str | None = None

    @property
    def serving_fleet(self) -> Fleet | None:
        return next((each for each in self.fleets if each.id == self.serving), None)

    def to_row(self) -> dict[str, Any]:
        return {
            "fleets": [each.to_row() for each in self.fleets],
            "serving": self.serving,
            "failure_reason": self.failure_reason,
            "deployed_config": self.deployed_config,
            "pending": self.pending,
            "handled": list(self.handled),
            "unreachable_since": self.unreachable_since,
        }

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> EndpointStatus:
        if not row:
            return cls()
        return cls(
            fleets=tuple(Fleet.from_row(each) for each in row["fleets"]),
            serving=row["serving"],
            failure_reason=row["failure_reason"],
            deployed_config=row["deployed_config"],
            pending=row["pending"],
            handled=(row["handled"][0], row["handled"][1]),
            unreachable_since=row["unreachable_since"],
        )


def current_plan(spec: EndpointSpec, status: EndpointStatus) -> Plan:
    """What serves now: the base of the next change. Before anything serves it is what was asked for."""
    fleet = status.serving_fleet
    return fleet.plan if fleet else spec.plan


def shown_state(spec: EndpointSpec, status: EndpointStatus, state: str) -> str:
    """EndpointStatus as a client must see it: a wish counts from the call on that made it, even before the
    controller has taken it up, or a waiter would take the state before for the state after."""
    if spec.delete_requested:
        return DELETING
    if state == IN_SERVICE and status.handled != (spec.revision, spec.scale):
        return UPDATING
    return state


def ready_count(status: EndpointStatus, variant: str) -> int:
    """CurrentInstanceCount: instances of the serving fleet that get requests."""
    fleet = status.serving_fleet
    return sum(each.phase == READY for each in fleet.of(variant)) if fleet else 0
