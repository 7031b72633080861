"""The table of SageMaker operations that Sagewright has."""

from __future__ import annotations

from sagewright.services.sagemaker import tags, training_jobs
from sagewright.services.service import Service


def service(secret: bytes) -> Service:
    """`secret` seals page tokens."""
    return Service("sagemaker", {**training_jobs.operations(secret), **tags.operations(secret)})
