"""Routes, derived from endpoint rows and from nothing else. Pure.

    row ──derive──▶ Route ─ Variant ─ Target ─ Place (one container of one instance)

Owns: what of a row the router needs, and when an instance may be given requests: its fleet is `serving` and it is
in-service. Does not own: rows (`store.kinds.endpoint`), what is going on with an instance right now (`router.live`).
"""

from __future__ import annotations

from dataclasses import dataclass

from sagewright.core.ids import Region
from sagewright.store.kinds import endpoint
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Fleet, VariantPlan
from sagewright.store.resources import Resource


@dataclass(frozen=True, slots=True)
class Place:
    """Where a container listens. `name` is what errors and logs call it: primary, its hostname, or container-N."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """An instance that may be given requests, its containers in the order of the pipeline."""

    id: str
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Variant:
    name: str
    weight: float
    random: bool  # the routing strategy; otherwise least outstanding requests
    direct: bool  # several containers, each called by its name; otherwise one after the other
    containers: tuple[str, ...]
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `serving` is False while no fleet was ever in service: it may not be invoked yet."""

    region: Region
    name: str
    account: str
    version: int  # of the row
    state: str  # EndpointStatus
    serving: bool
    variants: tuple[Variant, ...]


def derive(row: Resource) -> Route:
    """The route of an endpoint's row. One that is to be deleted takes no further requests."""
    spec, status = EndpointSpec.from_row(row.spec), EndpointStatus.from_row(row.status)
    fleet = None if spec.delete_requested else status.serving_fleet
    return Route(
        region=row.key.region,
        name=row.key.name,
        account=row.key.account,
        version=row.version,
        state=endpoint.shown_state(spec, status, row.state),
        serving=fleet is not None,
        variants=() if fleet is None else tuple(_variant(planned, fleet) for planned in fleet.plan.variants),
    )


def _variant(planned: VariantPlan, fleet: Fleet) -> Variant:
    containers = tuple(container.name for container in planned.containers)
    return Variant(
        name=planned.name,
        weight=float(planned.weight),
        random=planned.routing == endpoint.RANDOM,
        direct=len(containers) > 1 and planned.mode == endpoint.DIRECT,
        containers=containers,
        targets=tuple(
            Target(instance.id, tuple(_place(name, instance.addresses[name]) for name in containers))
            for instance in fleet.of(planned.name)
            if instance.phase == endpoint.READY and all(instance.addresses.get(name) for name in containers)
        ),
    )


def _place(name: str, address: str) -> Place:
    host, _, port = address.rpartition(":")
    return Place(name, host.strip("[]"), int(port))
