"""Endpoints for controller tests: plans, rows, and the small values that `decide` is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from sagewright.controllers.controller import Decision, Health, LogState, Ping, Seen
from sagewright.controllers.endpoint_steps import Endpoint, Timing, transfer_ids
from sagewright.controllers.endpoints import EndpointController
from sagewright.core.clock import to_text
from sagewright.core.ids import Account, BackendName, Key, Region, WorkloadId
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import (
    ContainerPlan,
    EndpointSpec,
    EndpointStatus,
    Fleet,
    Instance,
    Plan,
    VariantPlan,
)
from sagewright.store.resources import Resource
from sagewright.workloads.backend import Capabilities
from sagewright.workloads.observation import Observation, Phase
from sagewright.workloads.transfer import TransferPhase, TransferState

T0 = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
ACCOUNT, REGION = Account("000000000000"), Region("us-east-1")
DOCKER = BackendName("docker")
READY = Capabilities(DOCKER, available=True, cpus=4, memory=16 << 30)
MODELS = Path("/data/models")
ARTIFACT = "s3://b/m/model.tar.gz"


def endpoint_key(name: str = "e") -> Key:
    return kind.key(ACCOUNT, REGION, name)


def container(name: str = "primary", image: str = "mine:1", artifact: str | None = ARTIFACT) -> ContainerPlan:
    return ContainerPlan(name, {"name": image, "folder": None}, {"A": "b"}, artifact)


def variant(name: str = "v", *containers: ContainerPlan, **more: Any) -> VariantPlan:
    given: dict[str, Any] = {"weight": 1.0, "count": 1, "instance_type": "ml.m5.large", "startup_seconds": 480} | more
    return VariantPlan(
        name=name,
        model="m",
        role="arn:aws:iam::000000000000:role/SageMakerRole",
        containers=containers or (container(),),
        **given,
    )


def plan(*variants: VariantPlan, config: str = "c") -> Plan:
    return Plan(config, variants or (variant(),))


def spec(*variants: VariantPlan, config: str = "c", **more: Any) -> EndpointSpec:
    return EndpointSpec(config, plan(*variants, config=config), **more)


def after(seconds: float) -> datetime:
    return T0 + timedelta(seconds=seconds)


class Story:
    """One endpoint through decisions: the row as it would be committed, and a world that the test states."""

    def __init__(self, wanted: EndpointSpec | None = None, timing: Timing | None = None) -> None:
        tokens = count(1)
        self.controller = EndpointController(
            MODELS,
            lambda endpoint, variant, backend: {"AWS_ENDPOINT_URL": "http://here"},
            timing,
            lambda: f"{next(tokens):08x}",
        )
        self.row = Resource(
            endpoint_key(), (wanted or spec()).to_row(), EndpointStatus().to_row(), kind.CREATING, 1, T0, T0, T0
        )
        self.now = 0.0
        self.workloads: dict[WorkloadId, Observation] = {}
        self.health: dict[WorkloadId, Health] = {}
        self.logs: dict[WorkloadId, LogState] = {}
        self.transfers: Mapping[Any, TransferState] = {}
        self.drained: set[str] = set()
        self.decision = Decision()

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.of(self.row)

    @property
    def status(self) -> EndpointStatus:
        return self.endpoint.status

    @property
    def fleet(self) -> Fleet:
        return self.status.fleets[-1]

    @property
    def instances(self) -> tuple[Instance, ...]:
        return self.fleet.instances

    @property
    def phases(self) -> list[str]:
        return [each.phase for each in self.instances]

    @property
    def serving(self) -> Fleet:
        fleet = self.status.serving_fleet
        assert fleet is not None
        return fleet

    def look(self, seconds: float = 0.0) -> Decision:
        """Time passes; one look; its status is committed."""
        self.now += seconds
        watch = self.controller.watch(self.endpoint)
        seen = Seen(
            workloads={each: self.workloads[each] for each in watch.workloads if each in self.workloads},
            transfers={each: self.transfers[each] for each in watch.transfers if each in self.transfers},
            logs={each: self.logs[each] for each in watch.log_streams if each in self.logs},
            capabilities=dict.fromkeys(watch.backends, READY),
            health={each: self.health[each] for each in watch.pings if each in self.health},
            drained=[each for each in watch.drains if each in self.drained],
        )
        self.decision = self.controller.decide(self.endpoint, seen, after(self.now))
        self.commit(self.decision)
        return self.decision

    def commit(self, decision: Decision) -> None:
        state = decision.state or self.row.state
        assert state in kind.MOVES[self.row.state], (self.row.state, state)
        status = self.row.status if decision.status is None else decision.status
        self.row = replace(self.row, status=status, state=state, version=self.row.version + 1)

    def ask(self, wanted: EndpointSpec) -> None:
        self.row = replace(self.row, spec=wanted.to_row(), version=self.row.version + 1)

    # -- the world ----------------------------------------------------------------

    def stage(self, phase: TransferPhase = TransferPhase.DONE, message: str = "") -> None:
        folder = MODELS / "f00d" if phase is TransferPhase.DONE else None
        self.transfers = dict(self.transfers) | {
            each: TransferState(each, phase, message, folder=folder)
            for fleet in self.status.fleets
            for each in transfer_ids(self.endpoint, fleet).values()
        }

    def run(self, *instances: Instance) -> None:
        """Their containers run."""
        for each in instances or self.instances:
            for number, workload in enumerate(each.workloads.values()):
                self.workloads[WorkloadId(workload)] = Observation(
                    WorkloadId(workload),
                    Phase.RUNNING,
                    after(self.now),
                    address=f"10.0.0.{number + 1}:8080",
                    image_digest="sha256:1",
                )

    def ping(self, *instances: Instance, successes: int = 1, failures: int = 0, error: str = "refused") -> None:
        for each in instances or self.instances:
            for workload in each.workloads.values():
                told = Ping(to_text(after(self.now)), None if failures else 200, error if failures else "")
                self.health[WorkloadId(workload)] = Health(0 if failures else successes, failures, (told,) * 3)

    def exit(self, instance: Instance, code: int | None = 1, **more: Any) -> None:
        for workload in map(WorkloadId, instance.workloads.values()):
            ran = None if code is None else after(self.now)
            self.workloads[workload] = Observation(
                workload, Phase.EXITED, ran, after(self.now), code, address=None, **more
            )
            self.logs[workload] = LogState(drained=True, tail=("last words",))

    def vanish(self, *instances: Instance) -> None:
        for each in instances:
            for workload in each.workloads.values():
                self.workloads.pop(WorkloadId(workload), None)

    def come_up(self) -> None:
        """From wherever the newest fleet is to where all of it is in service."""
        for _ in range(6):
            self.look()
            self.stage()
            self.run(*(each for each in self.instances if each.phase == kind.STARTING))
            self.ping(*(each for each in self.instances if each.phase == kind.STARTING))
