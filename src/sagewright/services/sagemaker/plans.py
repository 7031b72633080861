"""Plans: all that a deployment needs, copied out of configuration and models, and the changes to them.

Models and configurations may be deleted while endpoints serve them, so an endpoint keeps a plan of its own, made
once per change. Nothing in it needs another row to be understood.

Owns: making a plan, keeping a variant's properties over an update, changing weights and counts.
Does not own: what a plan is (`store.kinds.endpoint`), when it is carried out (the controller).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from sagewright.core.context import Ctx
from sagewright.services.sagemaker import artifacts, models
from sagewright.services.sagemaker.checks import check_role
from sagewright.store.kinds import model as model_kind
from sagewright.store.kinds.endpoint import (
    DOWNLOAD_SECONDS,
    LEAST_OUTSTANDING,
    SERIAL,
    STARTUP_SECONDS,
    TAR,
    ContainerPlan,
    Plan,
    VariantPlan,
)
from sagewright.store.kinds.model import ModelSpec
from sagewright.store.resources import Resource, Tx
from sagewright.wire.faults import validation


def of_config(ctx: Ctx, tx: Tx, config: Resource) -> Plan:
    """The plan of an endpoint configuration, as things are now. Raises ValidationException when a model, an artifact
    or a role has gone since the configuration was made."""
    asked = config.spec["request"]
    variants = asked["ProductionVariants"]
    return Plan(config.key.name, tuple(_variant(ctx, tx, asked, variant) for variant in variants))


def of_model(ctx: Ctx, tx: Tx, name: str, resources: Mapping[str, Any]) -> VariantPlan:
    """The plan of a transform job: `resources` has its InstanceType and InstanceCount. Raises ValidationException."""
    row = models.existing(tx, model_kind.key(ctx.account, ctx.region, name))
    model = ModelSpec.from_row(row.spec)
    role = model.request.get("ExecutionRoleArn")
    if not role:
        raise validation(f"Model '{name}' has no ExecutionRoleArn, which a transform job needs. Create it with one.")
    check_role(ctx, tx, role)
    if any(each.get("ModelDataSource") for each in model.containers):
        raise validation(f"Model '{name}' has a ModelDataSource; batch transform needs ModelDataUrl.")
    if (model.request.get("InferenceExecutionConfig") or {}).get("Mode", SERIAL) != SERIAL:
        raise validation(f"Model '{name}' has InferenceExecutionConfig.Mode Direct; batch transform needs Serial.")
    return VariantPlan(
        name="transform",
        weight=1.0,
        count=resources["InstanceCount"],
        instance_type=resources["InstanceType"],
        model=row.key.name,
        role=role,
        containers=_containers(ctx, tx, model),
        isolated=bool(model.request.get("EnableNetworkIsolation")),
    )


def retaining(plan: Plan, current: Plan, excluded: Iterable[str]) -> Plan:
    """`plan` with the counts and weights that variants of the same name have now, but for `excluded` properties."""
    now = {variant.name: variant for variant in current.variants}
    kept = {"DesiredInstanceCount": "count", "DesiredWeight": "weight"}
    fields = [field for member, field in kept.items() if member not in set(excluded)]

    def keep(variant: VariantPlan) -> VariantPlan:
        if variant.name not in now:
            return variant
        return replace(variant, **{field: getattr(now[variant.name], field) for field in fields})

    return replace(plan, variants=tuple(keep(variant) for variant in plan.variants))


def rescaled(plan: Plan, changes: Mapping[str, Mapping[str, Any]]) -> Plan:
    """`changes`: variant name → DesiredWeightAndCapacity. Every name is a variant of the plan."""

    def change(variant: VariantPlan) -> VariantPlan:
        asked = changes.get(variant.name, {})
        weight = asked.get("DesiredWeight", variant.weight)
        return replace(variant, weight=weight, count=asked.get("DesiredInstanceCount", variant.count))

    return replace(plan, variants=tuple(change(variant) for variant in plan.variants))


def _variant(ctx: Ctx, tx: Tx, config: Mapping[str, Any], variant: Mapping[str, Any]) -> VariantPlan:
    row = models.existing(tx, model_kind.key(ctx.account, ctx.region, variant["ModelName"]))
    model = ModelSpec.from_row(row.spec)
    role = model.request.get("ExecutionRoleArn") or config["ExecutionRoleArn"]
    check_role(ctx, tx, role)
    return VariantPlan(
        name=variant["VariantName"],
        weight=float(variant.get("InitialVariantWeight", 1.0)),
        count=variant["InitialInstanceCount"],
        instance_type=variant["InstanceType"],
        model=row.key.name,
        role=role,
        containers=_containers(ctx, tx, model),
        isolated=bool(model.request.get("EnableNetworkIsolation") or config.get("EnableNetworkIsolation")),
        mode=(model.request.get("InferenceExecutionConfig") or {}).get("Mode", SERIAL),
        routing=(variant.get("RoutingConfig") or {}).get("RoutingStrategy", LEAST_OUTSTANDING),
        startup_seconds=variant.get("ContainerStartupHealthCheckTimeoutInSeconds", STARTUP_SECONDS),
        download_seconds=variant.get("ModelDataDownloadTimeoutInSeconds", DOWNLOAD_SECONDS),
    )


def _containers(ctx: Ctx, tx: Tx, model: ModelSpec) -> tuple[ContainerPlan, ...]:
    made = []
    for number, (definition, image) in enumerate(zip(model.containers, model.images, strict=True), start=1):
        artifact = artifacts.of_container(definition)
        if artifact:
            artifacts.check(ctx, tx, artifact)
        made.append(
            ContainerPlan(
                name=_name(model, definition, number),
                image=image,
                env=definition.get("Environment") or {},
                artifact=artifact.uri if artifact else None,
                artifact_kind=artifact.kind if artifact else TAR,
            )
        )
    return tuple(made)


def _name(model: ModelSpec, definition: Mapping[str, Any], number: int) -> str:
    """Contract B.2: a lone PrimaryContainer is `primary` whatever its hostname says."""
    if model.request.get("PrimaryContainer"):
        return "primary"
    unnamed = "primary" if len(model.containers) == 1 else f"container-{number}"
    return str(definition.get("ContainerHostname") or unnamed)
