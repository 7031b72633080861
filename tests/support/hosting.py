"""Requests for models, configurations and endpoints, a bucket with an artifact, and a stand-in for the controller."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sagewright.core.clock import to_text
from sagewright.core.ids import DEFAULT_ACCOUNT, DEFAULT_REGION
from sagewright.store import object_rows
from sagewright.store.kinds import endpoint as kind
from sagewright.store.kinds.endpoint import EndpointSpec, EndpointStatus, Fleet, Instance, Plan
from sagewright.store.object_rows import ObjectRow
from sagewright.store.resources import Store, Tx

ROLE = "arn:aws:iam::000000000000:role/SageMakerRole"
ARTIFACT = "s3://bucket/m/model.tar.gz"


def add_artifact(store: Store, now: datetime, *keys: str) -> None:
    """The bucket `bucket` with the model archive, and `keys`."""

    def add(tx: Tx) -> None:
        object_rows.insert_bucket(
            tx, name="bucket", account=DEFAULT_ACCOUNT, region=DEFAULT_REGION, now=now, settings={}
        )
        bucket = object_rows.find_bucket(tx, "bucket")
        assert bucket is not None
        for number, key in enumerate(("m/model.tar.gz", *keys)):
            row = ObjectRow(key=key, content_id=f"c{number}", size=1, etag="e1", modified_at=now, attributes={})
            object_rows.put(tx, bucket, row, old=None)

    store.write(add)


def model(name: str = "model", **changes: Any) -> dict[str, Any]:
    """As SDK v2 sends it."""
    container = {"Image": "image:1", "Environment": {"A": "1"}, "ModelDataUrl": ARTIFACT}
    asked = {"ModelName": name, "ExecutionRoleArn": ROLE, "PrimaryContainer": container, "Tags": [], **changes}
    return {member: value for member, value in asked.items() if value is not None}


def variant(name: str = "AllTraffic", **changes: Any) -> dict[str, Any]:
    asked = {
        "VariantName": name,
        "ModelName": "model",
        "InitialInstanceCount": 1,
        "InstanceType": "ml.m5.large",
        "InitialVariantWeight": 1,
        **changes,
    }
    return {member: value for member, value in asked.items() if value is not None}


def config(name: str = "config", *variants: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {"EndpointConfigName": name, "ProductionVariants": list(variants) or [variant()], "Tags": [], **changes}


def fleet(spec: EndpointSpec, now: datetime, phase: str = kind.READY, plan: Plan | None = None) -> Fleet:
    """All of the plan's instances in one phase."""
    chosen = plan or spec.plan
    instances = tuple(
        Instance(f"{number:08x}", each.name, {}, {}, phase, to_text(now))
        for each in chosen.variants
        for number in range(each.count)
    )
    digests = {"image:1": "image@sha256:1"}
    return Fleet(f"r{spec.revision}-x", spec.revision, chosen, instances, to_text(now), digests=digests)


def serve(store: Store, name: str, now: datetime) -> None:
    """What the controller would write in the end: what was asked for serves."""

    def write(tx: Tx) -> None:
        row = tx.get(kind.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name))
        spec = EndpointSpec.from_row(row.spec)
        made = fleet(spec, now)
        status = EndpointStatus(
            fleets=(made,), serving=made.id, deployed_config=spec.config, handled=(spec.revision, spec.scale)
        )
        tx.update_status(row, status.to_row(), kind.IN_SERVICE, now=now, wake_at=None)

    store.write(write)


def set_status(store: Store, name: str, state: str, now: datetime, **changes: Any) -> None:
    def write(tx: Tx) -> None:
        row = tx.get(kind.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name))
        status = replace(EndpointStatus.from_row(row.status), **changes)
        tx.update_status(row, status.to_row(), state, now=now, wake_at=None)

    store.write(write)


def forget(store: Store, name: str) -> None:
    """What the controller does once everything of a deleted endpoint is gone."""
    store.write(lambda tx: tx.remove(tx.get(kind.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name))))


def spec_of(store: Store, name: str) -> EndpointSpec:
    row = store.read(lambda tx: tx.get(kind.key(DEFAULT_ACCOUNT, DEFAULT_REGION, name)))
    return EndpointSpec.from_row(row.spec)
