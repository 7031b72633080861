"""The table of SageMaker operations that Sagewright has."""

from __future__ import annotations

from sagewright.services.sagemaker import endpoint_configs, endpoints, models, tags, training_jobs, transform_jobs
from sagewright.services.service import Operation, Service


def service(secret: bytes) -> Service:
    """`secret` seals page tokens."""
    table: dict[str, Operation] = {}
    for resource in (training_jobs, transform_jobs, models, endpoint_configs, endpoints, tags):
        table.update(resource.operations(secret))
    return Service("sagemaker", table)
