"""What a CreateEndpointConfig request must satisfy beyond its shape. Changes nothing.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html, contract B.1 and B.12.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from sagewright.core.context import Ctx
from sagewright.services.sagemaker import models
from sagewright.services.sagemaker.checks import check_role, later
from sagewright.services.service import Request
from sagewright.store.kinds import model as model_kind
from sagewright.store.kinds.endpoint import LEAST_OUTSTANDING, RANDOM
from sagewright.store.resources import Tx
from sagewright.wire.faults import validation

_LATER: Final[Mapping[str, str]] = {
    "AsyncInferenceConfig": "Leave it out and use InvokeEndpoint, which may take 60 seconds",
    "ShadowProductionVariants": "Leave it out; a second production variant with InitialVariantWeight 0 is reached "
    "with TargetVariant",
    "ExplainerConfig": "Leave it out",
    "CrossRegionTrafficConfig": "Leave it out",
}
_VARIANT_LATER: Final[Mapping[str, str]] = {
    "ServerlessConfig": "Give InstanceType and InitialInstanceCount",
    "InstancePools": "Give InstanceType and InitialInstanceCount",
    "ManagedInstanceScaling": "Set the number of instances with UpdateEndpointWeightsAndCapacities",
    "AcceleratorType": "Choose an InstanceType with a GPU",
    "AcceleratorPartitionLayouts": "Leave it out",
    "CoreDumpConfig": "Leave it out",
    "CapacityReservationConfig": "Leave it out; nothing needs to be reserved here",
    "EnableSSMAccess": "Use `docker exec` on the machine that runs the container",
}


def check(ctx: Ctx, tx: Tx, request: Request) -> None:
    """Raises ApiFault for the first thing that is wrong."""
    _check_unsupported(request)
    variants = request["ProductionVariants"]
    names = [variant["VariantName"] for variant in variants]
    for name in names:
        if names.count(name) > 1:
            raise validation(f"ProductionVariants has two variants named '{name}'. Give each its own VariantName.")
    if role := request.get("ExecutionRoleArn"):
        check_role(ctx, tx, role)
    for variant in variants:
        _check_variant(variant)
        _check_model(ctx, tx, request, variant)


def _check_unsupported(request: Request) -> None:
    for member, instead in _LATER.items():
        if request.get(member):
            raise later(member, instead)
    capture = request.get("DataCaptureConfig")
    if capture and capture.get("EnableCapture", True):  # AWS's default is to capture
        raise later("DataCaptureConfig with EnableCapture true", "Set EnableCapture=False, or leave it out")
    metrics = request.get("MetricsConfig") or {}
    if metrics.get("EnableEnhancedMetrics") or metrics.get("EnableDetailedObservability"):
        raise later("MetricsConfig with enhanced metrics", "Leave it out; the metrics per variant are always there")


def _check_variant(variant: Mapping[str, Any]) -> None:
    name = variant["VariantName"]
    for member, instead in _VARIANT_LATER.items():
        if variant.get(member):
            raise later(f"{member} (variant '{name}')", instead)
    if not variant.get("ModelName"):
        raise later(
            f"A variant without ModelName (variant '{name}'), which is for inference components,",
            "Give the ModelName that the variant is to serve",
        )
    if not variant.get("InstanceType"):
        raise validation(f"Variant '{name}' has no InstanceType. Give one, for example ml.m5.large.")
    if variant.get("InitialInstanceCount", 0) < 1:
        raise validation(f"InitialInstanceCount of variant '{name}' must be at least 1.")
    if not math.isfinite(variant.get("InitialVariantWeight", 1.0)):
        raise validation(f"InitialVariantWeight of variant '{name}' must be a finite number of at least 0.")
    strategy = (variant.get("RoutingConfig") or {}).get("RoutingStrategy", LEAST_OUTSTANDING)
    if strategy not in {LEAST_OUTSTANDING, RANDOM}:
        raise later(f"RoutingStrategy {strategy} (variant '{name}')", f"Use {LEAST_OUTSTANDING} or {RANDOM}")


def _check_model(ctx: Ctx, tx: Tx, request: Request, variant: Mapping[str, Any]) -> None:
    model = models.existing(tx, model_kind.key(ctx.account, ctx.region, variant["ModelName"]))
    if not (model.spec["request"].get("ExecutionRoleArn") or request.get("ExecutionRoleArn")):
        raise validation(
            f"Model '{model.key.name}' has no ExecutionRoleArn, and its containers run with that role's keys. Create "
            "it again with ExecutionRoleArn, or give ExecutionRoleArn here."
        )
